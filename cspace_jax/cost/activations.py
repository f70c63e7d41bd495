"""The memory of a training step beside the state, counted without tracing or compiling a program.

The forward pass stores what the backward pass reads; the backward pass frees it again while it makes gradients, which
all stay until their common norm is known. The peak is where the sum is largest. Which tensors are stored was read off
the buffers of XLA's compiled step on a CPU: what a convolution or product reads and gives, and of what is computed
element by element in between only what has several readers. Compilers for accelerators store less of the latter.
A test holds the peak against the compiler's own analysis, within 15 %.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cspace_jax.config.schema import shares_embedding
from cspace_jax.cost import operations
from cspace_jax.model import unet, winograd
from cspace_jax.model.convolution import gains_by_winograd
from cspace_jax.model.unet import UNetSpec
from cspace_jax.training.run import TrainSpec

_FLOAT = 4  # bytes
_TAPS = 9  # of a 3x3 kernel
_TILE = 16  # numbers that Winograd's transformation makes of the nine
# Tensors that are stored for the backward pass.
_NORM_GELU = 3  # input, input less its mean, error function; their result is counted where it is read
_WORDS = 1  # random words of dropout: half a word decides an entry, drawn and stored in 32 bits
_LINEAR_GELU = 4  # product, exponential, error function, result
_ATTENTION = 7  # input, input less its mean, normalised, query, key, value, mixed values
_SOFTMAX = 3  # exponentials, probabilities, and their sums repeated
# Images of a sample.
_DRAWN = 3  # rendered image and two noises, for the whole batch
_NOISED = 6  # noisy image, prediction, and what the loss's terms make of them
_BLOCKS = 3  # of images that Winograd's products work on at once: rows, tiles, products


class Stage(NamedTuple):
    """A part of the network, in the order of the forward pass.

    Attributes:
      parameters: scalars whose gradients it makes.
      turned: scalars of its kernels turned for the gradient of its input, which are made where the step begins.
      prepared: scalars of its kernels transformed for Winograd's products, made there too: once as they are, once
        turned.
      kept: floats stored for the backward pass, of one sample.
      passing: floats needed only while the backward pass is in it, of one sample.
      loops: floats that its compiled loops give in the forward pass, of one sample, reserved where the step begins.
      loops_back: the same in the backward pass.
    """

    parameters: int
    turned: int = 0
    prepared: int = 0
    kept: int = 0
    passing: int = 0
    loops: int = 0
    loops_back: int = 0


def step_bytes(spec: TrainSpec, parts: list[Stage] | None = None) -> float:
    """Return the peak bytes of a training step of one run beyond its state, setting and training set.

    A step in microbatches holds the tensors of one of them, the summed gradients beside its own, and what is prepared
    for Winograd's products from the first microbatch to the last. `parts` of the network are those of a CPU's compiler
    where none are given.
    """
    parts = parts or list(stages(spec.vdm.network, spec.source.data.image_size))
    samples, cut = spec.microbatch_size, spec.microbatches > 1
    parameters = sum(one.parameters for one in parts)
    prepared = sum(one.prepared for one in parts)
    size = spec.vdm.network.in_channels * spec.source.data.image_size**2
    steady = size * (_DRAWN * spec.optim.batch_size + _NOISED * samples) + (parameters + 2 * prepared if cut else 0)
    blocks = _BLOCKS * winograd.BLOCK_BYTES if prepared else 0
    return float(_FLOAT * (_peak(parts, samples, cut) + steady) + blocks)


def _peak(parts: list[Stage], samples: int, cut: bool) -> int:
    """Return the most floats held at once, without those that are held all the time."""

    def sums(values: Iterable[int]) -> list[int]:
        return list(itertools.accumulate(values, initial=0))

    kept = sums(samples * one.kept for one in parts)
    forward = sums(samples * one.loops + (0 if cut else one.prepared) for one in parts)
    backward = sums(samples * one.loops_back + one.turned + (0 if cut else one.prepared) for one in parts)
    gradients = sums(one.parameters for one in parts)
    peak = 0
    for i, one in enumerate(parts, 1):
        going = kept[i] + forward[-1] - forward[i] + backward[-1]
        returning = kept[i] + samples * one.passing + backward[i] + gradients[-1] - gradients[i - 1]
        peak = max(peak, going, returning)
    return peak


def stages(spec: UNetSpec, size: int) -> Iterator[Stage]:
    """Yield the parts of a U-Net on `size` x `size` images, in the order of the forward pass."""
    parameters = _parameters(spec, size)
    if spec.conditioning != "none":
        # The largest product: its kernel is turned when the backward pass comes to it.
        kept = 2 * unet.TIME_FREQUENCIES + 2 * _LINEAR_GELU * unet.TIME_FEATURES
        yield Stage(parameters["embed_time"], turned=unet.TIME_FEATURES**2, kept=kept)
    if shares_embedding(spec.conditioning):
        yield Stage(parameters["embed_vector"], kept=spec.entries + 2 * _LINEAR_GELU * unet.COMMON_FEATURES)
    yield Stage(parameters["conv_in"], kept=_read(spec, spec.in_channels) * size**2)
    entering = operations.entering_channels(spec)
    for name, features in unet.block_features(spec).items():
        level = operations.level_of(spec, name)
        side = size // 2**level
        if name == "mid_block_1" and spec.attention:
            yield _attention(spec, parameters["mid_attention"], side)
        yield _block(spec, parameters[name], side, entering[name], features)
        way = name.split("_")[0]
        if f"{way}_{level}_conv" in parameters and name.endswith(f"_{spec.blocks - 1}"):
            beyond = 4 * spec.channels[level - 1] if way == "up" else features
            yield Stage(parameters[f"{way}_{level}_conv"], kept=side**2 * features, passing=side**2 * beyond)
    first = spec.channels[0]
    last = parameters["norm_out"] + parameters["conv_out"]
    kept = (_NORM_GELU * first + _read(spec, first)) * size**2
    yield Stage(last, turned=_TAPS * first * spec.out_channels, kept=kept, passing=first * size**2)


def _parameters(spec: UNetSpec, size: int) -> dict[str, int]:
    """Return the number of parameters of every part, by the first word of its layers' names."""
    found: dict[str, int] = {}
    for layer in operations.network(spec, size, training=True):
        part = layer.name.split("/")[0]
        found[part] = found.get(part, 0) + layer.parameters
    return found


