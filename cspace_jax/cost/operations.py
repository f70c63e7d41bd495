"""Operations and parameters, counted layer by layer, without tracing or compiling a program.

Counted as XLA counts a program that it has not optimised: a product and its addition are two operations, products with
the zeros around an image are not computed, and functions such as `exp` are left out. A test holds the sums of a step
and of a sampled image against XLA's own count, within 3 %.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax

from cspace_jax.config import Config, save_steps
from cspace_jax.config.schema import shares_embedding
from cspace_jax.data import masking
from cspace_jax.data.opened import source_of
from cspace_jax.evaluation import losses, protocols
from cspace_jax.model import unet
from cspace_jax.model.unet import UNetSpec
from cspace_jax.training.run import TrainSpec

# Operations of one element, forward and backward, as XLA counts them.
_GELU = (4.0, 6.0)
_NORM = (7.0, 10.0)
_DROPOUT = (17.0, 2.0)
_ADD = (1.0, 0.0)
_SOFTMAX = (4.0, 4.0)
_LOSS = 2 * 74.0 + 60.0  # two normal draws of noise, the rendered object, the three terms of the bound
_UPDATE = 28.0  # of one parameter: clipping, both moments of AdamW and the step
_AVERAGE = 4.0  # of one parameter: its running average


class Layer(NamedTuple):
    """The parameters of one layer, and its floating-point operations for one image.

    Attributes:
      name: of the layer, as in the parameters.
      parameters: how many it has.
      forward: operations of the forward pass.
      backward: operations of the gradients of its input and parameters.
    """

    name: str
    parameters: int
    forward: float
    backward: float


def network(spec: UNetSpec, size: int, training: bool = False) -> Iterator[Layer]:
    """Yield the layers of a U-Net on one `size` x `size` image.

    Dropout only draws in `training`.
    """
    first = spec.channels[0]
    conditioned = spec.conditioning != "none"
    if conditioned:
        yield from _mlp("embed_time", 2 * unet.TIME_FREQUENCIES, unet.TIME_FEATURES)
    if shares_embedding(spec.conditioning):
        yield from _mlp("embed_vector", spec.entries, unet.COMMON_FEATURES)
    yield _conv("conv_in", 3, size, spec.in_channels, first, input_gradient=False)
    entering = entering_channels(spec)
    for name, features in unet.block_features(spec).items():
        yield from _block(spec, name, size // 2 ** level_of(spec, name), entering[name], features, training)
    coarsest = size // 2 ** (len(spec.channels) - 1)
    if spec.attention:
        yield from _attention(coarsest, spec.channels[-1])
    for level, features in enumerate(spec.channels[:-1]):
        yield _resampling(f"down_{level}_conv", size // 2 ** (level + 1), features, features)
        yield _resampling(f"up_{level + 1}_conv", size // 2 ** (level + 1), spec.channels[level + 1], features)
    yield _norm("norm_out", size**2, first, _GELU)
    yield _conv("conv_out", 3, size, first, spec.out_channels)
    if spec.out_channels != spec.in_channels:
        yield _conv("conv_residual", 3, size, spec.in_channels, spec.out_channels, input_gradient=False)


def level_of(spec: UNetSpec, name: str) -> int:
    """Return the resolution level of a residual block. Level 0 is the finest."""
    return len(spec.channels) - 1 if name.startswith("mid") else int(name.split("_")[1])


def entering_channels(spec: UNetSpec) -> dict[str, int]:
    """Return the channels that enter every residual block, name -> channels.

    These are the channels of its level. The first block of a level takes those of the finer level on the way down, and
    on the way up, except at the coarsest level, those of the skip connection as well.
    """
    found = {}
    for name, features in unet.block_features(spec).items():
        level, last = level_of(spec, name), len(spec.channels) - 1
        found[name] = features
        if name.endswith("block_0") and name.startswith("down") and level > 0:
            found[name] = spec.channels[level - 1]
        if name.endswith("block_0") and name.startswith("up") and level < last:
            found[name] = 2 * features
    return found


def _block(spec: UNetSpec, name: str, side: int, entering: int, features: int, training: bool) -> Iterator[Layer]:
    """Yield the layers of a residual block."""
    yield _norm(f"{name}/norm_0", side**2, entering, _GELU)
    yield _conv(f"{name}/conv_0", 3, side, entering, features)
    if spec.conditioning != "none":
        vector = unet.COMMON_FEATURES if shares_embedding(spec.conditioning) else spec.entries
        for part, width in (("time", unet.TIME_FEATURES), ("vector", vector)):
            make = _mlp if spec.conditioning.endswith("mlp") else _linear
            yield from make(f"{name}/project_{part}", width, features)
    dropped = training and spec.dropout > 0
    yield _norm(f"{name}/norm_1", side**2, features, _GELU, *([_DROPOUT] if dropped else []))
    yield _conv(f"{name}/conv_1", 3, side, features, features)
    if entering != features:
        yield _conv(f"{name}/skip", 1, side, entering, features)
    yield _elementwise(f"{name}/add", side**2 * features, _ADD, _ADD)


def _attention(side: int, channels: int) -> Iterator[Layer]:
    """Yield the layers of the attention."""
    pixels = side**2
    yield _norm("mid_attention/norm", pixels, channels)
    for name in ("q", "k", "v", "out"):
        yield _conv(f"mid_attention/{name}", 1, side, channels, channels)
    yield _products("mid_attention/logits", pixels * pixels * channels)
    yield _elementwise("mid_attention/softmax", pixels * pixels, _SOFTMAX)
    yield _products("mid_attention/mixed", pixels * pixels * channels)


def _conv(name: str, width: int, side: int, entering: int, features: int, input_gradient: bool = True) -> Layer:
    """Return a convolution of `width` x `width` taps on `side` x `side` pixels."""
    taps = width * side - (width - 1)  # along one axis, those that fall inside the image
    kernel = width**2 * entering * features
    return _products(name, taps**2 * entering * features, side**2, features, kernel, 1 + input_gradient)


def _resampling(name: str, coarse: int, entering: int, features: int) -> Layer:
    """Return a convolution that halves or doubles the image; `coarse` is the smaller side."""
    kernel = 4 * entering * features
    return _products(name, coarse**2 * kernel, coarse**2, features, kernel)


def _linear(name: str, entering: int, features: int) -> Iterator[Layer]:
    """Yield a linear layer."""
    yield _products(name, entering * features, 1, features, entering * features)


def _mlp(name: str, entering: int, features: int) -> Iterator[Layer]:
    """Yield the layers of an MLP with two linear layers."""
    yield from _linear(f"{name}/dense_0", entering, features)
    yield from _linear(f"{name}/dense_1", features, features)
    yield _elementwise(f"{name}/gelu", 2 * features, _GELU)


def _products(
    name: str, multiplications: int, pixels: int = 0, features: int = 0, kernel: int = 0, gradients: int = 2
) -> Layer:
    """Return a layer of products.

    `pixels` x `features` sums get a bias. Gradients are needed of `gradients` of the two factors.
    """
    bias = pixels * features
    return Layer(name, kernel + features, 2.0 * multiplications + bias, 2.0 * gradients * multiplications + bias)


def _norm(name: str, pixels: int, channels: int, *then: tuple[float, float]) -> Layer:
    """Return a normalisation, and the functions of each element that follow it."""
    return _elementwise(name, pixels * channels, _NORM, *then)._replace(parameters=2 * channels)


def _elementwise(name: str, elements: int, *costs: tuple[float, float]) -> Layer:
    """Return a layer of functions of each element."""
    forward, backward = (sum(parts) for parts in zip(*costs, strict=True))
    return Layer(name, 0, elements * forward, elements * backward)


def network_spec(config: Config) -> UNetSpec:
    """Return the static description of the network of a study's diffusion model."""
    return TrainSpec.from_config(config).vdm.network


