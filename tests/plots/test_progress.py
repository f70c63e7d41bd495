"""Figures over training: losses, accuracies and coordinates of the level that is shown."""

import numpy as np
import pytest
import synthetic
import xarray as xr
from drawn import panels

from cspace_jax.analysis.learning import memorisation
from cspace_jax.analysis.levels import levels
from cspace_jax.plots import (
    animation,
    progress,
    speeds,
)


def test_fig12_shows_loss_above_its_minimum_and_the_turn(ds):
    assert progress.min_vlb(1e-3) == pytest.approx(-8.6400, abs=1e-4)
    assert progress.min_vlb(0.1) == pytest.approx(np.log2(2 * np.pi * 0.01) / 2, rel=1e-6)
    fig = progress.fig12(ds, level=1)
    loss, accuracy, space = panels(fig)
    assert loss.get_yscale() == "log" and "bits / dim" in loss.get_ylabel()
    expected = ds["loss"].sel(split="validation", term="total").isel(run=[3, 5]).mean("run") - progress.min_vlb(1e-3)
    np.testing.assert_allclose(loss.lines[0].get_ydata(), expected, rtol=1e-6)
    joint = ds["joint_accuracy"].sel(protocol="naive", klass="11").isel(run=[3, 5]).mean("run")
    line = next(one for one in accuracy.lines if one.get_label() == "11 (blue, small)")
    np.testing.assert_allclose(line.get_ydata(), joint, atol=1e-6)
    turn = memorisation(ds, levels(ds)[1], 3, "naive", 2.0)["turning_step"]
    assert f"turn at {turn:,.0f}" in [text.get_text() for text in space.texts]
    assert "mean of 2 seeds" in fig.get_suptitle()


def test_fig12_shows_the_diffusion_term_where_the_other_terms_are_constants():
    fixed = synthetic.dataset(levels=(0.2,), seeds=(0, 1), config={"diffusion": {"schedule": "fixed_linear"}})
    diffusion = xr.DataArray(np.linspace(2, 1, fixed.sizes["step"]), dims="step")
    fixed["loss"] = xr.where(fixed["term"] == "diffusion", diffusion, 650.0).broadcast_like(fixed["loss"])
    loss = panels(progress.fig12(fixed))[0]
    assert loss.get_ylabel() == "diffusion term of the loss  [bits / dim]" and len(loss.lines) == 2
    np.testing.assert_allclose(loss.lines[0].get_ydata(), diffusion)
    assert loss.get_ylim()[1] < 3


def test_fig12_takes_the_weakest_level_that_is_learned(ds):
    assert progress.choose_level(levels(ds), ds, "naive") == 1


def test_learning_curves_have_lines_bands_and_labels(ds):
    fig = progress.learning_curves(ds)
    axes = np.reshape(panels(fig), (2, 4))
    assert axes[0, 0].get_ylabel() == "P(blue)" and axes[1, 3].get_xlabel() == "training step"
    lines = [line for line in axes[0, 3].lines if line.get_label().startswith("sep_col")]
    strongest = ds["prob"].sel(klass="11", concept="color", protocol="naive").isel(run=slice(9, 12))
    np.testing.assert_allclose(lines[3].get_ydata(), strongest.mean("run"), atol=1e-6)
    assert len(axes[0, 3].collections) == 3  # bands; a run of the fourth level diverged, and two seeds have none
    points = [line for line in axes[0, 3].lines if line.get_marker() == "."]
    assert len(points) == 2 and all(len(line.get_xdata()) == ds.sizes["step"] for line in points)
    words = fig.get_suptitle()
    assert words == "mean over seeds with 95 % interval, n = 2 to 3; seeds as points where n < 3"
    few = progress.learning_curves(ds.isel(run=ds["seed"].values < 200)).get_suptitle()
    assert few.startswith("mean over seeds, n = ") and few.endswith(": no 95 % interval, seeds as points")


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
