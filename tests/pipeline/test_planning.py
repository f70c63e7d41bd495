"""How a study that was begun is planned: as it began, and the first line says so."""

import dataclasses

import pytest
import tiny
from etils import epath

from cspace_jax.config.plan import Plan
from cspace_jax.cost import autotune
from cspace_jax.cost.time import describe_plan
from cspace_jax.errors import UserError
from cspace_jax.pipeline import planning, waves
from cspace_jax.storage import checked_json
from cspace_jax.storage.workdir import Workdir

CONFIG = tiny.study(network=tiny.NARROW, optim={"batch_size": 32}, engine={"wave": 2}, data={"images_per_class": 64})
AUTO = tiny.changed(CONFIG, engine={"plan": "auto"})


@pytest.fixture
def workdir(tmp_path):
    return Workdir(epath.Path(tmp_path))


@pytest.fixture
def accelerator(monkeypatch):
    """Runs are stacked, and no cache decides how many images go at once."""
    known = Plan.resolve

    def resolve(config, backend):
        return known(config, "gpu")

    monkeypatch.setattr(Plan, "resolve", resolve)


@pytest.mark.parametrize("finished", [False, True])
def test_the_first_line_says_the_microbatch_that_the_waves_began_with(finished, accelerator, workdir, monkeypatch):
    study = tiny.in_workdir(workdir, CONFIG)
    for wave in study.waves:
        wave.keep_plan(CONFIG, dataclasses.replace(study.plan, microbatch=8))
    monkeypatch.setattr(waves.Wave, "is_trained", lambda *_: finished)
    again = dataclasses.replace(study, plan=planning.resolve(CONFIG, workdir, trains=True))
    assert "gradients of 8 of 32 images at once" in describe_plan(CONFIG, again.plan)
    cut = dataclasses.replace(study, config=tiny.changed(CONFIG, engine={"microbatch": 8}))
    cut = dataclasses.replace(cut, plan=Plan.resolve(cut.config, "gpu"))
    assert planning.describe(again) == planning.describe(study) == planning.describe(cut)
    study.waves[0].microbatch_file.unlink()
    study.waves[1].microbatch_file.unlink()
    assert planning.describe(study) != planning.describe(cut)  # the whole batch takes more


def test_a_study_goes_on_with_the_plan_that_was_measured_when_it_began(workdir, monkeypatch):
    """What was measured lies in the user's cache alone, which another machine of the kind does not have."""
    measured = autotune.with_plan(AUTO, {"convolution": "canonical", "runs": "unroll", "devices": 1})
    first = Plan.resolve(measured, "cpu")
    monkeypatch.setattr(autotune, "resolve", lambda config, may_measure: first)
    assert planning.resolve(AUTO, workdir, trains=True) == dataclasses.replace(first, wave=2)
    for wave in waves.load(workdir, AUTO):
        wave.keep_plan(AUTO, first)
    monkeypatch.setattr(autotune, "resolve", lambda *_, **__: pytest.fail("measured again"))
    again = planning.resolve(AUTO, workdir, trains=True)
    assert again == dataclasses.replace(first, wave=2)
    other = Plan.resolve(CONFIG, "cpu")
    wave = waves.load(workdir, AUTO)[0]
    assert wave.plan_of(AUTO, other) == first != other
    assert wave.plan_of(CONFIG, other) == other  # the user wants the known plan
    own = tiny.changed(AUTO, engine={"convolution": "winograd"})
    assert wave.plan_of(own, other).convolution == "winograd" and wave.plan_of(own, other).runs == "unroll"


def test_a_plan_of_other_devices_is_not_taken_and_a_damaged_one_is_said(workdir):
    wave = waves.load(workdir, AUTO)[0]
    plan = Plan.resolve(AUTO, "cpu")
    wave.keep_plan(AUTO, dataclasses.replace(plan, convolution="canonical"))
    assert wave.plan_of(AUTO, plan).convolution == "canonical"
    wave.keep_plan(AUTO, plan, begins=False)  # it goes on: what it began with stays
    assert wave.plan_of(AUTO, plan).convolution == "canonical"
    record = wave.plan_file.read_text()
    wave.plan_file.write_text(record.replace('"canonical"', '"winograd"'))
    with pytest.raises(UserError, match=r"plan.json' is damaged"):
        wave.plan_of(AUTO, plan)
    wave.plan_file.write_text(record)
    checked_json.write(wave.plan_file, {**checked_json.read(wave.plan_file), "devices": ["NVIDIA H100", 1]})
    assert wave.plan_of(AUTO, plan) == plan
    wave.plan_file.write_text("[16")
    with pytest.raises(UserError, match=r"plan.json' is damaged: .* or set engine.plan=known"):
        wave.plan_of(AUTO, plan)
