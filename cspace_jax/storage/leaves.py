"""The named arrays of a checkpoint, made of a stacked state, and their check."""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from cspace_jax.storage import device_arrays

PyTree = Any


def named(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a tree by name, in its order. A name is the path in the tree, joined with slashes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    assert len(found) == len(leaves), "two leaves of the state share a name"
    return found


def form(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and type under which a leaf is stored. Random keys are stored as their raw data."""
    struct = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.eval_shape(jax.random.key_data, struct) if device_arrays.is_key(leaf) else struct


def on_host(state: PyTree) -> dict[str, np.ndarray]:
    """Return the arrays of a state on the host as they are stored, name -> [r, ...]."""
    return jax.device_get(
        {name: jax.random.key_data(leaf) if device_arrays.is_key(leaf) else leaf for name, leaf in named(state).items()}
    )


def checksum(arrays: dict[str, np.ndarray], mark: str) -> np.ndarray:
    """Return the CRC-32 of a mark and of each run's bytes, uint32 [r].

    The leaves count in the order of their names. (JAX sorts dicts, not dataclasses.)
    """
    runs = len(next(iter(arrays.values())))
    crc = [zlib.crc32(mark.encode())] * runs
    for _, array in sorted(arrays.items()):
        rows = np.ascontiguousarray(array).reshape(runs, math.prod(array.shape[1:])).view(np.uint8)
        crc = [zlib.crc32(row.data, before) for row, before in zip(rows, crc, strict=True)]
    return np.array(crc, np.uint32)


def as_stored(arrays: dict[str, np.ndarray], marks: Sequence[str], crc: np.ndarray) -> Bool[np.ndarray, " r"]:
    """Return which runs have the checksums `crc` [r] of a checkpoint under one of the marks.

    The first mark is the likeliest. Another number of runs gives False for all.
    """
    same = np.zeros(len(next(iter(arrays.values()))), bool)
    if same.shape != np.shape(crc):
        return same
    for mark in marks:
        if not same.all():
            same = same | (checksum(arrays, mark) == crc)
    return same


def misfit(stored: Mapping[str, Any], wanted: Mapping[str, Any], skip_axes: int = 0) -> str:
    """Return in words how the leaves of a checkpoint differ from those that are wanted. No difference gives "".

    Args:
      stored: what has a shape and a type, by name.
      wanted: leaves of a state, by name.
      skip_axes: leading axes that need not agree.
    """
    forms = {name: form(leaf) for name, leaf in wanted.items()}

    def compared(struct: Any) -> tuple[tuple[int, ...], np.dtype] | None:
        return None if struct is None else (tuple(struct.shape)[skip_axes:], np.dtype(struct.dtype))

    names = list(forms | dict(stored))
    misfits = [name for name in names if compared(stored.get(name)) != compared(forms.get(name))]
    if not misfits:
        return ""
    found, expected = (_words(structs.get(misfits[0])) for structs in (stored, forms))
    return f"{misfits[0]} is {found} there and {expected} here ({len(misfits)} of {len(names)} entries differ)"


def _words(struct: Any) -> str:
    """Return the type and shape of a leaf in words."""
    return "absent" if struct is None else f"{np.dtype(struct.dtype)}{list(struct.shape)}"
