"""Convolutions equal an oracle, and those of many runs at once leave the runs apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from convolutions import CONVOLUTIONS, check_convolution
from grids import row

from cspace_jax.model.convolution import METHODS, conv_1x1, conv_2x2_down, conv_2x2_up, conv_3x3


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.network
def test_convolutions_and_their_gradients_equal_the_oracle(kind, method):
    check_convolution(kind, method, (3, 5))


# Each of the ways in which a kernel's gradient slides one over the other, and gathered patches on either side.
@pytest.mark.parametrize("channels", [(5, 3), (18, 16), (16, 18), (16, 16), (2, 2)])
@pytest.mark.network
def test_canonical_gradients_equal_the_oracle_at_every_width(channels):
    check_convolution("3x3", "canonical", channels)


@pytest.mark.network
def test_1x1_convolution_mixes_channels():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(1, 1, 5, 2))
    ours = conv_1x1(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(ours, np.einsum("bhwi,io->bhwo", x, kernel[0, 0]), atol=1e-5)
