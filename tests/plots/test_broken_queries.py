"""Figures of protocols where queries are broken (NaN): such a seed is left out, and counts say so."""

import numpy as np
import pytest
import synthetic
from matplotlib.axes import Axes

from cspace_jax.analysis.levels import levels
from cspace_jax.plots import elicitation, progress


@pytest.fixture(scope="module")
def elicited():
    return synthetic.elicited()


def panels(fig):
    return [ax for ax in fig.axes if ax.axison]


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
