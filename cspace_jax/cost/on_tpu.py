"""The memory of training on a TPU.

Its compiler is another one than a CPU's, and arrays are padded (`tiles`). The numbers were read off the schedule and
the layouts of programs that libtpu 0.0.52 compiled for a v5e (docs/memory.md). Of a norm the input is stored, and what
is computed element by element between it and a convolution is computed again where it is read. Channels, and pixels
where attention makes them the minor dimension, fill rows of 128 numbers. Before its loop the program copies kernels,
with their moments and averages, and the training set into other layouts; with microbatches the moments and averages
stay as they are, and each step copies kernels for all its microbatches.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cspace_jax.cost import operations
from cspace_jax.cost.activations import Stage
from cspace_jax.cost.tiles import ROW, ROWS, padded, padded_bytes
from cspace_jax.model import unet
from cspace_jax.model.unet import UNetSpec

_FLOAT = 4  # bytes
_KERNEL = 4  # dimensions of a convolution's kernel
_TAPS = 9  # of a 3x3 kernel
_FIRST = ("embed_time", "embed_vector", "conv_in")  # whose gradients are made last
_ATTENTION = 2  # input, and in bfloat16 its normalised input and the mixed values
_HEADS = 3  # queries, keys, values
_LOGITS = 2  # beside the probabilities, while the backward pass is in the softmax


def shared_bytes(tree: Any) -> float:
    """Return the bytes of a tree of arrays in a TPU's memory, padded."""
    return float(sum(padded_bytes(shape, size) for shape, size in _arrays(tree)))


def run_bytes(tree: Any) -> float:
    """Return a run's share of the bytes of its arrays, each stacked with those of other runs."""
    return sum(padded_bytes((ROWS, *shape), size) for shape, size in _arrays(tree)) / ROWS


def copied_bytes(state: Any, data: Any) -> float:
    """Return the bytes that the program copies of a run: kernels of `state`, tables of the training set.

    A copied kernel takes what it took before; of a table [rows, n] every row fills rows of 128 numbers.
    """
    kernels = [leaf for leaf in jax.tree.leaves(state) if len(leaf.shape) == _KERNEL]
    tables = [shape for shape, _ in _arrays(data) if len(shape) > 1]
    return run_bytes(kernels) + _FLOAT * sum(shape[0] * padded(math.prod(shape[1:]), ROW) for shape in tables)


def stages(spec: UNetSpec, size: int, params: Mapping[str, Any]) -> Iterator[Stage]:
    """Yield the parts of a U-Net with parameters `params` on `size` x `size` images.

    Floats are counted as padded.
    """
    parameters = {name: int(run_bytes(part)) // _FLOAT for name, part in params.items()}
    yield Stage(sum(parameters.get(name, 0) for name in _FIRST))
    entering = operations.entering_channels(spec)
    for name, features in unet.block_features(spec).items():
        level = operations.level_of(spec, name)
        pixels = (size // 2**level) ** 2
        if name == "mid_block_1" and spec.attention:
            yield _attention(spec, parameters["mid_attention"], pixels)
        yield _block(spec, parameters[name], pixels, entering[name], features)
        way = name.split("_")[0]
        if f"{way}_{level}_conv" in parameters and name.endswith(f"_{spec.blocks - 1}"):
            here = pixels * padded(features, ROW)
            # What goes down is joined again later; what goes up is only read once more, in bfloat16.
            kept, beyond = (
                (here // 2, 4 * pixels * padded(spec.channels[level - 1], ROW)) if way == "up" else (here, here)
            )
            yield Stage(parameters[f"{way}_{level}_conv"], kept=kept, passing=beyond)
    last = size**2 * padded(spec.channels[0], ROW)
    yield Stage(parameters["norm_out"] + parameters["conv_out"], kept=last, passing=last)


def _block(spec: UNetSpec, parameters: int, pixels: int, entering: int, features: int) -> Stage:
    """Return the stage of a residual block of `pixels` pixels."""
    before, after = padded(entering, ROW), padded(features, ROW)
    # A 1x1 convolution reads the input in bfloat16; what dropout keeps is said in a byte.
    joined = before // 2 if entering != features else 0
    kept = pixels * (before + joined + after + (after // _FLOAT if spec.dropout > 0 else 0))
    # Not seen compiled: patches that are gathered for a product are stored, as on a CPU.
    kept += pixels * sum(padded(_TAPS * n, ROW) for n in (entering, features)) * (spec.convolution == "matmul")
    return Stage(parameters, kept=kept, passing=pixels * (before + 2 * after))


def _attention(spec: UNetSpec, parameters: int, pixels: int) -> Stage:
    """Return the stage of the attention over `pixels` pixels."""
    channels, row = spec.channels[-1], padded(pixels, ROW)
    probabilities = spec.heads * pixels * row
    kept = _ATTENTION * pixels * padded(channels, ROW) + _HEADS * channels * row + probabilities
    return Stage(parameters, kept=kept, passing=_LOGITS * probabilities)


def _arrays(tree: Any) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield each array's shape and the bytes of one of its numbers. A random key counts as two words."""
    for leaf in jax.tree.leaves(tree):
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        yield ((*leaf.shape, 2), _FLOAT) if key else (leaf.shape, leaf.dtype.itemsize)
