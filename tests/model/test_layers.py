"""Layers against NumPy oracles: group normalisation, its gradients, dropout."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.model.layers import drop_out, group_norm

pytestmark = pytest.mark.network


def oracle_group_norm(x, scale, bias, groups, eps):
    x = np.asarray(x, np.float64)
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    return ((grouped - mean) / np.sqrt(var + eps)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize(
    ("level", "spread", "tolerance"),
    [(0.0, 1.0, 2e-6), (300.0, 1.0, 2e-4), (3000.0, 0.3, 6e-3), (0.0, 1e-4, 1e-5)],
)
@pytest.mark.parametrize("shape", [(3, 5, 4, 12), (3, 12)])
def test_group_norm_equals_the_float64_oracle(level, spread, tolerance, shape):
    rng = np.random.default_rng(0)
    x = (level * (1 + 0.01 * np.arange(12)) + spread * rng.normal(size=shape)).astype(np.float32)
    scale, bias = rng.normal(size=(2, 12)).astype(np.float32)
    added = rng.normal(size=(3, 12)).astype(np.float32)
    ours = jax.jit(group_norm, static_argnums=(4, 5))(x, added, scale, bias, 3, 1e-6)
    expected = oracle_group_norm(everywhere(x, added), scale, bias, 3, 1e-6)
    np.testing.assert_allclose(ours, expected, atol=tolerance * np.abs(expected).max())


def everywhere(x, added):
    """Add [b, c] to every pixel of x [b, ..., c], in float64."""
    return np.float64(x) + np.float64(added).reshape(len(x), *[1] * (x.ndim - 2), -1)


@pytest.mark.parametrize("shape", [(3, 5, 4, 12), (3, 12)])
@pytest.mark.parametrize("argument", range(4))
def test_gradients_of_group_norm_equal_the_oracles_differences(argument, shape):
    rng = np.random.default_rng(argument)
    sizes = (shape, (3, 12), (12,), (12,))
    point = [level + rng.normal(size=size).astype(np.float32) for level, size in zip((2, 0, 1, 0), sizes, strict=True)]
    out, pull = jax.vjp(lambda *a: group_norm(*a, 3, 1e-6), *map(jnp.asarray, point))
    g = rng.normal(size=out.shape)
    gradient = np.float64(pull(jnp.asarray(g, jnp.float32))[argument])

    def value(moved):
        x, added, scale, bias = [*map(np.float64, point[:argument]), moved, *map(np.float64, point[argument + 1 :])]
        return (g * oracle_group_norm(everywhere(x, added), scale, bias, 3, 1e-6)).sum()

    for _ in range(4):
        way = rng.normal(size=sizes[argument])
        slope = (value(point[argument] + 1e-5 * way) - value(point[argument] - 1e-5 * way)) / 2e-5
        np.testing.assert_allclose((gradient * way).sum(), slope, rtol=2e-4, atol=2e-4)


def test_group_norm_has_no_cancellation_where_one_pass_variance_fails():
    rng = np.random.default_rng(0)
    x = (3000 + 0.3 * rng.normal(size=(2, 16, 16, 4))).astype(np.float32)
    ours = group_norm(jnp.asarray(x), jnp.zeros((2, 4)), jnp.ones(4), jnp.zeros(4), 1, 1e-6)
    np.testing.assert_allclose(np.std(ours), 1.0, rtol=1e-3)


def test_dropout_keeps_the_mean_and_its_rate():
    x = jnp.ones((4, 50, 50, 2))
    out = np.asarray(drop_out(jax.random.split(jax.random.key(0), len(x)), x, 0.2))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1.25)}
    assert abs((out == 0).mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / x.size)
