"""Random streams of a run: their numbers never change, and none is that of another."""

import jax
import numpy as np
import pytest

from cspace_jax import rng


def test_numbers_of_streams_are_appended_and_never_changed():
    known = ("data", "init", "train", "eval", "probe", "signal", "mask", "augment")
    assert [rng.STREAMS[name] for name in known] == list(range(8))
    assert sorted(rng.STREAMS.values()) == list(range(len(rng.STREAMS)))


def test_streams_of_all_names_and_seeds_are_apart():
    keys = {
        tuple(np.asarray(jax.random.key_data(rng.stream(rng.run_key(seed), name))).tolist())
        for seed in (0, 1, 2**32 - 1)
        for name in rng.STREAMS
    }
    assert len(keys) == 3 * len(rng.STREAMS)


def test_runs_that_are_drawn_together_are_those_drawn_alone():
    """Not so with the generator `rbg`, whatever the default is."""
    with jax.default_prng_impl("rbg"):
        seeds = np.array([3, 7], np.uint32)
        together = jax.vmap(lambda seed: rng.normal(rng.run_key(seed), (2, 3)))(seeds)
        alone = [rng.normal(rng.run_key(int(seed)), (2, 3)) for seed in seeds]
    np.testing.assert_array_equal(together, np.stack(alone))
    assert not np.array_equal(*alone)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_flat_draws_are_those_of_jax(shape):
    key = rng.run_key(1)
    np.testing.assert_array_equal(rng.normal(key, shape), jax.random.normal(key, shape))