def _read(spec: UNetSpec, channels: int) -> int:
    """Return the numbers per pixel that a 3x3 convolution reads and stores.

    These are its channels, or all patches of them.
    """
    return channels * (_TAPS if spec.convolution == "matmul" else 1)


def _block(spec: UNetSpec, parameters: int, side: int, entering: int, features: int) -> Stage:
    """Return the stage of a residual block of `side` x `side` pixels."""
    pixels, turned, prepared, loops, loops_back = side**2, 0, 0, 0, 0
    for channels in (entering, features):
        if spec.convolution == "winograd" and gains_by_winograd(side, side, channels, features):
            prepared += _TILE * channels * features
            loops, loops_back = loops + pixels * features, loops_back + pixels * channels
        else:
            turned += _TAPS * channels * features
    words = _WORDS * (spec.dropout > 0)
    first = _NORM_GELU * entering + _read(spec, entering)
    second = (_NORM_GELU + words) * features + _read(spec, features)
    projections = 2 * (2 * _LINEAR_GELU if spec.conditioning.endswith("mlp") else 1) * features
    kept = pixels * (first + second) + (projections if spec.conditioning != "none" else 0)
    passing = pixels * (features + entering + _read(spec, features))
    return Stage(parameters, turned, prepared, kept, passing, loops, loops_back)


def _attention(spec: UNetSpec, parameters: int, side: int) -> Stage:
    """Return the stage of the attention over `side` x `side` pixels."""
    logits = spec.heads * side**4
    kept = _ATTENTION * side**2 * spec.channels[-1] + _SOFTMAX * logits
    return Stage(parameters, kept=kept, passing=2 * logits)
