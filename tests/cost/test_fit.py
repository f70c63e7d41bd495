"""Runs at once and their microbatches: the largest wave, then the largest microbatch, that is predicted to fit."""

import dataclasses

import jax
import pytest
import tiny
from commands import NARROW, assert_one_line, command, study

import cspace_jax as cs
from cspace_jax.config.plan import Plan
from cspace_jax.cost import fit, memory
from cspace_jax.cost.memory import Footprint, Place
from cspace_jax.errors import UserError

CONFIG = tiny.study(network=tiny.NARROW, optim={"batch_size": 64}, grid={"seeds": tuple(range(5))})  # ten runs
GPU = Plan("xla", "vmap", 50)


def of_samples(config, plan, tpu=False):
    """A run that keeps 10 bytes, and works with one byte a sample of its microbatch."""
    samples = plan.microbatch or config.engine.microbatch or config.optim.batch_size
    return Footprint(10.0, 10.0, float(samples))


@pytest.fixture
def device(monkeypatch):
    """Pretend a device with some bytes of memory; what was compiled."""

    compiled = []

    def of_size(size, chips=1):
        monkeypatch.setattr(memory, "outline", of_samples)
        monkeypatch.setattr(memory, "analyse", lambda *asked: compiled.append(asked) or of_samples(*asked))
        monkeypatch.setattr(memory, "here", lambda *_: Place("vmap", chips, False, fit.MARGIN * size))
        return compiled

    return of_size


def chosen(runs=10, wave=0, plan=GPU, config=CONFIG):
    found = fit.choose(config, plan, runs, wave)
    return found and (found.wave, found.microbatch)


@pytest.mark.parametrize(
    ("size", "chips", "expected"),
    [
        (740, 1, (0, 0)),  # all ten with the whole batch: 10 x (10 + 64)
        (739, 1, (0, 32)),
        (260, 1, (0, 16)),
        (180, 1, (0, 8)),
        (179, 1, (5, 16)),  # nine at a time with 8 samples: two waves of five, and those with 16
        (129, 1, (5, 8)),
        (18, 1, (1, 8)),
        (17, 1, None),
        (148, 5, (0, 0)),  # five chips hold two each
        (147, 5, (0, 32)),
    ],
)
def test_microbatches_come_before_waves(device, size, chips, expected):
    device(size, chips)
    assert chosen() == expected


def test_what_the_user_sets_stays(device):
    device(180)
    assert chosen(wave=3) == (3, 32)
    assert chosen(wave=50) == (50, 8)  # of a wave larger than the grid only the grid counts
    given = tiny.changed(CONFIG, engine={"microbatch": 32})
    assert chosen(plan=dataclasses.replace(GPU, microbatch=32), config=given) == (4, 32)
    assert chosen(wave=11, runs=11) is None
    cached = dataclasses.replace(GPU, cache_bytes=1)  # a CPU's microbatch is that of its cache
    assert fit.candidates(CONFIG, cached) == [cached]


def test_microbatches_divide_the_batch_and_hold_eight_samples():
    def sizes(batch):
        return [one.microbatch for one in fit.candidates(tiny.changed(CONFIG, optim={"batch_size": batch}), GPU)]

    assert sizes(64) == [0, 32, 16, 8]
    assert sizes(60) == [0, 30, 20, 15, 12, 10]
    assert sizes(7) == [0]


def test_the_next_smaller_microbatch_is_taken_until_there_is_none():
    taken, plan = [], GPU
    while plan is not None:
        taken.append(plan.microbatch)
        plan = fit.smaller(CONFIG, plan)
    assert taken == [0, 32, 16, 8]
    assert fit.smaller(tiny.changed(CONFIG, engine={"microbatch": 32}), GPU) is None


