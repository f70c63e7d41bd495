"""experiments/tpu_check.py: what needs no compiler for TPUs, and with libtpu the smoke study compiled for a TPU v5e."""

import importlib.util
import pathlib
import subprocess
import sys

import jax
import pytest
import tiny
from jax.sharding import SingleDeviceSharding

import cspace_jax as cs
from cspace_jax.cli import scripts
from cspace_jax.config import config_files
from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory, operations
from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
tpu_check = config_files.load(ROOT / "experiments" / "tpu_check.py")
pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def smoke():
    return cs.load_config("guidance:smoke")  # it asks a battery


def here(what, cache_dir="", memory=1e9):
    return tpu_check.compile_for(SingleDeviceSharding(jax.devices()[0]), memory, what, cache_dir)


def refuse(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        scripts.exit_on_user_error(tpu_check.run, arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runs=-1",), "runs = (-1,): must be numbers of at least 1, or 0 for the planned wave"),
        (("--runs=",), "runs = (): must be"),
        (("--runs=one",), "must be int values"),
        (("--programs=training,probing",), "programs = 'probing': must be among training, sampling"),
        (("--topology=h100:1",), "topology = 'h100:1': must begin with v4, v5e"),
        (("--config=no_study:smoke",), "no_study"),
        (("--config=signal:huge",), "scale = 'huge'"),
        (("--run=1",), "command line: unrecognized arguments: --run=1"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    assert words in refuse(capsys, *arguments)


def test_without_libtpu_one_line_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "libtpu, the compiler for TPUs, is not installed: pip install -e '.[tpu]'" in refuse(capsys)


@pytest.mark.parametrize("name", tpu_check.PROGRAMS)
def test_programs_have_the_shapes_of_all_runs(smoke, name):
    what = tpu_check.program(smoke, name, 3)
    stacked, shared = what.arguments[: -2 if name == "training" else None], what.arguments[-2:]
    leaves = jax.tree.leaves(stacked[:-1] if name == "reading" else stacked)
    assert leaves and all(leaf.shape[0] == 3 for leaf in leaves)
    assert name != "training" or all(leaf.shape == () for leaf in shared)
    outline = memory.outline(smoke, Plan.resolve(smoke, "tpu"), tpu=True)
    predicted = memory.peak_bytes(outline, memory.Place("vmap", 1, False, 16e9), 3)
    assert what.predicted == (pytest.approx(predicted) if name == "training" else 0)
    steps = smoke.evaluate.sampling_steps
    counted = {
        "training": operations.step_flops(smoke),
        "sampling": operations.evaluation_flops(smoke) / steps,
        "reading": 0.0,
        "battery": operations.battery_flops(smoke) / steps,
    }
    assert what.operations == pytest.approx(3 * counted[name])


def test_zero_runs_are_a_chips_share_of_the_planned_wave(monkeypatch):
    def of_samples(config, plan, *_):  # 10 GB stay of a run, one is worked with for a sample
        return memory.Footprint(10e9, 10e9, 1e9 * (plan.microbatch or config.optim.batch_size))

    monkeypatch.setattr(memory, "outline", of_samples)
    config = tiny.study(optim={"batch_size": 64}, grid={"seeds": tuple(range(15))})  # 30 runs
    for gb, runs, microbatch in ((400.0, 4, 0), (200.0, 4, 32), (60.0, 2, 16)):  # one wave, one, two of 15
        monkeypatch.setitem(tpu_check.CHIP_GB, "v5e", gb)
        asked, share = tpu_check.planned(config, "v5e:2x2")
        assert (share, asked.engine.microbatch) == (runs, microbatch)
    monkeypatch.setitem(tpu_check.CHIP_GB, "v5e", 15.0)
    with pytest.raises(UserError, match=r"^runs = 0: no wave of tiny:smoke is predicted to fit 8 v5e$"):
        tpu_check.planned(config, "v5e:2x2")


def test_a_program_in_microbatches_says_so_in_its_row():
    config = tiny.study(network=tiny.NARROW, optim={"batch_size": 16}, engine={"microbatch": 8})
    what = tpu_check.program(config, "training", 2)
    row = tpu_check.table([tpu_check.Compiled(what, 1e6, 2e6, 0.0, 0.0, 1.0, True)]).splitlines()[-1]
    assert row.startswith("| training, 8 of 16 | 2 | ")


def test_what_the_compiler_says_becomes_a_row_and_is_kept(smoke, tmp_path):
    found = here(tpu_check.program(smoke, "reading", 2), str(tmp_path))
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text().replace('"seconds": ', '"seconds": 9'))
    assert here(found.program, str(tmp_path)) == found._replace(seconds=float(f"9{found.seconds}"))
    assert found.fits and found.arguments > 0 and found.temporaries > 0 and found.operations > 0
    assert not here(found.program, str(tmp_path), memory=1e3).fits
    head, rule, row = tpu_check.table([found._replace(seconds=7.2)]).splitlines()
    assert head.startswith("| program | runs | predicted, MB") and set(rule) == {"|", "-"}
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["reading", "2", "-"] and cells[-2:] == ["yes", "7"] and len(cells) == len(tpu_check.HEADER)
    small = tpu_check.Compiled(found.program._replace(predicted=2e6, operations=3e9), 1e6, 2e6, 1e6, 0.0, 1.0, False)
    assert "| 2.0 | 4.0 | 1.0 | 2.0 | 0.50 | - | 3 | no | 1 |" in tpu_check.table([small])


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, the compiler for TPUs, is not installed (extra tpu): nothing is compiled for one",
)
def test_smoke_training_compiles_for_a_tpu(tmp_path):
    line = [sys.executable, "-m", "experiments.tpu_check", "--config=signal:smoke", "--runs=1", "--programs=training"]
    line += [f"--out={tmp_path / 'table.md'}"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    (row,) = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert row in done.stdout and row.startswith("| training | 1 |") and "| yes |" in row
    assert "tpu_check: compiling training of 1 run(s)" in done.stderr
