"""Convolutions of many runs at once leave the runs apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from grids import row

from cspace_jax.model.convolution import METHODS, conv_2x2_down, conv_2x2_up, conv_3x3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("convolve", "size"), [(conv_3x3, 3), (conv_2x2_down, 2), (conv_2x2_up, 2)])
def test_a_convolution_that_is_nan_leaves_those_of_other_runs_unchanged(convolve, size, method):
    """Runs at once are one batched convolution, in which a zero times a NaN would reach the neighbours."""
    noise = np.random.default_rng(0)
    x, kernel = noise.normal(size=(3, 2, 4, 4, 4)), noise.normal(size=(3, size, size, 4, 4))

    @jax.jit
    @jax.vmap
    def both(x, kernel):
        out, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, method), x, kernel)
        return out, pull(out)

    clean = both(jnp.float32(x), jnp.float32(kernel))
    x[1], kernel[1] = np.nan, np.nan
    poisoned = both(jnp.float32(x), jnp.float32(kernel))
    assert all(np.isnan(leaf[1]).all() for leaf in jax.tree.leaves(poisoned))
    for r in (0, 2):
        tiny.assert_same_bits(row(poisoned, r), row(clean, r))