@pytest.mark.parametrize(
    ("size", "engine", "wave", "words"),
    [
        (100, {"wave": 10}, 10, r"^engine.wave = 10: 10 runs at once are predicted .* a device .*; --config.engine.wa"),
        (185, {"wave": 8, "microbatch": 64}, 8, r"engine.wave=2 or --config.engine.microbatch=8 fits$"),
        (30, {"microbatch": 64}, 0, r"^engine.wave = 0: 1 run at once is .*; --config.engine.microbatch=16 fits$"),
        (10, {}, 0, r"^even one run is predicted .* reduce optim.batch_size, data.image_size, network.channels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_does(device, size, engine, wave, words):
    compiled = device(size)
    config = tiny.changed(CONFIG, engine=engine)
    with pytest.raises(UserError, match=words):
        fit.require(config, dataclasses.replace(GPU, microbatch=config.engine.microbatch), 10, wave)
    assert not compiled


def test_the_wave_that_a_refusal_names_fits(device):
    device(100)
    with pytest.raises(UserError) as refusal:
        fit.require(CONFIG, GPU, 10, 10)
    named = int(str(refusal.value).split("--config.engine.wave=")[1].split()[0])
    assert fit.require(CONFIG, GPU, 10, named).microbatch == 8


def test_a_tpu_is_planned_by_the_form_of_its_own_compiler():
    config = cs.load_config("signal:paper")
    plan, chip = Plan.resolve(config, "tpu"), Place("vmap", 8, False, 16e9, tpu=True)
    assert fit.choose(config, plan, 100, place_of=lambda _: chip) == plan  # one wave, whole batches
    other = fit.choose(config, plan, 100, place_of=lambda _: dataclasses.replace(chip, tpu=False))
    assert other == dataclasses.replace(plan, microbatch=32)


def test_what_does_not_fit_a_tpu_is_refused_with_what_does(monkeypatch):
    def twice_on_a_tpu(config, plan, tpu=False):
        return Footprint(10.0, 10.0, (1 + tpu) * of_samples(config, plan).working)

    monkeypatch.setattr(memory, "outline", twice_on_a_tpu)
    monkeypatch.setattr(memory, "here", lambda *_: Place("vmap", 1, False, fit.MARGIN * 185, tpu=True))
    given = tiny.changed(CONFIG, engine={"wave": 8, "microbatch": 64})
    with pytest.raises(UserError, match=r"^engine.wave = 8: 8 runs .*; --config.engine.wave=1 fits$"):
        fit.require(given, dataclasses.replace(GPU, microbatch=64), 10, 8)
    assert fit.require(tiny.changed(CONFIG, engine={"wave": 1}), GPU, 10, 1).microbatch == 0


def test_a_workdir_that_does_not_fit_is_not_told_to_change_its_waves(device):
    device(100)
    with pytest.raises(
        UserError, match=r"^waves of workdir w: 10 runs at once .*; a device with more memory or another"
    ):
        fit.require(CONFIG, GPU, 10, 10, "waves of workdir w")


def test_the_compiler_is_asked_where_a_prediction_leaves_doubt(device):
    compiled = device(175)  # too little with the margin, enough without
    assert fit.require(CONFIG, GPU, 10, 10) == dataclasses.replace(GPU, wave=10, microbatch=8)
    assert [plan.microbatch for _, plan in compiled] == [8]


def test_the_choice_is_said_in_words(device):
    device(1000)
    assert fit.describe(CONFIG, [(GPU, 10)]).startswith("10 runs in one wave (0.74 kB of ")
    assert fit.describe(CONFIG, [(GPU, 4), (GPU, 4), (GPU, 2)]).startswith(
        "10 runs in 3 waves of at most 4 (0.296 kB of "
    )


def test_only_memory_used_up_is_out_of_memory():
    assert fit.out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"))
    assert not fit.out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: other"))
    assert not fit.out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_too_little_memory_is_one_line_and_leaves_no_workdir(tmp_path):
    folder = f"--workdir={tmp_path / 'w'}"
    assert_one_line(
        command(study(), folder, "--config.engine.memory_gb=0.0005", *NARROW), "even one run is predicted to need"
    )
    assert_one_line(command(study(), folder, "--config.engine.memory_gb=-1.0"), "engine.memory_gb = -1.0: must be at")
    assert not (tmp_path / "w").exists()