def parameters(config: Config) -> int:
    """Return the number of trained scalars of one run.

    They belong to the network, the noise schedule and the token of masked concepts.
    """
    schedule = 2 * (config.diffusion.schedule == "learned_linear")
    token = unet.count_params(jax.eval_shape(lambda: masking.init_params(source_of(config.data))))
    return unet_parameters(network_spec(config)) + schedule + token


def unet_parameters(spec: UNetSpec) -> int:
    """Return the number of parameters of a U-Net."""
    return sum(layer.parameters for layer in network(spec, 2 ** (len(spec.channels) - 1)))


def step_flops(config: Config) -> float:
    """Return the floating-point operations of one training step of one run."""
    size = config.data.image_size
    image = sum(layer.forward + layer.backward for layer in network(network_spec(config), size, training=True))
    update = _UPDATE + _AVERAGE * (config.optim.ema > 0)
    return config.optim.batch_size * (image + _LOSS * 3 * size**2) + update * parameters(config)


def image_flops(config: Config) -> float:
    """Return the operations of one sampler step for one image, without guidance."""
    return sum(layer.forward for layer in network(network_spec(config), config.data.image_size))


def evaluation_flops(config: Config) -> float:
    """Return the operations of sampling all classes, for one run at one checkpoint."""
    images = source_of(config.data).classes.num * config.evaluate.samples_per_class
    return images * (1 + (config.evaluate.guidance != 1.0)) * config.evaluate.sampling_steps * image_flops(config)


def loss_flops(config: Config) -> float:
    """Return the operations of the validation and test losses, for one run at one checkpoint.

    With pictures the validation loss is measured once more, and once for each concept that is named wrongly.
    """
    if not config.evaluate.losses:
        return 0.0
    source, passes = source_of(config.data), 0
    for split in ("validation", "test"):
        count, size = losses.batches_of(source, config.evaluate, config.optim.batch_size, split)
        again = 1 + len(source.classes.active) if source.real and split == "validation" else 0
        passes += count * size * (1 + again)
    return passes * image_flops(config)


def battery_flops(config: Config) -> float:
    """Return the operations of sampling for the battery of protocols, for one run at one checkpoint."""
    if not config.elicit.protocols:
        return 0.0
    passes = sum(protocols.passes(config.elicit, config.evaluate.guidance))
    images = config.elicit.samples * len(source_of(config.data).classes.held_out_ids)
    return passes * images * config.evaluate.sampling_steps * image_flops(config)


def study_flops(config: Config) -> dict[str, float]:
    """Return the operations of a study by stage.

    The stages are "training", "evaluation" and, if there are protocols, "battery".
    """
    runs, saves = config.grid.num_runs, len(save_steps(config.save, config.optim.steps))
    asked = saves + 1  # at initialisation too
    battery = {"battery": runs * asked * battery_flops(config)} if config.elicit.protocols else {}
    return {
        "training": runs * config.optim.steps * step_flops(config),
        "evaluation": runs * saves * (evaluation_flops(config) + loss_flops(config)),
        **battery,
    }
