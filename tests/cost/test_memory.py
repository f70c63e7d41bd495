"""Memory of training, predicted: run groups and devices, a TPU, and what a forecast says of it."""

import dataclasses

import pytest
import tiny
from commands import NARROW, assert_one_line, command, real_command, study

import cspace_jax as cs
from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory, operations, preview
from cspace_jax.cost.memory import Footprint, Place

# Commands are carried out, one in a process of its own.
pytestmark = pytest.mark.system
CONFIG = tiny.study(network=tiny.NARROW)
VMAP = Plan("xla", "vmap", 2)

# State 4, resident 5, working 10, fixed 3 bytes.
SIMPLE = Footprint(4.0, 5.0, 10.0, 3.0)


def place(layout, devices=1, shared=True, available=float("inf"), parts=1):
    return Place(layout, devices, shared, available, parts)


# Compiled with libtpu 0.0.52 for a v5e, 2026-11-26 and 2026-11-30 (docs/memory.md), bytes of a program's arguments,
# temporaries and results. Of few narrow runs much lies in the chip's fast memory, which is not counted.
@pytest.mark.parametrize(
    ("study", "runs", "microbatch", "compiled"),
    [
        ("signal:quick", 8, 0, 468.5e6),
        ("signal:quick", 16, 8, 722.9e6),
        ("signal:quick", 32, 0, 2075.7e6),
        ("signal:paper", 1, 0, 1051.1e6),
        ("signal:paper", 8, 0, 7452.8e6),
        ("signal:paper", 13, 0, 12057.6e6),
        ("signal:paper", 13, 32, 7533.2e6),
    ],
)
def test_the_outline_for_a_tpu_is_within_15_percent_of_its_compilers(study, runs, microbatch, compiled):
    plan = dataclasses.replace(Plan.resolve(cs.load_config(study), "tpu"), microbatch=microbatch)
    found = memory.outline(cs.load_config(study), plan, True)
    chip = Place("vmap", 1, False, 16e9, tpu=True)
    assert memory.peak_bytes(found, chip, runs) == pytest.approx(compiled, rel=0.15)


def test_a_forecast_here_takes_the_form_of_the_device(monkeypatch):
    config = cs.load_config("signal:paper")
    plan = Plan.resolve(config, "tpu")
    peaks = {}
    for tpu in (False, True):
        where = Place("vmap", 8, False, 16e9, tpu=tpu)
        monkeypatch.setattr(memory, "here", lambda *_, where=where: where)
        *_, peaks[tpu], largest = preview._memory_here(memory.outline, config, plan)
        assert ("all 100 runs" in largest) == tpu
    assert "does not fit" in peaks[False] and "peak 12 GB" in peaks[True]


def test_the_outline_of_other_devices_knows_no_tiles():
    config = cs.load_config("signal:paper")
    found = memory.outline(config, Plan.resolve(config, "gpu"))
    assert (found.state, found.resident, found.working) == (127_641_060, 127_917_862, 1_423_128_588)


def test_a_batch_that_is_cut_needs_less_but_holds_the_summed_gradients():
    config = tiny.study(optim={"batch_size": 16})
    needs = [memory.outline(config, dataclasses.replace(VMAP, microbatch=n)).working for n in (2, 4, 8, 0)]
    assert needs == sorted(needs)
    whole = memory.outline(tiny.study(optim={"batch_size": 8}), VMAP).working
    drawn = 8 * 3 * 4 * 3 * config.data.image_size**2  # image and two noises of the eight samples more
    assert needs[2] == pytest.approx(whole + drawn + 4 * operations.parameters(config), rel=1e-4)


@pytest.mark.parametrize(
    ("where", "runs", "expected"),
    [
        (place("loop"), 1, 5 + 13),
        (place("loop"), 3, 15 + 13),  # one program at a time
        (place("loop"), 30, 150 + 120),  # saving: a copy of all states
        (place("loop", 2), 2, 10 + 26),  # two programs at a time
        (place("loop", 2, parts=4), 1, 10 + 26),  # two devices share the run, each with all of it
        (place("vmap", 4, shared=False, parts=4), 2, 5 + 13 + 0),  # two runs, each in a place of two devices
        (place("loop", 2), 30, 150 + 120),  # the same on two devices, which share the memory
        (place("vmap"), 3, 15 + 33),
        (place("vmap", 2, shared=False), 5, 15 + 33),  # three runs on the first device
        (place("vmap", 8, shared=False), 8, 5 + 13),  # each saves its own run
    ],
)
def test_the_peak_counts_run_groups_and_devices(where, runs, expected):
    assert memory.peak_bytes(SIMPLE, where, runs) == expected


def test_the_largest_wave_just_fits():
    for available, most in [(17, 0), (18, 1), (48, 3), (62, 3), (63, 4)]:
        where = place("vmap", available=available)
        assert memory.largest_wave(SIMPLE, where) == most
        assert not memory.fits(SIMPLE, where, most + 1)


def test_the_machine_has_memory():
    found = memory.here(CONFIG, Plan.resolve(CONFIG, "cpu"))
    assert found.shared and 1e8 < found.available < 1e14


def test_mode_plan_needs_a_config():
    assert_one_line(command("--mode=plan"), "config is not given")


def test_mode_plan_says_what_a_study_takes_and_writes_nothing(tmp_path):
    done = real_command(
        study(), "--mode=plan", f"--workdir={tmp_path / 'w'}", "--config.engine.memory_gb=0.05", *NARROW
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("cspace_jax: mode plan, ") and lines[0].endswith("; loading JAX")
    assert lines[1:3] == ["study signal, scale smoke: 4 runs x 6 steps", "grid: sep_col (0.2, 0.8) x seeds (0, 100)"]
    for words in (
        "parameters: ",
        "GFLOP a run and step; training ",
        "execution: runs loop",
        "time on this device: ",
        "disk at most: ",
        "memory of a run in training (from shapes; --compile asks the compiler): ",
    ):
        assert any(words in line for line in lines), (words, lines)
    peaks = [line.split("at once: peak")[0].split()[0] for line in lines if "at once: peak" in line]
    assert peaks == ["1", "2", "4"]
    assert any(line.startswith("largest wave that fits 50 MB of the machine: ") for line in lines), lines
    for name in ("H100 80 GB", "A100 80 GB", "TPU v5e-8", "TPU v5p-8"):
        assert any(name in line and "training " in line and "; 4 runs in one wave" in line for line in lines), name
    assert "plan: compiling" not in done.err and "plan: " not in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_mode_plan_asks_the_compiler_if_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "analyse", lambda config, plan: asked.append(plan.runs) or SIMPLE)
    done = command(study(), "--mode=plan", "--compile", *NARROW)
    assert done.code == 0 and asked == ["loop", "vmap"], done.err
    assert "memory of a run in training (as compiled here): 0.005 kB stay" in done.out and "plan: compiling" in done.err
