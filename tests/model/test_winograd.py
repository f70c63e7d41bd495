"""Winograd's convolution against an oracle, and how it rounds."""

import jax
import numpy as np
import pytest
from convolutions import check_convolution, correlate

from cspace_jax.model.convolution import METHODS, conv_3x3

pytestmark = pytest.mark.network


# Images one by one, kernel gradients summed block by block; then several images a block; then a kernel gradient that is
# too large to be summed; then heights that are odd, where "winograd" is "canonical".
@pytest.mark.parametrize(
    ("shape", "channels"), [((3, 8, 6), (64, 64)), ((8, 2, 4), (64, 64)), ((2, 4, 6), (80, 96)), ((1, 3, 4), (64, 64))]
)
def test_winograd_and_its_gradients_equal_the_oracle(shape, channels):
    check_convolution("3x3", "winograd", channels, shape, scale=channels[0] ** -0.5)


def test_winograd_rounds_like_an_ordinary_convolution():
    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = jax.random.normal(keys[0], (2, 16, 16, 64)), jax.random.normal(keys[1], (3, 3, 64, 64)) / 24
    exact = correlate(np.asarray(x, np.float64), np.asarray(kernel, np.float64), "same")
    errors = {m: np.abs(conv_3x3(x, kernel, m) - exact).max() / np.abs(exact).max() for m in METHODS}
    assert errors["winograd"] < 2e-6 and errors["xla"] < 2e-6, errors
