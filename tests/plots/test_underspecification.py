"""Figs. 7 to 10 and the product of accuracies: their lines are the numbers of the summary of masked fractions."""

import numpy as np
import pytest
import synthetic
import xarray as xr
from drawn import panels
from scipy import ndimage
from synthetic import answers_of_groups

from cspace_jax.analysis import underspecification
from cspace_jax.analysis.levels import ok_runs
from cspace_jax.plots import style
from cspace_jax.plots import underspecification as masked_figures


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked()


@pytest.fixture
def asked(ds):
    return synthetic.masked_answers(ds)


def test_fig10_shows_the_class_and_the_masked_concept(asked):
    axes = panels(masked_figures.fig10(asked))
    assert [ax.get_ylabel() for ax in axes[::2]] == ["P(class 11 (blue, small))", "P(blue)"]
    assert axes[3].lines[0].get_ydata()[-1] == 1.0 and axes[2].lines[0].get_ydata()[-1] == 0.0
    older = panels(masked_figures.fig10(asked.drop_vars("capability_concept")))
    assert len(older) == 2


def test_fig7_shows_the_unseen_class_of_the_last_save(ds):
    samples = synthetic.sample_images(ds)
    axes = panels(masked_figures.fig7(ds, samples))
    assert len(axes) == 4 * 2 * 3  # fractions x seeds that are alive at all of them x kept samples
    assert [ax.get_ylabel() for ax in axes[::6]] == ["0%", "25%", "50%", "100%"]
    first = underspecification.mask_groups(ds)[0][0].runs[0]
    shown = style.upright(samples[max(samples)][first, 3, 0])
    np.testing.assert_array_equal(axes[0].images[0].get_array(), shown)
    assert [ax.get_title(loc="left") for ax in axes[:6:3]] == ["seed 0", "seed 200"]  # 100 diverged at 25 %
    last = underspecification.mask_groups(ds)[0][3].runs[2]  # of seed 200
    np.testing.assert_array_equal(axes[21].images[0].get_array(), style.upright(samples[max(samples)][last, 3, 0]))


def test_fig8_marks_concepts_that_are_never_learned(ds):
    unseen, masked_class = panels(masked_figures.fig8(ds))
    assert unseen.get_title() == "held out: 11 (blue, small)" and masked_class.get_title() == "masked: 01 (red, small)"
    never = [line for line in unseen.lines if line.get_gid() == "never"]
    assert len(never) == 1 and never[0].get_xdata()[0] == pytest.approx(1.0, abs=0.02)
    color = next(line for line in unseen.lines if line.get_label() == "colour")
    medians = [level["steps_to_80"]["color"]["median"] for level in underspecification.summarise(ds)["levels"][:3]]
    np.testing.assert_allclose(color.get_ydata(), [1000 / one for one in medians])


def test_fig9_shows_trajectories_and_colours(ds):
    space, over_training, final = panels(masked_figures.fig9(ds))
    assert (space.get_xlabel(), space.get_ylabel()) == ("P(blue)", "P(small)")
    path = next(line for line in space.lines if line.get_label() == "50%")
    runs = list(underspecification.mask_groups(ds)[0][2].runs)
    mean = ds["prob"].sel(protocol="naive", klass="11").isel(run=runs).mean("run").values
    np.testing.assert_allclose(path.get_xydata(), ndimage.gaussian_filter1d(mean, 2, axis=0, truncate=6), atol=1e-6)
    np.testing.assert_allclose(over_training.collections[3].get_facecolor()[-1][:3], [1.0, 0.21, 0.01], atol=1e-6)
    red = next(line for line in final.lines if line.get_label() == "R")
    np.testing.assert_allclose(red.get_ydata(), [0.01, 0.26, 0.51, 1.01], atol=1e-6)


def test_product_of_accuracies(ds):
    left, right = panels(masked_figures.product(ds))
    held_out = next(line for line in left.lines if line.get_label() == "held out")
    alive = np.flatnonzero(ok_runs(ds))
    naive = ds.isel(run=alive, klass=[3]).sel(protocol="naive")
    assert sorted(held_out.get_ydata()) == sorted(naive["joint_accuracy"].values.ravel())
    np.testing.assert_allclose(sorted(held_out.get_xdata()), sorted(naive["accuracy"].prod("concept").values.ravel()))
    assert right.get_title() == "11 (blue, small)" and len(right.lines) == 5


@pytest.fixture(scope="module")
def two_groups():
    return synthetic.masked_groups()


def titles(fig):
    return [part.get_suptitle() for part in fig.subfigs]


def test_fig7_has_a_part_a_group(two_groups):
    fig = masked_figures.fig7(two_groups, synthetic.sample_images(two_groups))
    large, small = (panels(part) for part in fig.subfigs)
    assert (len(large), len(small)) == (4 * 2 * 3, 2 * 3 * 3)  # fractions x common seeds x kept samples
    assert [ax.get_ylabel() for ax in small[::9]] == ["0%", "50%"]
    assert titles(fig)[0].startswith("asked for 11") and titles(fig)[0].endswith("\nsep_size=0.4")
    assert titles(fig)[1] == "sep_size=0.2"


def test_fig7_leaves_out_a_group_without_a_common_seed():
    few = synthetic.masked(fractions=(0.0, 0.5), diverged=(0, 4, 5), sep_size=0.2)  # each seed once
    fig = masked_figures.fig7(both := xr.concat([few, synthetic.masked()], "run", join="override"),
                              synthetic.sample_images(both))  # fmt: skip
    assert len(panels(fig)) == 4 * 2 * 3 and "sep_size=0.4" in fig.get_suptitle()


def test_figs_8_and_9_have_a_row_a_group(two_groups):
    speed = masked_figures.fig8(two_groups)
    assert titles(speed) == ["sep_size=0.4", "sep_size=0.2"] and len(panels(speed)) == 4
    summary = underspecification.summarise(two_groups)
    for part, group in zip(speed.subfigs, summary["groups"], strict=True):
        line = next(one for one in panels(part)[0].lines if one.get_label() == "colour")
        medians = np.array([level["steps_to_80"]["color"]["median"] for level in group["levels"]])
        np.testing.assert_allclose(line.get_ydata(), 1000 / medians[np.isfinite(medians)])
    paths = masked_figures.fig9(two_groups)
    assert titles(paths) == ["sep_size=0.4", "sep_size=0.2"]
    words = [[text.get_text() for text in panels(part)[0].get_legend().get_texts()] for part in paths.subfigs]
    assert words == [["0%", "25%", "50%", "100%"], ["0%", "50%"]]
    one, other = (next(line for line in panels(part)[0].lines if line.get_label() == "50%") for part in paths.subfigs)
    assert np.array_equal(one.get_color(), other.get_color())


def test_fig10_shows_the_fraction_closest_to_one_half_of_each_group(two_groups):
    fig = masked_figures.fig10(answers_of_groups(two_groups))
    assert titles(fig) == ["sep_size=0.4, 50% masked", "sep_size=0.2, 50% masked"]
    ends = [panels(part)[3].lines[0].get_ydata()[-1] for part in fig.subfigs]
    assert ends == [0.0, 1.0]


def test_whole_per_cents_have_their_sign_whatever_their_floats_are():
    shares = [number / 100 for number in range(101)]
    assert [masked_figures.percent(share) for share in shares] == [f"{number}%" for number in range(101)]
    assert masked_figures.percent(0.125) == "0.125"
