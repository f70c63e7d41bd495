"""The published numbers, and those of studies of known truth beside them."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import published
from cspace_jax.analysis.levels import levels
from cspace_jax.config import from_config_dict, to_dict
from cspace_jax.errors import UserError
from cspace_jax.studies import loading


def test_published_numbers_are_complete():
    stored = published.load_published()
    assert all(part["origin"] for part in stored.values())
    trajectories = published.trajectory_levels(stored)
    assert len(trajectories) == 9 and np.isnan(trajectories[0.174, 0.4]["t80_color"])
    learned = published.learned_levels(stored)
    assert len(learned) == 49 and learned[0.2, 0.366] == {"color": 17600, "size": 6727}
    for one in stored["trajectories"]["curves"]:
        row = trajectories[one["sep_col"], 0.4]
        np.testing.assert_allclose([one["blue"][-1], one["small"][-1]], [row["final_blue"], row["final_small"]])
        late = np.array(one["blue"])[np.array(stored["trajectories"]["steps"]) > 1500]
        assert abs(late.min() - row["min_blue"]) <= 0.02


def test_learned_counts_never_as_the_last_step():
    ds = synthetic.dataset(levels=(0.2, 0.8), diverged=(5,))
    learned = published.learned_levels(published.load_published())
    rows = published.match(ds, learned, published.measure_learned, nearest=False)
    assert [len(row.level.runs) for row in rows] == [3, 2]
    assert rows[0].ours["color"] > rows[1].ours["color"]
    assert published.agreement(rows, "color") == pytest.approx(1)
    assert published._capped_mean(np.arange(1, 9) * 100, np.zeros((2, 8))) == 800


def test_a_level_without_runs_is_left_out():
    ds = synthetic.dataset(levels=(0.2, 0.8), diverged=(0, 1, 2))
    learned = published.learned_levels(published.load_published())
    rows = published.match(ds, learned, published.measure_learned, nearest=True)
    assert [row.level for row in rows] == levels(ds)[1:]
    assert np.isnan(published.agreement(rows, "color"))  # one level has no order


def test_what_was_not_published_is_one_line():
    config = loading.configure("signal:quick", {})
    ds = synthetic.dataset(levels=(0.2,))
    with pytest.raises(UserError, match="published:NAME = 'signl': must be one of signal, signal_grid, did you mean"):
        published.beside(ds, config, "signl")
    shapes = loading.configure("signal:quick", {"data.active": ("shape", "color")})
    with pytest.raises(UserError, match="data.active = .*published numbers are of"):
        published.beside(ds, shapes)
    with pytest.raises(UserError, match="all runs diverged"):
        published.beside(synthetic.dataset(levels=(0.2,), diverged=(0, 1, 2)), config)


def test_the_grid_has_its_learning_times_alone():
    config = from_config_dict(to_dict(loading.configure("signal_grid:quick", {})))
    parts = published.beside(synthetic.dataset(levels=(0.2, 0.8)), config, "signal_grid")
    assert [part.columns for part in parts] == [published.LEARNED]
    assert [row.at for row in parts[0].rows] == [(0.2, 0.4), (0.8, 0.4)]
