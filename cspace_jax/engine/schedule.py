"""How runs are cut into waves and steps into compiled calls: integers only."""

import bisect
from collections.abc import Sequence


def waves(runs: int, size: int) -> list[slice]:
    """Cut `runs` runs into consecutive waves of at most `size` runs (0 = one wave)."""
    size = size or max(runs, 1)
    return [slice(start, min(start + size, runs)) for start in range(0, runs, size)]


def next_count(start: int, stops: Sequence[int], most: int) -> int:
    """Return the steps of the call after `start`: at most `most`, and not beyond the next of `stops`, which rise."""
    return min(most, stops[bisect.bisect_right(stops, start)] - start)


def chunks(start: int, stop: int, stops: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cut steps start .. stop into calls (steps done before, count) of at most `most` that end at each of `stops`."""
    edges = sorted({s for s in stops if start < s < stop} | {stop})
    calls = []
    while start < stop:
        calls.append((start, next_count(start, edges, most)))
        start += calls[-1][1]
    return calls
