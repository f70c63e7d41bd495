"""Figures of learning speeds: their points are the summary's medians, their words the seeds."""

import numpy as np
import pytest
import synthetic
from drawn import panels

from cspace_jax.analysis.learning import accuracy_curves, describe_times, learning_times
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import (
    speeds,
    underspecification,
)


def test_fig3_draws_speeds_and_marks_the_unlearned(ds):
    fig = speeds.fig3(ds)
    color, size = panels(fig)
    assert "pixel MSE" in color.get_xlabel() and "steps" in color.get_ylabel() and color.get_xscale() == "log"
    labelled = {line.get_label(): line for line in color.lines if not line.get_label().startswith("_")}
    assert set(labelled) == {"training classes", "held-out 11 (blue, small)"}
    for label, line in labelled.items():
        classes = [0, 1, 2] if label == "training classes" else [3]
        medians = []
        for level in levels(ds):
            accuracy = accuracy_curves(ds, level.runs, classes, "naive")[..., 0]
            medians.append(describe_times(learning_times(ds["step"].values, accuracy)["stays_80"]))
        expected = sorted(1000 / one["median"] for one in medians if np.isfinite(one["median"]))
        np.testing.assert_allclose(sorted(line.get_ydata()), expected)
    never = [line for line in color.lines if line.get_gid() == "never"]
    assert len(never) == 1 and never[0].get_ydata() == [0] and never[0].get_markerfacecolor() == "white"
    assert [text.get_text() for text in color.texts] == ["3/3 never"]
    assert not [line for line in size.lines if line.get_gid() == "never"]


def level_of(seeds):
    (found,) = levels(synthetic.dataset(levels=(0.2,), seeds=tuple(range(seeds))))
    return found


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((2, 2), "median over seeds, n = 2: no 95 % interval"),
        ((2, 4), "median over seeds, n = 2 to 4: no 95 % interval"),
        ((7,), "median over seeds with 95 % interval, n = 7"),
        ((6, 8), "median over seeds with 95 % interval, n = 6 to 8"),
        ((4, 7), "median over seeds with 95 % interval where n is 6 and more, n = 4 to 7"),
    ],
)
def test_figures_of_medians_say_how_many_seeds_each_level_has(counts, words):
    assert speeds.seeds_words(map(level_of, counts)) == words


def test_both_figures_of_speeds_say_it():
    ds = synthetic.masked()  # a run diverged
    for fig in (speeds.fig3(ds), underspecification.fig8(ds)):
        (legend,) = fig.legends
        assert legend.get_title().get_text() == "median over seeds, n = 2 to 3: no 95 % interval"
