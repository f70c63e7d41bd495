"""Figures of protocols: a line a seed, bands of many, a trajectory a weight."""

import numpy as np
from drawn import panels
from matplotlib.axes import Axes
from scipy import ndimage

from cspace_jax.analysis import stability
from cspace_jax.analysis.learning import default_sigma
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import (
    elicitation,
    progress,
)


def test_fig17_has_a_line_a_seed_and_their_mean(elicited):
    ds, raw = elicited
    fig = elicitation.fig17(ds)
    own, patched = panels(fig)
    assert patched.get_title() == "(b) patched from the last checkpoint" and own.get_ylabel().startswith("P(class 11")
    level = progress.choose_level(levels(ds), ds, "naive")
    runs = slice(2 * level, 2 * level + 2)
    joint = np.stack([raw[step]["prob_samples"][runs].prod(-1).mean(-1)[..., 0] for step in (500, 2000, 9000)], 1)
    for ax, query in ((own, 0), (patched, 1)):
        lines = {line.get_label(): line.get_ydata() for line in ax.lines}
        np.testing.assert_allclose(lines["seed 1"], joint[1, :, query], rtol=1e-5)
        np.testing.assert_allclose(lines["mean"], joint[:, :, query].mean(0), rtol=1e-5)


def test_many_seeds_are_a_mean_and_a_band_and_a_row_a_kind(elicited):
    ds, _ = elicited
    level = levels(ds)[progress.choose_level(levels(ds), ds, "naive")]
    many = ds.isel(run=np.resize(level.runs, 30)).assign_coords(run=range(30), seed=("run", np.arange(30)))
    fig = elicitation.fig17(many)
    own, patched = panels(fig)
    expected = np.resize(ds["capability"].sel(protocol="naive").isel(run=list(level.runs), klass=3), (30, 3)).mean(0)
    (line,) = [one for one in own.lines if one.get_label() == "mean over seeds"]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert [text.get_text() for text in patched.get_legend().get_texts()] == ["90 % of 30 seeds", "mean over seeds"]
    (table,) = [table for ax in fig.findobj(Axes) for table in ax.tables]
    text = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    rows = [[text[row, column] for column in range(5)] for row in range(1, len(text) // 5)]
    assert sum(int(row[0]) for row in rows) == 30
    seeds = stability.seeds(many, levels(many)[0], 3)
    for number, kind, *times in rows:
        same = [one for one in seeds if one["kind"] == kind]
        medians = [np.median(np.nan_to_num([one[name] for one in same], nan=np.inf)) for name in elicitation._TIMES]
        assert int(number) == len(same)
        assert times == ["never" if np.isinf(one) else f"{one:,.0f}" for one in medians]


def test_fig16_has_a_trajectory_a_weight_and_a_panel_a_level(elicited):
    ds, raw = elicited
    fig = elicitation.fig16(ds)
    weak, strong = panels(fig)
    assert strong.get_title() == "11 (blue, small), sep_col=0.6" and "sep_col=0.2" in weak.get_title()
    labels = [text.get_text() for text in strong.get_legend().get_texts()]
    assert labels == ["0 (no prompt)", "1 (no guidance)", "7"]
    line = next(one for one in strong.lines if one.get_label() == "7")
    mean = np.stack([raw[step]["prob_samples"][2:, 4, 0].mean((0, 1)) for step in (500, 2000, 9000)])
    smoothed = ndimage.gaussian_filter1d(mean, default_sigma(ds), axis=0, truncate=6)
    np.testing.assert_allclose(line.get_xydata(), smoothed, rtol=1e-4)


def broken(ds, runs):
    """A copy whose naive query and its answers are not known at the second save, in the given runs."""
    made = ds.copy(deep=True)
    for name in ("capability", "capability_split"):
        made[name].loc[{"protocol": "naive", "klass": "11"}][{"run": list(runs), "step": 1}] = np.nan
    return made


def test_fig17_says_it_where_every_seed_has_a_broken_query(elicited):
    ds, _ = elicited
    level = levels(ds)[progress.choose_level(levels(ds), ds, "naive")]
    fig = elicitation.fig17(broken(ds, level.runs).isel(run=list(level.runs)))
    below = [ax for ax in fig.findobj(Axes) if not ax.axison]
    assert [text.get_text() for ax in below for text in ax.texts] == ["class 11: every seed has a broken query"]
    assert not [table for ax in below for table in ax.tables]


def test_means_and_counts_leave_seeds_with_a_broken_query_out(elicited):
    ds, _ = elicited
    level = levels(ds)[progress.choose_level(levels(ds), ds, "naive")]
    first, second = level.runs
    made = broken(ds, [first])
    expected = {
        name: ds[name].sel(protocol="naive", klass="11").values[second] for name in ("capability", "capability_split")
    }
    own = panels(elicitation.fig17(made))[0]
    (mean,) = [line for line in own.lines if line.get_label() == "mean"]
    np.testing.assert_allclose(mean.get_ydata(), expected["capability"], rtol=1e-6)
    left = panels(elicitation.overview(made))[0]
    assert left.get_title() == "mean over seeds, n = 1: no 95 % interval, seeds as points"
    np.testing.assert_allclose(left.lines[0].get_ydata(), expected["capability_split"], rtol=1e-6)
    elicitation.fig6(broken(ds, level.runs))  # none is left


def test_the_mean_of_many_seeds_leaves_broken_ones_out(elicited):
    ds, _ = elicited
    level = levels(ds)[progress.choose_level(levels(ds), ds, "naive")]
    many = ds.isel(run=np.resize(level.runs, 30)).assign_coords(run=range(30), seed=("run", np.arange(30)))
    own = panels(elicitation.fig17(broken(many, [0, 2])))[0]
    (line,) = [one for one in own.lines if one.get_label() == "mean over seeds"]
    expected = np.delete(many["capability"].sel(protocol="naive", klass="11").values, [0, 2], 0).mean(0)
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
