"""What figures share: colours and dashes of levels, upright images, files that are equal for equal figures."""

import matplotlib
import numpy as np
import pytest
import synthetic
import xarray as xr
from drawn import panels
from PIL import Image

from cspace_jax.analysis.levels import levels
from cspace_jax.plots import (
    progress,
    style,
    trajectories,
)


@pytest.fixture(scope="module")
def masked():
    return synthetic.masked()


def test_masked_fraction_gives_the_colours_of_other_figures(masked):
    colors, _, index = style.signal_colors(levels(masked))
    assert index == -1 and len(set(colors)) == 4
    bar = next(ax for ax in trajectories.fig4(masked).axes if ax.get_label() == "<colorbar>")
    assert bar.get_ylabel() == "masked fraction"


def test_images_stand_upright_and_clipped():
    image = np.zeros((4, 6, 3))
    image[3, 0] = 2.0  # x at the right, y at the bottom
    shown = style.upright(image)
    assert shown.shape == (6, 4, 3) and shown[0, 3].tolist() == [1, 1, 1]  # origin="lower": row 0 is the bottom
    assert style.upright(np.full((2, 2, 3), 255, np.uint8)).max() == 1.0


def two_settings():
    """Two colour signals at two masked fractions each: four levels, two colours."""
    parts = [synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100)) for _ in range(2)]
    parts = [one.assign_coords(mask=("run", np.full(4, mask))) for one, mask in zip(parts, (0.0, 0.5), strict=True)]
    return xr.concat(parts, "run", join="override")


def test_dashes_tell_levels_of_one_signal_apart():
    both = two_settings()
    for fig, start, place in (
        (trajectories.fig4(both), "11 sep_col", 1), (progress.learning_curves(both), "sep_col", -1),
    ):  # fmt: skip
        drawn = {
            line.get_label(): (line.get_color(), line.get_linestyle())
            for line in panels(fig)[place].lines if line.get_label().startswith(start)
        }  # fmt: skip
        colors, dashes = ({look[i] for look in drawn.values()} for i in (0, 1))
        assert len(drawn) == len(set(drawn.values())) == 4 and len(colors) == len(dashes) == 2
        solid = [label for label, (_, line) in drawn.items() if line == "-"]
        assert all(label.endswith("mask=0") for label in solid)
        (legend,) = fig.legends
        assert [text.get_text() for text in legend.get_texts()] == ["mask=0", "mask=0.5"]


def test_lines_are_solid_where_the_colour_tells_the_setting(ds):
    for one in (ds, synthetic.masked()):
        lines, legend = style.line_styles(one, levels(one))
        assert set(lines) == {"-"} and legend == {}
        assert not trajectories.fig4(one).legends


def test_a_separation_without_its_concept_is_told_by_the_dashes():
    both = two_settings()
    both = both.assign_coords(sep_bg=("run", both["mask"].values + 0.1), mask=("run", np.zeros(8)))
    _, legend = style.line_styles(both, levels(both))
    assert list(legend) == ["sep_bg=0.1", "sep_bg=0.6"]


def test_files_are_written_and_equal_for_equal_figures(ds, tmp_path):
    paths = [style.save(trajectories.fig4(ds), tmp_path / name) for name in ("a", "b")]
    assert [path.name for path in paths[0]] == ["a.png", "a.pdf"]
    for one, two in zip(*paths, strict=True):
        assert one.read_bytes() == two.read_bytes()
    with Image.open(paths[0][0]) as picture:
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_the_users_own_settings_of_matplotlib_change_nothing():
    odd = {"text.usetex": True, "figure.dpi": 17, "axes.titlesize": 40, "savefig.bbox": "tight", "axes.linewidth": 9}
    with style.styled():
        usual = dict(matplotlib.rcParams)
    with matplotlib.rc_context(odd):
        with style.styled():
            assert dict(matplotlib.rcParams) == usual
        assert matplotlib.rcParams["figure.dpi"] == 17  # theirs again


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((3, 3), "mean over seeds with 95 % interval, n = 3"),
        ((5, 3), "mean over seeds with 95 % interval, n = 3 to 5"),
        ((2, 3), "mean over seeds with 95 % interval, n = 2 to 3; seeds as points where n < 3"),
        ((2, 1), "mean over seeds, n = 1: no 95 % interval, seeds as points"),
    ],
)
def test_figures_of_means_say_how_many_seeds_and_whether_there_are_bands(counts, words):
    assert style.band_words(iter(counts)) == words


def test_labels_take_the_words_of_the_study_then_the_tables_then_the_bare_name(ds):
    assert style.class_label(ds, 3) == "11 (blue, small)" and style.probability_label(ds, "size") == "P(small)"
    named = ds.assign_attrs(words='{"color": ["female", "male"]}')
    assert style.class_label(named, 2) == "10 (male, large)"
    assert style.bit_label(ds, "hat", 1) == "hat=1" and style.concept_title("hat") == "hat"
    assert style.concept_title("color") == "colour"
