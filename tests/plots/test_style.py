"""What figures share: colours and dashes of levels, upright images, files that are equal for equal figures."""

import pytest
import synthetic

from cspace_jax.analysis import levels as signal_levels
from cspace_jax.plots import style, trajectories


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked()


def test_masked_fraction_gives_the_colours_of_other_figures(ds):
    colors, _, index = style.signal_colors(signal_levels.levels(ds))
    assert index == -1 and len(set(colors)) == 4
    bar = next(ax for ax in trajectories.fig4(ds).axes if ax.get_label() == "<colorbar>")
    assert bar.get_ylabel() == "masked fraction"
