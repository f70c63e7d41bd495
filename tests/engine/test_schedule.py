"""How a grid is cut into waves and a training into calls."""

import pytest

from cspace_jax.engine import schedule


@pytest.mark.parametrize(("runs", "size"), [(5, 0), (5, 5), (5, 2), (5, 9), (1, 1)])
def test_waves_cover_the_grid_in_order(runs, size):
    cuts = schedule.waves(runs, size)
    assert [r for cut in cuts for r in range(runs)[cut]] == list(range(runs))
    assert all(len(range(runs)[cut]) <= (size or runs) for cut in cuts)


@pytest.mark.parametrize(("start", "most"), [(0, 50), (0, 1), (7, 4)])
def test_calls_are_contiguous_and_end_at_every_stop(start, most):
    stops = [0, 10, 13, 100, 250]
    calls = schedule.chunks(start, 100, stops, most)
    ends = [step + count for step, count in calls]
    assert [step for step, _ in calls] == [start, *ends[:-1]] and ends[-1] == 100
    assert {s for s in stops if start < s <= 100} <= set(ends)
    assert all(1 <= count <= most for _, count in calls)
    assert schedule.chunks(100, 100, stops, most) == []
