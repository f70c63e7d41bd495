"""Figures of two studies side by side hold the curves of both."""

import numpy as np
import pytest
import synthetic
from beside import SEEDS, later, row

from cspace_jax.analysis import side_by_side
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import side_by_side as drawing


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=SEEDS)


def test_a_figure_of_some_levels_says_how_many_there_are():
    many = synthetic.dataset(levels=tuple(0.05 * i for i in range(1, 16)), seeds=(0,), steps=(500, 9000))
    named = {"a": many, "b": many}
    pairs, _ = side_by_side.match(list(named.values()))
    for some, words in ((pairs, "; 12 of 15 levels"), (pairs[:12], "points")):
        assert drawing.curves(named, some).get_suptitle().endswith(words)


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
