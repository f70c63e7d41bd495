"""Two studies side by side: the differences are those that were put in, and equal studies have none."""

import numpy as np
import pytest
import synthetic
import xarray as xr
from beside import SEEDS, later, row

from cspace_jax.analysis import side_by_side
from cspace_jax.analysis.levels import levels
from cspace_jax.errors import UserError


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=SEEDS)


def test_shared_seeds_are_paired_and_a_slower_study_is_later_in_every_seed(ds):
    found = side_by_side.compare({"a": ds, "b": later(ds)})
    assert len(found["rows"]) == 2 * 2 * 3 and found["tested_to_step"] == 20000
    one = row(found, "sep_col=0.8", "11", "color")
    assert one["second"]["median"] == pytest.approx(1.25 * one["first"]["median"], rel=0.01)
    assert one["shared_seeds"] == 6 and one["test"] == side_by_side.FLIPS
    assert (one["sooner"], one["later"]) == (0, 6)
    assert one["p"] == pytest.approx(2 / 2**6) and one["p_times"] == pytest.approx(2 / 2**6)
    assert one["p_holm"] == pytest.approx(min(1, one["p"] * sum(np.isfinite(r["p"]) for r in found["rows"])))
    assert one["difference"]["mean"] < 0


def test_the_difference_is_the_area_between_the_curves(ds):
    """A step curve that comes at 5,000 instead of 1,000 of 100 to 10,000 loses log(5) / log(100) of its mean."""
    steps = np.geomspace(100, 10_000, 2001)
    curves = [np.tile((steps >= at).astype(float), (3, 1)) for at in (1000, 5000)]
    seeds = np.arange(3)
    sides = [side_by_side.Side(steps.astype(int), one, seeds) for one in curves]
    np.testing.assert_allclose(side_by_side._areas(sides), -np.log(5) / np.log(100), atol=2e-3)
    coarse = side_by_side.Side(sides[1].steps[::7], sides[1].scores[:, ::7], seeds)  # other saves of the same curve
    np.testing.assert_allclose(side_by_side._areas([sides[1], coarse]), 0, atol=2e-3)
    apart = side_by_side.Side(np.array([20_000, 30_000]), np.ones((3, 2)), seeds)
    assert np.isnan(side_by_side._areas([sides[0], apart])).all()


def test_equal_studies_have_nothing_to_tell(ds):
    found = side_by_side.compare({"a": ds, "b": ds})
    for one in found["rows"]:
        assert one["difference"]["mean"] == 0 and np.isnan(one["p"]) and np.isnan(one["p_holm"])
        assert one["sooner"] == one["later"] == 0


def test_exchanging_the_studies_exchanges_the_sides(ds):
    forth = side_by_side.compare({"a": ds, "b": later(ds)})
    back = side_by_side.compare({"b": later(ds), "a": ds})
    for one, other in zip(forth["rows"], back["rows"], strict=True):
        assert one["first"] == other["second"] and one["p"] == pytest.approx(other["p"], nan_ok=True)
        assert one["difference"]["mean"] == pytest.approx(-other["difference"]["mean"])
        assert (one["sooner"], one["later"]) == (other["later"], other["sooner"])


def test_other_seeds_are_compared_by_log_rank(ds):
    other = later(ds, 2.0)
    other = other.assign_coords(seed=("run", other["seed"].values + 1))
    one = row(side_by_side.compare({"a": ds, "b": other}), "sep_col=0.8", "11", "size")
    assert one["shared_seeds"] == 0 and one["test"] == side_by_side.LOG_RANK
    assert one["p"] < 0.01 and np.isnan(one["p_times"])


def test_a_longer_training_is_no_advantage():
    """The weakest level learns colour of class 11 at 25,000: only the longer study sees it, and no test counts it."""
    steps = (500, 1000, 5000, 10000, 20000, 30000, 40000)
    long = synthetic.dataset(levels=(0.1,), seeds=(0, 1, 2), steps=steps)
    found = side_by_side.compare({"short": long.isel(step=slice(0, 5)), "long": long})
    one = row(found, "the one setting", "11", "color")
    assert one["first"]["learned"] == 0 and one["second"]["learned"] == 3
    assert (one["sooner"], one["later"]) == (0, 0) and one["difference"]["mean"] == 0


def test_what_each_study_holds_fixed_is_what_is_compared(ds):
    faster = ds.assign_coords(learning_rate=("run", np.full(ds.sizes["run"], 2e-3)))
    pairs, alone = side_by_side.match([ds, faster])
    assert [pair.label for pair in pairs] == ["sep_col=0.2", "sep_col=0.8"] and alone == [[], []]
    both = xr.concat([ds, faster], "run").assign_coords(run=range(24))
    pairs, alone = side_by_side.match([ds, both])
    assert [pair.label for pair in pairs] == [level.label for level in levels(both)[::2]] and len(alone[1]) == 2


def test_other_classes_are_one_line(ds):
    with pytest.raises(UserError, match="b has the concepts shape, color, a has color, size"):
        side_by_side.compare({"a": ds, "b": synthetic.dataset(levels=(0.2,), active=("shape", "color"))})
