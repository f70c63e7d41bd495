"""Trajectories in concept space: the smoothed means of runs that did not diverge, a panel a class or a pair."""

import numpy as np
import synthetic
from drawn import panels
from scipy import ndimage

from cspace_jax.analysis.levels import levels
from cspace_jax.config import DataConfig
from cspace_jax.plots import (
    pictures,
    progress,
    speeds,
    trajectories,
)


def test_fig4_draws_the_smoothed_mean_of_live_runs(ds):
    for raw in (False, True):
        fig = trajectories.fig4(ds, raw=raw)
        plain, held_out, training = panels(fig)
        for ax, klass in ((plain, "00"), (held_out, "11")):
            line = next(one for one in ax.lines if one.get_label() == f"{klass} sep_col=0.2")
            mean = ds["prob"].sel(protocol="naive", klass=klass).isel(run=[3, 5]).mean("run").values
            expected = mean if raw else ndimage.gaussian_filter1d(mean, 2, axis=0, truncate=6)
            np.testing.assert_allclose(line.get_xydata(), expected, atol=1e-6)
            assert {one.get_label()[:2] for one in ax.lines if "sep_col" in one.get_label()} == {klass}
        assert plain.get_title() == "(a) trained: 00 (red, large)" and held_out.get_title().startswith(
            "(b) held out: 11"
        )
        assert held_out.get_xlabel() == "P(blue)" and held_out.get_ylabel() == "P(small)"
        assert sum(one.get_label().startswith(("00 ", "01 ", "10 ")) for one in training.lines) == 12
        bar = next(ax for ax in fig.axes if ax.get_label() == "<colorbar>")
        assert bar.get_ylabel() == "normalised colour signal"
    colors = {one.get_color() for one in held_out.lines if one.get_label().startswith("11 ")}
    assert len(colors) == 4


def test_fig4_puts_images_at_the_corners(ds):
    images = {k: np.full((8, 8, 3), 0.5) for k in range(4)}
    fig = trajectories.fig4(ds, corner_images=images)
    boxes = [one for one in panels(fig)[0].artists if hasattr(one, "xybox")]
    assert sorted(tuple(box.xy) for box in boxes) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    words = [text.get_text() for text in panels(trajectories.fig4(ds))[0].texts]
    assert sorted(words) == ["blue, large", "blue, small", "red, large", "red, small"]


def test_fig13_has_a_panel_for_each_class(ds):
    titles = [ax.get_title() for ax in panels(trajectories.fig13(ds))]
    assert titles == ["00 (red, large)", "01 (red, small)", "10 (blue, large)", "11 (blue, small), held out"]


def test_three_concepts_are_drawn_as_projections():
    ds = synthetic.dataset(
        levels=(0.2, 0.6), seeds=(0, 1), active=("color", "size", "bg_color"), steps=(500, 2000, 9000)
    )
    fig = trajectories.fig13(ds)
    labels = {(ax.get_xlabel(), ax.get_ylabel()) for ax in panels(fig)}
    assert labels == {("P(blue)", "P(small)"), ("P(blue)", "P(dark)"), ("P(small)", "P(dark)")}
    assert len(panels(fig)) == 24 and len(panels(trajectories.fig4(ds))) == 6
    assert len(panels(speeds.fig3(ds))) == 3 and len(panels(progress.learning_curves(ds))) == 24
    assert len(panels(progress.fig12(ds))) == 3
    assert len(panels(pictures.fig2(DataConfig(active=("color", "size", "bg_color")), levels(ds)[0].setting))) == 8
