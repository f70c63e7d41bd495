"""The U-Net and its convolutions against NumPy oracles, published parameter counts and PyTorch's initialisation."""

import dataclasses
import functools
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import signal

from cspace_jax.config import DiffusionConfig, NetworkConfig
from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.model import unet, vdm
from cspace_jax.model.convolution import METHODS, conv_1x1, conv_2x2_down, conv_2x2_up, conv_3x3
from cspace_jax.model.layers import drop_out, group_norm

pytestmark = pytest.mark.network

SIZE = tiny.DATA.image_size
forward = jax.jit(unet.apply, static_argnames="spec", compiler_options=tiny.COMPILE_FAST)


def spec_of(convolution="xla", **changes):
    return vdm.Vdm.from_config(NetworkConfig(**changes), DiffusionConfig(), convolution).network


@functools.cache
def initial(conditioning="sep_mlp", scale=1.0):
    # Both projections of the shared conditioning need no more than one level.
    channels = (8, 16) if conditioning == "sep_mlp" else (8,)
    spec = spec_of(channels=channels, blocks=1, conditioning=conditioning)
    return jax.tree.map(np.asarray, tiny.init_params(spec, jax.random.key(3), scale))


def inputs(batch=2):
    keys = jax.random.split(jax.random.key(1), 3)
    z = jax.random.normal(keys[0], (batch, SIZE, SIZE, 3))
    return z, jax.random.uniform(keys[1], (batch,)), jax.random.uniform(keys[2], (batch, 11))


@functools.cache
def awake(conditioning="sep_mlp"):
    """The tiny network and parameters of which none is zero, except the projections that are meant to start there."""
    spec = spec_of(**{**vars(tiny.NETWORK), "conditioning": conditioning})
    shapes = jax.eval_shape(lambda key: unet.init_params(spec, key), jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        asleep = "project_" in jax.tree_util.keystr(path) and conditioning.endswith("zerolinear")
        spread = 0.0 if asleep else max(1, math.prod(leaf.shape[:-1])) ** -0.5
        return (spread * rng.normal(size=leaf.shape)).astype(np.float32)

    return spec, jax.tree_util.tree_map_with_path(draw, shapes)


# Published counts hold two layers that are never used and that we do not make: the down- and up-convolution of the
# outermost levels (facts of the reference implementation).
def unused(channels):
    return 4 * channels[-1] ** 2 + channels[-1] + 4 * channels[0] ** 2 + channels[0]


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        ({}, 10_913_859),
        ({"conditioning": "common_linear"}, 10_086_019),
        ({"conditioning": "common_zerolinear"}, 10_086_019),
        # Of the 14 blocks' widths w, sum w = 2,304 and sum w^2 = 475,136: a second layer costs w^2 + w for time and
        # vector each, a block's own vector has 11 entries instead of 64, and the common MLP has 4,928 parameters.
        ({"conditioning": "sep_linear"}, 10_913_859 - 2 * (475_136 + 2_304)),
        ({"conditioning": "sep_zerolinear"}, 10_086_019 - 4_928 - 53 * 2_304),
        ({"conditioning": "common_mlp"}, 10_086_019 + 2 * (475_136 + 2_304)),
        ({"channels": (64, 128, 128)}, 4_605_379),
    ],
)
def test_parameter_counts_are_the_published_ones(changes, published):
    model = vdm.Vdm.from_config(NetworkConfig(**changes), DiffusionConfig(), "xla")
    params = jax.eval_shape(lambda key: vdm.init_params(model, key), jax.random.key(0))
    assert unet.count_params(params["network"]) == published - unused(model.network.channels)
    assert unet.count_params(params) == published - unused(model.network.channels) + 2  # b and w of the schedule


def test_paper_network_has_10_635_011_parameters():
    params = jax.eval_shape(lambda key: unet.init_params(spec_of(), key), jax.random.key(0))
    assert unet.count_params(params) == 10_635_011


