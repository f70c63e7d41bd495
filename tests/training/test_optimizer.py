"""The median of the clipped gradient's entries against NumPy's, and where a training measures it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cspace_jax.config.schema import OptimConfig
from cspace_jax.training import optimizer
from cspace_jax.training.run import TrainSpec

pytestmark = pytest.mark.network

GRADIENTS = {
    "odd": np.array([3.0, -1.0, 2.0]),
    "even": np.array([3.0, -1.0, 2.0, -8.0]),
    "ties in the middle": np.array([1.0, -2.0, 2.0, 2.0, 5.0, 0.0]),
    "zeros": np.zeros(6),
    "more than half zero": np.array([0.0, 0.0, 0.0, 1.0, -1.0]),
    "one": np.array([-7.0]),
    "many sizes": np.random.default_rng(0).standard_normal(1000)
    * 10.0 ** np.random.default_rng(1).integers(-8, 3, 1000),
}


def clipped(gradient, clip):
    return gradient * min(1.0, clip / (np.linalg.norm(gradient) + 1e-6))


def medians(optim, gradients):
    """The medians of a sequence of gradients [n], each cut into two arrays and given to the optimiser."""

    def trees(gradient):
        return {"a": jnp.asarray(gradient[:1], jnp.float32), "b": jnp.asarray(gradient[1:], jnp.float32)}

    update = optimizer.make_optimizer(optim, 1e-3, 0.01)
    params = trees(np.ones_like(gradients[0]))
    state = update.init(params)
    for gradient in gradients:
        _, after = update.update(trees(gradient), state, params)
        yield float(optimizer.clipped_median(optim, *map(optimizer.median_entries, (state, after))))
        state = after


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_the_median_is_numpys(name, clip):
    # Without a mean over steps nothing is rounded on the way, so that only the clip is.
    (found,) = medians(OptimConfig(b1=0.0, clip=clip), [np.float32(GRADIENTS[name])])
    expected = np.median(np.abs(clipped(np.float32(GRADIENTS[name]), clip)))
    np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_the_median_is_that_of_the_last_gradient_whatever_came_before():
    sizes = (1.0, 1e-3, 30.0, 1.0)  # clipped and not
    gradients = [np.random.default_rng(i).standard_normal(500) * size for i, size in enumerate(sizes)]
    found = list(medians(OptimConfig(clip=1.0), gradients))
    expected = [np.median(np.abs(clipped(gradient, 1.0))) for gradient in gradients]
    # What the mean of AdamW still holds of a gradient of length 1 rounds to 6e-9.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_a_training_measures_it_at_logged_steps_only():
    config = tiny.study(network=tiny.NARROW, optim={"log_every": 2, "steps": 5})
    spec = TrainSpec.from_config(config)
    setting = jax.tree.map(lambda leaf: leaf[0], tiny.settings(config))
    data, state = spec.make_data(setting), jax.jit(spec.init)(setting)
    chunk = jax.jit(spec.chunk, compiler_options=tiny.COMPILE_FAST)
    for step in range(5):
        before = state
        state, metrics = chunk(before, setting, data, spec.pool, jnp.int32(step), jnp.int32(1))
        if step + 1 not in (2, 4, 5):
            assert np.isnan(metrics.grad_median)
            continue
        old, new = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s.opt_state[1].mu)], dtype=np.float64)
                    for s in (before, state))  # fmt: skip
        gradient = (new - 0.9 * old) / 0.1
        np.testing.assert_allclose(np.linalg.norm(gradient), 0.01, rtol=1e-4)  # it is the clipped one
        stride = len(gradient) // optimizer.MEDIAN_ENTRIES + 1 | 1
        assert stride > 5
        np.testing.assert_allclose(metrics.grad_median, np.median(np.abs(gradient[::stride])), rtol=1e-4)


def test_some_entries_stand_for_all():
    gradient = np.random.default_rng(0).standard_normal(10 * optimizer.MEDIAN_ENTRIES) ** 3
    (found,) = medians(OptimConfig(), [gradient])
    low, high = np.quantile(np.abs(clipped(gradient, 0.01)), [0.5 - 0.02, 0.5 + 0.02])
    assert low < found < high


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_adamw_with_decay_equals_the_numpy_oracle(decay):
    config = OptimConfig(steps=8, decay=decay, clip=0.5)
    rng_ = np.random.default_rng(0)
    params = {"w": rng_.normal(size=(3, 2)).astype(np.float32), "b": np.float32(0.7)}
    transform = optimizer.make_optimizer(config, learning_rate=0.1, weight_decay=0.2)
    state = transform.init(params)
    update = jax.jit(transform.update)
    flat = np.append(params["w"].ravel(), params["b"]).astype(np.float64)
    m, v = np.zeros(7), np.zeros(7)
    for i in range(8):
        g = rng_.normal(size=7) * (0.1 if i % 2 else 1.0)  # clipped at every second step
        tree = {"w": np.float32(g[:6].reshape(3, 2)), "b": np.float32(g[6])}
        updates, state = update(tree, state, params)
        params = jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)
        g = g * min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9 ** (i + 1)) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8) + 0.2 * flat
        factor = 0.5 * (1 + np.cos(np.pi * i / 8)) if decay == "cosine" else 1.0
        flat = flat - 0.1 * factor * step
        np.testing.assert_allclose(np.append(params["w"].ravel(), params["b"]), flat, rtol=1e-4, atol=1e-5)
