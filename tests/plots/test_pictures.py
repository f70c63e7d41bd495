"""Pictures of classes and of samples: upright, of the asked run, with the values that made them."""

import numpy as np
from drawn import panels

from cspace_jax.config import DataConfig
from cspace_jax.plots import (
    pictures,
    style,
)


def test_fig2_shows_each_class_with_its_values():
    fig = pictures.fig2(DataConfig(), {"sep_col": 0.8, "sep_size": 0.4, "sep_bg": 0.2})
    (upper_left, upper_right), (lower_left, _) = np.reshape(panels(fig), (2, 2))
    assert upper_right.get_title() == "11  blue small\nheld out"
    assert upper_right.get_xlabel() == "colour (0.1, 0.1, 0.9)\nradius 0.25"
    assert lower_left.get_xlabel() == "colour (0.9, 0.1, 0.1)\nradius 0.65"
    assert "trained" in upper_left.get_title()
    images, cv = pictures.class_images(DataConfig(), {"sep_col": 0.8, "sep_size": 0.4, "sep_bg": 0.2})
    np.testing.assert_allclose(images[1, 16, 16], [0.9, 0.1, 0.1], atol=0.02)  # centred, red
    np.testing.assert_array_equal(lower_left.images[0].get_array(), np.clip(images[0].transpose(1, 0, 2), 0, 1))
    assert cv.size.shape == (4,)


def test_sample_grid_shows_the_asked_run(ds, samples):
    fig = pictures.sample_grid(ds, samples, run=11, columns=5)
    axes = np.reshape(panels(fig), (4, 5))
    steps = pictures.choose_steps(sorted(samples), 5)
    assert [ax.get_title() for ax in axes[0]] == [f"{step:,}" for step in steps]
    np.testing.assert_allclose(axes[3, 4].images[0].get_array(), style.upright(samples[steps[-1]][11, 3, 0]))
    assert "sep_col=0.8, seed 200" in fig.get_suptitle()


def test_choose_steps_keeps_both_ends():
    assert pictures.choose_steps(list(range(100)), 3) == [0, 50, 99]
    assert pictures.choose_steps([5, 7], 8) == [5, 7]


def test_fig2_marks_the_classes_that_the_study_holds_out():
    fig = pictures.fig2(DataConfig(held_out=("10",)), {"sep_col": 0.8, "sep_size": 0.4, "sep_bg": 0.2})
    titles = [ax.get_title() for ax in fig.axes]
    assert [title[:2] for title in titles if "held out" in title] == ["10"] and len(titles) == 4
