"""The cutting of runs into waves and of steps into compiled calls, with integers only."""

import bisect
from collections.abc import Sequence


def waves(runs: int, size: int) -> list[slice]:
    """Cut `runs` runs into consecutive waves of at most `size` runs (0 = one wave). No run gives []."""
    size = size or max(runs, 1)
    return [slice(start, min(start + size, runs)) for start in range(0, runs, size)]


def next_count(start: int, stops: Sequence[int], most: int) -> int:
    """Return the number of steps of the call after `start`, at most `most`.

    The call does not go beyond the next of `stops`, which increase; one of them must lie after `start`.
    """
    return min(most, stops[bisect.bisect_right(stops, start)] - start)


def chunks(start: int, stop: int, stops: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut the steps from `start` to `stop` into calls, as pairs (steps done before, count).

    A call has at most `most` steps. Calls end at each of `stops` in between.
    """
    edges = sorted({s for s in stops if start < s < stop} | {stop})
    calls = []
    while start < stop:
        calls.append((start, next_count(start, edges, most)))
        start += calls[-1][1]
    return calls
