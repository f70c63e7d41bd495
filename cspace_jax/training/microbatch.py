"""A batch taken in microbatches.

They follow one after another on a device; of several devices that share a run, each takes some of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cspace_jax.tree import take

PyTree = Any
AXIS = "batch"  # mesh axis of the devices that share a run


def map_microbatches(
    function: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, size: int, shards: int = 1
) -> tuple[PyTree, PyTree]:
    """Apply a function to the microbatches of a batch; add up its sums and put its rows together.

    Args:
      function: from a microbatch to (what is added up over microbatches, rows of the microbatch's samples).
      batch: tree whose leaves have the batch [b] as their first axis.
      size: samples of a microbatch, a divisor of b; with b itself the function is called once.
      shards: size of `AXIS` inside a `shard_map`, else 1. If it does not divide the number of microbatches, every
        device computes all of them.

    Returns:
      The sums, and the rows [b] in the order of the batch; the same on all devices. How many devices there are changes
      the order of the sums, and so their rounding.
    """
    count = len(jax.tree.leaves(batch)[0]) // size
    if count == 1:
        return function(batch)
    if shards == 1 or count % shards:
        sums, rows = _accumulate(function, _regrouped(batch, count, size))
        return sums, _joined(rows, 2)
    shares = _regrouped(batch, shards, count // shards, size)
    mine = take(shares, jax.lax.axis_index(AXIS))
    sums, rows = _accumulate(function, mine)
    return jax.lax.psum(sums, AXIS), _joined(jax.lax.all_gather(rows, AXIS), 3)


def choose_shards(count: int, devices: int) -> int:
    """Return the largest number of devices, at most `devices`, that can take equally many of `count` microbatches."""
    return max(n for n in range(1, max(devices, 1) + 1) if count % n == 0)


def _regrouped(batch: PyTree, *shape: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), batch)


def _joined(rows: PyTree, axes: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), rows)


def _accumulate(function: Callable[[PyTree], tuple[PyTree, PyTree]], stacked: PyTree) -> tuple[PyTree, PyTree]:
    """Apply a function to microbatches [n, ...] in a compiled loop; return the sums and the rows [n, ...]."""

    def add(sums: PyTree, one: PyTree) -> tuple[PyTree, PyTree]:
        more, rows = function(one)
        return jax.tree.map(jnp.add, sums, more), rows

    shapes = jax.eval_shape(function, take(stacked, 0))[0]
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(add, start, stacked)
