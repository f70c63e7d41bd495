"""Two studies side by side: the differences are those that were put in, and equal studies have none."""

import io

import numpy as np
import pytest
import synthetic
import xarray as xr
from rich.console import Console

from cspace_jax.analysis import side_by_side, side_by_side_tables
from cspace_jax.analysis.levels import levels
from cspace_jax.config import differences
from cspace_jax.errors import UserError
from cspace_jax.plots import side_by_side as drawing
from cspace_jax.studies import loading

SEEDS = tuple(range(0, 600, 100))


def later(ds, factor=1.25, seeds=SEEDS):
    """The same curves, each step a factor later, for some of the seeds."""
    moved = ds.assign_coords(step=(factor * ds["step"].values).astype(int))
    return moved.isel(run=np.isin(ds["seed"].values, seeds))


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=SEEDS)


def row(found, level, klass, concept):
    (one,) = [r for r in found["rows"] if (r["level"], r["klass"], r["concept"]) == (level, klass, concept)]
    return one


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


def test_a_figure_of_some_levels_says_how_many_there_are():
    many = synthetic.dataset(levels=tuple(0.05 * i for i in range(1, 16)), seeds=(0,), steps=(500, 9000))
    named = {"a": many, "b": many}
    pairs, _ = side_by_side.match(list(named.values()))
    for some, words in ((pairs, "; 12 of 15 levels"), (pairs[:12], "points")):
        assert drawing.curves(named, some).get_suptitle().endswith(words)


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


def test_studies_without_a_shared_step_have_no_difference_and_say_so(ds):
    found = side_by_side.compare({"a": ds.isel(step=range(10)), "b": ds.isel(step=range(20, 60))})
    assert {one["difference"]["no_interval"] for one in found["rows"]} == {side_by_side.NO_STEP}
    console = Console(width=200, record=True, file=io.StringIO())
    side_by_side_tables.print_rows(found, console)
    text = console.export_text()
    assert side_by_side.NO_STEP in text and "nan" not in text


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


def test_only_shared_levels_are_paired_and_others_are_named(ds):
    other = synthetic.dataset(levels=(0.4, 0.8), seeds=(0, 100))
    found = side_by_side.compare({"a": ds, "b": other})
    assert {one["level"] for one in found["rows"]} == {"sep_col=0.8"}
    assert found["levels_of_one"] == {"a": ["sep_col=0.2"], "b": ["sep_col=0.4"]}
    none = side_by_side.compare({"a": ds, "b": synthetic.dataset(levels=(0.1, 0.4))})
    assert none["rows"] == [] and side_by_side_tables.to_frame(none).empty


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


def test_the_tables_say_what_was_found(ds):
    found = side_by_side.compare({"runs one": ds, "two": later(ds)})
    text = io.StringIO()
    console = Console(file=text, width=140)
    fields = differences(loading.configure("signal:quick", {}), loading.configure("signal:quick", {"optim.steps": 700}))
    side_by_side_tables.print_differences(fields, ("runs one", "two"), console)
    side_by_side_tables.print_rows(found, console)
    lines = text.getvalue().splitlines()
    assert [line.split() for line in lines if "optim.steps" in line] == [["optim.steps", "2400", "700"]]
    assert "two minus runs one" in " ".join(lines) and "steps up to 20,000" in " ".join(lines)
    assert sum("sep_col=" in line for line in lines) == 2
    frame = side_by_side_tables.to_frame(found)
    one = row(found, "sep_col=0.2", "seen", "joint")
    assert frame.loc["sep_col=0.2", "seen", "joint"]["median_second"] == one["second"]["median"]


def test_figures_hold_both_studies(ds):
    named = {"a": ds, "b": later(ds, 4.0)}
    pairs, _ = side_by_side.match(list(named.values()))
    curves = drawing.curves(named, pairs)
    assert len(curves.axes) == 2 and curves.axes[0].get_xscale() == "log"
    for ax, level in zip(curves.axes, levels(ds), strict=True):
        expected = ds["joint_prob"].isel(protocol=0, klass=3, run=list(level.runs)).mean("run")
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        np.testing.assert_allclose(drawn["a"], expected, rtol=1e-6)
        np.testing.assert_allclose(drawn["b"], expected, rtol=1e-6)
    found = side_by_side.compare(named)
    times = drawing.times(found)
    assert [ax.get_title() for ax in times.axes] == ["seen classes", "class 11"]
    points = {tuple(line.get_xydata()[0]) for line in times.axes[1].lines if len(line.get_xydata()) == 1}
    one = row(found, "sep_col=0.8", "11", "size")
    assert (one["first"]["median"], one["second"]["median"]) in points
