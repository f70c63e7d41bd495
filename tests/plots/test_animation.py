"""The animation: points move, images change, and the class that is asked for is unseen."""

import numpy as np
import synthetic
from PIL import Image

from cspace_jax.plots import (
    animation,
    style,
)


def test_animation_moves_points_and_changes_images(ds, samples, tmp_path):
    fig, update = animation.dynamics(ds, samples)
    space = fig.axes[0]
    trail = next(line for line in space.lines if line.get_label() == "sep_col=0.8")
    steps = ds["step"].values
    update(int(steps[30]))
    assert len(trail.get_xdata()) == 31 and f"{steps[30]:,}" in space.get_title()
    stored = max(step for step in samples if step <= steps[30])
    pictured = [ax for ax in fig.axes if ax.images]
    np.testing.assert_allclose(pictured[0].images[0].get_array(), style.upright(samples[stored][9, 3, 0]))
    path = animation.to_gif(ds, samples, tmp_path / "a.gif", frames=4, dpi=40)
    with Image.open(path) as picture:
        assert picture.n_frames == 4 and picture.info["loop"] == 0


def test_the_animation_shows_an_unseen_class():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0,))
    held = ds.assign_coords(trained=("klass", [True, True, False, True]))
    fig, _ = animation.dynamics(held, synthetic.sample_images(held))
    assert any("asked for 10 (blue, large)" in ax.get_title() for part in fig.subfigs for ax in part.axes)
