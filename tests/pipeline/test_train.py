"""Training of waves: folders, the log, and what happens where memory does not suffice."""

import contextlib
import dataclasses

import jax
import pytest
import tiny
from kills import Killed, killed_at
from tiny import logged

from cspace_jax.config.plan import Plan
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.pipeline import planning
from cspace_jax.pipeline import train as training
from cspace_jax.pipeline.train import train

CONFIG = tiny.study(network=tiny.NARROW, diffusion={"schedule": "fixed_linear"}, optim={"clip": 1.0})


@pytest.mark.parametrize(("enough", "tried"), [(16, [0, 16]), (8, [0, 16, 8]), (4, [0, 16, 8])])
def test_training_out_of_memory_goes_on_with_smaller_microbatches(enough, tried, monkeypatch, workdir, capsys):
    config, seen = tiny.changed(CONFIG, optim={"batch_size": 32}), []

    def train_wave(study, wave, probe):
        seen.append(study.plan.microbatch)
        if (study.plan.microbatch or 32) > enough:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")

    monkeypatch.setattr(training, "_train_wave", train_wave)
    study = dataclasses.replace(tiny.in_workdir(workdir, config), plan=Plan("xla", "vmap"))
    with contextlib.nullcontext() if enough >= 8 else pytest.raises(UserError, match="does not suffice for 4 runs at"):
        train(study)
    assert seen == tried and study.waves[0].microbatch == tried[-1]
    assert "out of memory: training goes on with gradients of 16 images at once" in capsys.readouterr().out


def test_a_wave_goes_on_with_the_microbatch_that_memory_decided_when_it_began(monkeypatch, workdir):
    """Fewer runs may be left when a study goes on, for which a larger one would fit: it would round otherwise."""
    config = tiny.changed(CONFIG, optim={"batch_size": 32}, engine={"wave": 2})
    own = tiny.changed(config, engine={"microbatch": 8})

    def resolve(config, **_):
        return Plan("xla", "vmap", microbatch=config.engine.microbatch)

    monkeypatch.setattr(planning.autotune, "resolve", resolve)
    study = dataclasses.replace(tiny.in_workdir(workdir, config), plan=Plan("xla", "vmap", microbatch=16))
    first, second = study.waves
    first.keep_plan(config, study.plan)
    second.keep_plan(config, dataclasses.replace(study.plan, microbatch=0))
    other = dataclasses.replace(study.plan, microbatch=8)
    assert [wave.plan_of(config, other).microbatch for wave in study.waves] == [16, 0]
    assert [wave.plan_of(own, other).microbatch for wave in study.waves] == [8, 8]  # the user's own
    assert study.engine(first).spec.microbatch_size == 16 and study.engine(second).spec.microbatch_size == 32
    assert planning.resolve(config, workdir, trains=True).wave == 2
    first.microbatch_file.write_text("[16")
    with pytest.raises(UserError, match="microbatch.json' is damaged"):
        planning.resolve(config, workdir, trains=True)


def test_the_microbatch_is_kept_before_the_first_step(monkeypatch, workdir):
    study = dataclasses.replace(tiny.in_workdir(workdir, CONFIG), plan=Plan("xla", "vmap"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Engine, "train", 0)
        train(study)
    assert study.waves[0].microbatch == 0


def test_other_errors_of_a_program_are_not_taken_for_memory(monkeypatch, workdir):
    def train_wave(study, wave, probe):
        raise jax.errors.JaxRuntimeError("INTERNAL: other")

    monkeypatch.setattr(training, "_train_wave", train_wave)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        train(tiny.in_workdir(workdir, CONFIG))


@pytest.mark.system
def test_steps_after_the_last_save_are_trained_once(monkeypatch, workdir):
    study = tiny.in_workdir(workdir, tiny.changed(CONFIG, save={"steps": (2,)}))
    train(study)
    assert {step for _, step in logged(workdir)} == {2, 4, 6}
    monkeypatch.setattr(Engine, "train", None)
    train(study)
