"""A batch taken in parts: one after another on a device, and half of them on each of two devices that share a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
AXIS = "batch"  # mesh axis of the devices that share a run
SHARES = 2  # devices that can share a run


def over_parts(
    function: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, size: int, shards: int = 1
) -> tuple[PyTree, PyTree]:
    """Apply a function to parts of a batch, and add up or put together what it returns.

    An even number of parts is summed as two halves on one device too, so that a second one does not change a bit.

    Args:
      function: from a part to (what is added up over parts, rows of the part's samples).
      batch: tree whose leaves have the batch [b] as their first axis.
      size: samples of a part, a divisor of b; with b itself the function is called once.
      shards: 1, or `SHARES` inside a `shard_map` over `AXIS`; an odd number of parts is then taken by both devices.

    Returns:
      The sums, and the rows [b] in the order of the batch; the same on all devices.
    """
    count = len(jax.tree.leaves(batch)[0]) // size
    if count == 1:
        return function(batch)
    halves = _regrouped(batch, (SHARES, count // SHARES, size) if can_share(count) else (1, count, size))
    if shards == 1 or not can_share(count):
        sums, rows = _add_up(lambda half: _add_up(function, half), halves)
    else:
        mine = jax.tree.map(lambda leaf: leaf[jax.lax.axis_index(AXIS)], halves)
        sums, rows = _add_up(function, mine)
        sums, rows = jax.lax.psum(sums, AXIS), jax.lax.all_gather(rows, AXIS)
    return sums, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[3:]), rows)


def can_share(count: int) -> bool:
    """Return whether two devices can take half each of a batch of `count` parts."""
    return count % SHARES == 0


def _regrouped(batch: PyTree, shape: tuple[int, ...]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), batch)


def _add_up(function: Callable[[PyTree], tuple[PyTree, PyTree]], parts: PyTree) -> tuple[PyTree, PyTree]:
    """Apply a function to each of the parts [n, ...]; return the sums and the rows [n, ...]."""
    if len(jax.tree.leaves(parts)[0]) == 1:
        sums, rows = function(jax.tree.map(lambda leaf: leaf[0], parts))
        return sums, jax.tree.map(lambda leaf: leaf[None], rows)

    def add(sums: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        more, rows = function(part)
        return jax.tree.map(jnp.add, sums, more), rows

    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))[0]
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, start, parts)
