"""What a step holds on a TPU."""

import jax
import jax.numpy as jnp

from cspace_jax.cost import on_tpu


def test_random_keys_are_two_words():
    key = jax.eval_shape(jax.random.key, 0)
    raw = jax.ShapeDtypeStruct((2,), jnp.uint32)
    assert 8 * on_tpu.run_bytes(key) == 8 * on_tpu.run_bytes(raw) == 1024
