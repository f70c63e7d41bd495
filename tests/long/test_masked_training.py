"""Trainings with masked conditionings: a fraction of zero changes no bit, others do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cspace_jax.config import grid
from cspace_jax.data import masking
from cspace_jax.training.run import TrainSpec, init_run, make_data, train_chunk

pytestmark = pytest.mark.network  # annotations are checked, too


def config(**groups):
    data = {"active": ("shape", "color")} | groups.pop("data", {})
    return tiny.study(data=data, grid={"sep_col": (0.8,), **groups.pop("grid", {})}, **groups)


def trained(masks, **data):
    """Parameters [r, ...] after eight steps of runs that differ in the masked fraction alone, in one program."""
    study = config(data=data, network=tiny.NARROW)
    spec = TrainSpec.from_config(study)
    settings = grid.stack([grid.grid_settings(study.grid)[0] | {"mask": alpha} for alpha in masks])

    def one(state, setting):
        return train_chunk(spec, state, setting, make_data(spec, setting), (), jnp.int32(0), jnp.int32(8))[0].params

    start = jax.jit(jax.vmap(functools.partial(init_run, spec)))
    return jax.jit(jax.vmap(one))(start(settings), settings)


@pytest.fixture(scope="module")
def swept():
    return trained((0.0, 0.5, 1.0))


def run_of(params, run):
    return jax.tree.map(lambda leaf: leaf[run], params)


def test_a_fraction_of_zero_is_the_unmasked_study_bit_for_bit(swept, monkeypatch):
    """Among runs that are masked; the other side is the training step with masking taken out."""
    monkeypatch.setattr(masking, "mark", lambda data, fraction, dataset, key: dataset)
    monkeypatch.setattr(masking, "fill", lambda data, params, null_value, conditioning, masked: conditioning)
    tiny.assert_same_bits(run_of(swept, 0), run_of(trained((0.0, 0.0, 0.0)), 0))


def test_masking_changes_training(swept):
    for first, second in ((0, 1), (1, 2)):
        one, other = (jax.tree.leaves(run_of(swept, run)) for run in (first, second))
        assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(one, other, strict=True))


def test_a_learned_token_leaves_unmasked_runs_alone(swept):
    params = trained((0.0, 0.5, 1.0), mask_mode="token", mask_images="batch")
    assert masking.TOKEN not in swept
    token = params.pop(masking.TOKEN)
    tiny.assert_same_bits(run_of(params, 0), run_of(swept, 0))
    assert token.shape == (3, 3) and not token[0].any() and token[2].all()  # learned where something is masked