def layers(params, path=()):
    """Yield (path, layer) for every dict that holds arrays."""
    for name, child in params.items():
        if isinstance(child, dict):
            yield from layers(child, (*path, name))
    if not all(isinstance(child, dict) for child in params.values()):
        yield path, params


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_zero_layers_are_exactly_those_of_the_reference(conditioning):
    for path, layer in layers(initial(conditioning)):
        projection = any(name.startswith("project_") for name in path)
        zero = path[-1] in ("conv_1", "conv_out") or (projection and conditioning.endswith("zerolinear"))
        if "kernel" in layer:
            assert bool((layer["kernel"] == 0).all() and (layer["bias"] == 0).all()) == zero, path


def fan_in(path, kernel):
    if path[-1].startswith("up_"):  # PyTorch takes the output channels of a transposed convolution
        return 4 * kernel.shape[-1]
    return math.prod(kernel.shape[:-1])


def test_layers_start_uniform_within_pytorchs_bounds():
    checked = set()
    for path, layer in layers(initial()):
        if "scale" in layer:
            assert (layer["scale"] == 1).all() and (layer["bias"] == 0).all(), path
        elif path[-1] not in ("conv_1", "conv_out"):
            kernel, bound = layer["kernel"], fan_in(path, layer["kernel"]) ** -0.5
            assert np.abs(kernel).max() <= bound and np.abs(layer["bias"]).max() <= bound, path
            assert layer["bias"].any(), path
            spread = kernel.std() / (bound / math.sqrt(3))
            assert abs(spread - 1) < 4 / math.sqrt(kernel.size), path  # 4.5 standard errors
            checked.add(path[-1].rstrip("0123456789"))
    assert {"conv_", "skip", "conv_in", "down_0_conv", "up_1_conv", "q", "dense_"} <= checked


def test_layers_are_drawn_independently():
    kernels = [layer["kernel"].ravel()[:64] for _, layer in layers(initial()) if "kernel" in layer]
    kernels = [k / k.std() for k in kernels if k.size == 64 and k.any()]
    correlation = np.corrcoef(np.stack(kernels)) - np.eye(len(kernels))
    assert np.abs(correlation).max() < 0.7


def test_init_scale_scales_every_parameter():
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.1 * b, rtol=1e-6), initial(scale=0.1), initial())


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_and_their_gradients_equal_the_oracle(kind, method):
    check_convolution(kind, method, (3, 5))


# Each of the ways in which a kernel's gradient slides one over the other, and gathered patches on either side.
@pytest.mark.parametrize("channels", [(5, 3), (18, 16), (16, 18), (16, 16), (2, 2)])
def test_canonical_gradients_equal_the_oracle_at_every_width(channels):
    check_convolution("3x3", "canonical", channels)


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


def test_1x1_convolution_mixes_channels():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(1, 1, 5, 2))
    ours = conv_1x1(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(ours, np.einsum("bhwi,io->bhwo", x, kernel[0, 0]), atol=1e-5)


def test_output_is_the_input_at_the_start():
    spec = spec_of(channels=(8,), blocks=1, conditioning="common_linear")
    z, t, c = inputs()
    np.testing.assert_array_equal(forward(spec, initial("common_linear"), z, t, c), z)


def test_dropout_acts_only_with_a_key():
    spec, params = awake()
    without = dataclasses.replace(spec, dropout=0.0)
    plain = forward(spec, params, *inputs())
    np.testing.assert_array_equal(forward(without, params, *inputs()), plain)
    keys = [jax.random.split(jax.random.key(i), len(plain)) for i in (1, 2)]
    np.testing.assert_array_equal(forward(without, params, *inputs(), keys[0]), plain)
    one, two = (forward(spec, params, *inputs(), k) for k in keys)
    assert np.abs(one - plain).max() > 1e-3 and np.abs(one - two).max() > 1e-3


def test_dropout_of_a_sample_does_not_depend_on_its_batch():
    spec, params = awake()
    keys = jax.random.split(jax.random.key(1), len(inputs()[0]))
    whole = forward(spec, params, *inputs(), keys)
    rows = slice(1, 2)
    alone = forward(spec, params, *(a[rows] for a in inputs()), keys[rows])
    np.testing.assert_allclose(alone, whole[rows], atol=1e-5)
    assert len(np.unique(np.asarray(drop_out(keys, jnp.ones((len(keys), 64)), 0.5)), axis=0)) == len(keys)


def test_dropout_keeps_the_mean_and_its_rate():
    x = jnp.ones((4, 50, 50, 2))
    out = np.asarray(drop_out(jax.random.split(jax.random.key(0), len(x)), x, 0.2))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1.25)}
    assert abs((out == 0).mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / x.size)


