"""Sampling in parts: as many images at once as memory allows, and the same samples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cspace_jax.config.plan import PLAIN
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation import losses, sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.training.run import TrainSpec, init_run

pytestmark = pytest.mark.network

CONFIG = tiny.study(network=tiny.NARROW, evaluate={"samples_per_class": 6, "sampling_steps": 2})


@pytest.fixture(scope="module")
def spec():
    return EvalSpec.from_config(CONFIG, TrainSpec.from_config(CONFIG, PLAIN), ProbeSpec.from_config(CONFIG))


def test_the_images_of_a_part_divide_all_of_them(spec):
    sizes = [dataclasses.replace(spec, at_once=most).microbatch_of(24) for most in (0, 1, 5, 7, 12, 23, 24, 100)]
    assert sizes == [24, 1, 4, 6, 12, 12, 24, 24]


def test_samples_in_parts_are_the_same(spec):
    setting = Setting()
    params = jax.jit(lambda: init_run(spec.train, setting))().evaluated
    whole, parts = (
        jax.jit(lambda one=one: sampling.draw(one, params, naive_prompts(one, setting)))()
        for one in (spec, dataclasses.replace(spec, at_once=4))
    )
    assert whole.shape[0] == 24
    np.testing.assert_allclose(parts, whole, atol=2e-5)


def test_what_is_read_and_lost_in_parts_is_the_same(spec):
    setting = Setting()
    params = jax.jit(lambda: init_run(spec.train, setting))().evaluated
    probe = tiny.probe_of(CONFIG).params
    z = jax.random.uniform(jax.random.key(0), (24, 8, 8, 3))
    split = dataclasses.replace(spec, split="validation")
    data = losses.loss_data(split, setting)

    def both(one):
        return read(one, params, z, probe), losses.loss_batch(one, params, setting, data, (), jnp.int32(0))

    parts = dataclasses.replace(split, at_once=2)
    assert (split.part_of(24), parts.part_of(24)) == (24, 2)
    traced = [str(jax.make_jaxpr(lambda one=one: both(one))()) for one in (split, parts)]
    assert "scan" in traced[1] and traced[0].count("scan") + 2 == traced[1].count("scan")
    whole, cut = (jax.jit(lambda one=one: both(one))() for one in (split, parts))
    tiny.assert_close(cut, whole, atol=2e-5, rtol=1e-5)
