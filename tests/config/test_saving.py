"""The steps at which a longer training is saved go on as those of the first one."""

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
