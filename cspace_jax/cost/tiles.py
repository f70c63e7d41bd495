"""The bytes of an array in a TPU's memory, where two dimensions are padded to tiles.

Read from the layouts that libtpu 0.0.52 gives a v5e's programs, such as `f32[8,11,64]{2,0,1:T(8,128)}`: the minor
dimension fills rows of 128, the next one tiles of 8 rows (or 1, 2 or 4, where it is no longer), and the two are chosen
such that least is padded. The states and training sets of the studies come out as the compiler says, to the byte.
"""

import itertools
import math
from collections.abc import Sequence

ROW = 128  # numbers
ROWS = 8  # of a tile
LEAST = 512  # bytes of any array


def padded_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes of an array of `shape` in a TPU's memory, `itemsize` (1 or 4) bytes a number."""
    size = math.prod(shape)
    if len(shape) < 2:
        row = min(2 ** math.ceil(math.log2(max(size, ROW))), ROW * ROWS)
        return max(padded(size, row) * itemsize, LEAST)
    if size == 0:
        return LEAST
    ways = (
        size // (minor * second) * padded(minor, ROW) * _rows(second, itemsize)
        for minor, second in itertools.permutations(shape, 2)
    )
    return max(min(ways) * itemsize, LEAST)


def padded(count: int, tile: int) -> int:
    """Return the smallest multiple of `tile` that is at least `count`."""
    return -(-count // tile) * tile


def _rows(count: int, itemsize: int) -> int:
    """Return the number of rows that `count` rows are padded to.

    Numbers of one byte are stored in fours, one above the other, so that they fill at least four rows.
    """
    small = (rows for rows in (1, 2, 4) if rows >= count and rows * itemsize >= 4)
    return next(small, padded(count, ROWS))
