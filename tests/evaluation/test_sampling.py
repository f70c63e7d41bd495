"""Sampling in parts: as many images at once as memory allows, and the same samples."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from cspace_jax.config.plan import PLAIN
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.training.run import TrainSpec, init_run

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
