"""What figures say of seeds, which signals they go by, and which class they show as the unseen one."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis.levels import levels
from cspace_jax.plots import animation, progress, speeds, underspecification


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


@pytest.fixture(scope="module")
def tinted():
    """Tinted pictures: the last concept's signal is known, and the levels are not in its order."""
    ds = synthetic.dataset(levels=(0.4, 0.8, 0.1, 0.2)).isel(concept=[1, 0]).copy(deep=True)
    for name in ("signal", "signal_range"):
        ds[name].values[:, 0] = np.nan
        ds[name].values[:, 1] = 1.0 - ds["sep_col"].values
    return ds


def test_figures_of_tinted_pictures_go_by_the_tint(tinted):
    found = levels(tinted)  # sep_col .1, .2, .4, .8
    assert animation.choose_levels(found, 2) == [0, 3]
    assert progress.choose_level(found, tinted, "naive") == 3  # the weakest signal, and it is learned
    assert [ax.get_title() for ax in speeds.fig3(tinted).axes] == ["colour"]


def test_the_animation_shows_an_unseen_class():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0,))
    held = ds.assign_coords(trained=("klass", [True, True, False, True]))
    fig, _ = animation.dynamics(held, synthetic.sample_images(held))
    assert any("asked for 10 (blue, large)" in ax.get_title() for part in fig.subfigs for ax in part.axes)
