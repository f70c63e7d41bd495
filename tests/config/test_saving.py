"""The steps at which runs are saved: the published ones, and those of a longer training, which go on alike."""

import numpy as np
import pytest

from cspace_jax.config import SaveConfig, later_steps, save_steps


@pytest.mark.parametrize(("start", "count", "total", "end"), [(150, 16, 2400, 4000), (500, 60, 20_000, 30_000)])
def test_roots_of_later_steps_go_on_at_the_same_distance(start, count, total, end):
    saves = save_steps(SaveConfig(start=start, count=count), total)
    later = later_steps(saves, end)
    assert later[-1] == end and saves[-1] < later[0]
    width = (np.sqrt(total) - np.sqrt(start)) / (count - 1)
    roots = np.sqrt((saves[-1], *later[:-1]))
    np.testing.assert_allclose(np.diff(roots), width, atol=1.5 / np.sqrt(total))  # steps are whole numbers
    assert np.sqrt(end) - roots[-1] <= width * (1 + 1e-9)


def test_explicit_and_single_saves_have_later_ones():
    assert later_steps((2, 5, 6), 9) == (8, 9)
    assert later_steps((100,), 900) == (900,)
    assert later_steps((100, 400), 401) == (401,)


PUBLISHED_COL_SWEEP = [
    *(500, 594, 696, 807, 926, 1053, 1188, 1331, 1482, 1642, 1809, 1985),
    *(2169, 2361, 2561, 2769, 2986, 3211, 3443, 3684, 3933, 4191, 4456, 4729),
    *(5011, 5301, 5599, 5905, 6219, 6541, 6872, 7211, 7557, 7912, 8275, 8647),
    *(9026, 9414, 9809, 10213, 10625, 11045, 11473, 11910, 12354, 12807, 13268, 13737),
    *(14214, 14699, 15192, 15694, 16204, 16721, 17247, 17782, 18324, 18874, 19433, 20000),
]


def test_save_steps_are_the_published_ones():
    assert list(save_steps(SaveConfig(start=500, count=60), 20_000)) == PUBLISHED_COL_SWEEP


def test_explicit_save_steps_win():
    assert save_steps(SaveConfig(start=500, count=60, steps=(1, 7)), 20_000) == (1, 7)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("start", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize("count", [1, 2, 5, 400])
def test_save_steps_increase_from_start_to_the_end(total, start, count):
    if start > total:
        return
    steps = save_steps(SaveConfig(start=start, count=count), total)
    assert list(steps) == sorted(set(steps)) and all(type(step) is int for step in steps)
    assert steps[-1] == total and len(steps) <= count
    assert steps[0] == (start if count > 1 else total)
