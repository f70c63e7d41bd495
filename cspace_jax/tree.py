"""Trees of arrays that share a leading axis."""

from typing import Any

import jax


def take(tree: Any, index: Any) -> Any:
    """Return rows of every array of a tree, as a tree of the same form.

    Args:
      tree: of arrays [n, ...].
      index: a number, which removes the axis; a slice, or an array of numbers or truth values, which keep it.
    """
    return jax.tree.map(lambda leaf: leaf[index], tree)
