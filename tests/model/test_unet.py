"""The U-Net: published parameter counts, PyTorch's initialisation, conditioning, and samples that do not mix."""

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

from cspace_jax.config import DiffusionConfig, NetworkConfig
from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.model import unet, vdm
from cspace_jax.model.layers import drop_out

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
