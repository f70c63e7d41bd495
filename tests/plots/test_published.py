"""Measured beside published numbers: each point, never at the edge, the line of equality where steps compare."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import published
from cspace_jax.plots import published as drawing


@pytest.fixture(scope="module")
def study():
    ds = synthetic.dataset(levels=(0.1, 0.8))
    numbers = published.trajectory_levels(published.load_published())
    rows = published.match(ds, numbers, published.measure_trajectory, nearest=False)
    return ds, [published.Part("", published.TRAJECTORY, rows), published.Part("", published.LEARNED, [])]


def test_points_are_pairs_of_numbers_with_never_at_the_edge(study):
    ds, parts = study
    times, paths = drawing.figure(ds, parts, comparable=False).axes
    points = {line.get_label(): line.get_xydata() for line in times.lines if line.get_marker() != "None"}
    assert list(points) == ["T80 colour", "T80 size", "T80 joint"]  # neither depths nor ends
    (edge,) = {line.get_ydata()[0] for line in times.lines if line.get_linestyle() == ":" and line.get_xdata()[1] == 1}
    assert edge > ds["step"].values[-1]
    for key, name in (("t80_color", "T80 colour"), ("t80_size", "T80 size")):
        expected = [[row.published[key], row.ours[key]] for row in parts[0].rows]
        np.testing.assert_allclose(points[name], np.nan_to_num(expected, nan=edge))
    assert points["T80 colour"][0].tolist() == [edge, edge]  # the weakest is never blue, there and here


def test_paths_are_the_measured_mean_and_the_published_circles(study):
    ds, parts = study
    axes = drawing.figure(ds, parts, comparable=False).axes[-1]
    source = {one["sep_col"]: one for one in published.load_published()["trajectories"]["curves"]}
    drawn = [row for row in parts[0].rows if row.at[0] in source]
    assert drawn and len(axes.lines) == 2 * len(drawn)
    for row, measured, circles in zip(drawn, axes.lines[::2], axes.lines[1::2], strict=True):
        np.testing.assert_allclose(measured.get_xydata(), published.mean_trajectory(ds, row.level))
        np.testing.assert_allclose(circles.get_xdata(), source[row.at[0]]["blue"])


@pytest.mark.parametrize("comparable", [True, False])
def test_the_line_of_equality_and_the_warning_exclude_each_other(study, comparable):
    fig = drawing.figure(*study, comparable)
    diagonals = [line for line in fig.axes[0].lines if getattr(line, "_slope", None) == 1]
    assert len(diagonals) == comparable and ("only the order" in fig.get_suptitle()) != comparable