def test_time_features_have_the_reference_frequencies():
    t = np.array([0.0, 0.37, 1.2, -0.4], np.float32)
    features = np.asarray(jax.jit(unet.time_features)(t))
    frequencies = np.logspace(0, -4, 32)
    assert frequencies[0] == 1 and frequencies[-1] == 1e-4
    angles = 1000 * t.astype(np.float64)[:, None] * frequencies
    np.testing.assert_allclose(features, np.concatenate([np.sin(angles), np.cos(angles)], 1), atol=2e-4)


def influence(conditioning):
    """Slope of one output pixel along every conditioning entry [11] and along the time."""
    spec, params = awake(conditioning)
    z, t, c = inputs()

    def pixel(params, t, c):
        return unet.apply(spec, params, z, t, c)[0, 2, 3, 1]

    by_t, by_c = jax.jit(jax.grad(pixel, (1, 2)), compiler_options=tiny.COMPILE_FAST)(params, t, c)
    assert not by_c[1].any()  # the other sample of the batch
    return np.abs(by_c[0]), np.abs(by_t[0])


@pytest.mark.parametrize("conditioning", [kind for kind in CONDITIONINGS if not kind.endswith("zerolinear")])
def test_every_conditioning_entry_reaches_the_output(conditioning):
    by_c, by_t = influence(conditioning)
    assert by_c.min() > 1e-6 and by_t > 1e-6


NUMPY = """
import jax, numpy as np
from cspace_jax.config import DiffusionConfig, NetworkConfig
from cspace_jax.model import unet, vdm
network = NetworkConfig(channels=(4,), blocks=1, groups=2, attention=False)
spec = vdm.Vdm.from_config(network, DiffusionConfig(), "xla").network
grown = lambda leaf: leaf + np.cos(np.arange(leaf.size, dtype=np.float32)).reshape(leaf.shape)
params = jax.tree.map(grown, unet.init_params(spec, jax.random.key(0)))
z, t, c = np.ones((1, 4, 4, 3), np.float32), np.ones(1, np.float32), np.ones((1, 11), np.float32)
z[0, 0, 0] = 2
forward = jax.jit(unet.apply, static_argnames="spec")
np.testing.assert_allclose(unet.apply(spec, params, z, t, c), forward(spec, params, z, t, c), atol=1e-4)
assert np.abs(forward(spec, params, z, t, c) - forward(spec, params, z, t, 0 * c)).max() > 0.001
"""


@pytest.mark.system
def test_conditionings_may_be_numpy_arrays():
    """In a process of its own: here annotations are checked, which refuse them."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(unet.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", NUMPY], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("conditioning", ["sep_zerolinear", "common_zerolinear"])
def test_zero_projections_shut_conditioning_and_time_out_at_the_start(conditioning):
    by_c, by_t = influence(conditioning)
    assert by_c.max() == 0 and by_t == 0
    spec, params = awake(conditioning)
    projected = unet.project_conditioning(spec, params, inputs()[2])
    assert {name: h.shape[-1] for name, h in projected.items()} == unet.block_features(spec)
    assert not any(h.any() for h in projected.values())


def test_samples_of_a_batch_do_not_mix():
    spec, params = awake()
    z, t, c = inputs()
    together = forward(spec, params, z, t, c)
    others = forward(spec, params, z.at[1].add(1.0), t.at[1].set(0.0), c.at[1].set(-1.0))
    np.testing.assert_array_equal(others[0], together[0])
    assert np.abs(others[1] - together[1]).max() > 1e-3
