"""Random streams of a run."""

import jax

from cspace_jax import rng


def data_key(seed: int = 0) -> jax.Array:
    return rng.stream(rng.run_key(seed), "data")
