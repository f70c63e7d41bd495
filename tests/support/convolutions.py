"""Convolutions, and oracles of them in NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import signal

from cspace_jax.model.convolution import conv_2x2_down, conv_2x2_up, conv_3x3


def correlate(x, kernel, mode):
    """Slide a kernel over [b, h, w, ci] with SciPy, in float64: the convolution of neural networks."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    pairs = [[signal.correlate2d(x[b, :, :, i], kernel[:, :, i, o], mode) for o in range(kernel.shape[3])]
             for b in range(len(x)) for i in range(x.shape[3])]  # fmt: skip
    stacked = np.array(pairs).reshape(len(x), x.shape[3], kernel.shape[3], *pairs[0][0].shape)
    return np.moveaxis(stacked.sum(1), 1, -1)


def oracle_up(x, kernel):
    x = np.asarray(x, np.float64)
    images = [sum(np.kron(image[:, :, i, None], kernel[:, :, i]) for i in range(x.shape[-1])) for image in x]
    return np.stack(images)


CONVOLUTIONS = {
    "3x3": (conv_3x3, (3, 3), lambda x, k: correlate(x, k, "same")),
    "down": (conv_2x2_down, (2, 2), lambda x, k: correlate(x, k, "valid")[:, ::2, ::2]),
    "up": (conv_2x2_up, (2, 2), oracle_up),
}


def check_convolution(kind, method, channels, shape=(2, 4, 6), scale=1.0):
    op, size, oracle = CONVOLUTIONS[kind]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(*shape, channels[0])).astype(np.float32)
    kernel = scale * rng.normal(size=(*size, *channels)).astype(np.float32)
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    out, pull = jax.vjp(lambda x, k: op(x, k, method), x, kernel)
    np.testing.assert_allclose(out, oracle(x, kernel), atol=2e-5)
    g = rng.normal(size=out.shape).astype(np.float32)
    dx, dkernel = pull(jnp.asarray(g))
    # The operation is linear in each argument, so the oracle alone gives every directional derivative exactly.
    for _ in range(4):
        v, w = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
        np.testing.assert_allclose((dx * v).sum(), (g * oracle(v, kernel)).sum(), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose((dkernel * w).sum(), (g * oracle(x, w)).sum(), rtol=1e-4, atol=1e-3)
