"""What masked conditionings do to learning: the summary, the figures and the two toy models."""

import io
import json

import numpy as np
import pytest
import synthetic
import xarray as xr
from etils import epath
from rich.console import Console
from scipy import ndimage

from cspace_jax.analysis import identity_mapping, landscape, report, underspecification
from cspace_jax.analysis import levels as signal_levels
from cspace_jax.analysis.levels import Level, ok_runs
from cspace_jax.analysis.summary import summarise
from cspace_jax.config import Config
from cspace_jax.plots import figures, landscapes, style, trajectories
from cspace_jax.plots import underspecification as masked_figures
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked()


def test_numbers_of_the_study(ds):
    assert underspecification.is_swept(ds) and not underspecification.is_swept(synthetic.dataset())
    found = underspecification.summarise(ds)
    assert [found[name] for name in ("masked_concept", "masked_class", "held_out_class")] == ["color", "01", "11"]
    assert [level["mask"] for level in found["levels"]] == [0.0, 0.25, 0.5, 1.0]
    assert [len(level["seeds"]) for level in found["levels"]] == [3, 2, 3, 3]  # one run diverged
    medians = [level["steps_to_80"]["color"]["median"] for level in found["levels"]]
    assert medians[0] < medians[1] < medians[2] and np.isnan(medians[3])
    assert found["slower"]["color"]["ordered"] and not found["slower"]["size"]["ordered"]
    assert found["redness"]["rises"] and found["redness"]["spearman"] == pytest.approx(1.0)
    redness = [level["redness"]["mean"] for level in found["levels"]]
    np.testing.assert_allclose(redness, [-1.0, -0.5, 0.0, 1.0], atol=1e-6)
    assert underspecification.nearest_half(underspecification.mask_groups(ds)[0]).setting["mask"] == 0.5
    reversed_ = ds.assign_coords(mask=("run", 1 - ds["mask"].values))
    found = underspecification.summarise(reversed_)
    assert not found["redness"]["rises"] and not found["slower"]["color"]["ordered"]
    assert not found["redness"]["rises_within_intervals"]


@pytest.mark.parametrize(
    ("means", "within"),
    [((-0.5, 0.0, 0.5), True), ((-0.5, 0.1, 0.0, 0.5), True), ((-0.5, 0.4, 0.0, 0.5), False), ((0.0, 0.1), False)],
)
def test_a_trend_within_intervals_allows_what_seeds_scatter(means, within):
    """Each mean is known to +- .1."""
    spreads = [{"mean": m, "interval": [m - 0.1, m + 0.1], "per_seed": [m - 0.1, m + 0.1]} for m in means]
    levels = [Level("", {"mask": i / 4}, {}, (0, 1), (), (), ()) for i in range(len(means))]
    assert underspecification._trend(levels, spreads)["rises_within_intervals"] is within


def test_report_tells_what_masking_does(ds, tmp_path):
    console = Console(width=100, file=io.StringIO())
    report.report(summarise(ds), Workdir(epath.Path(tmp_path)), console)
    stored = json.loads((tmp_path / "summary.json").read_text())["underspecification"]
    assert stored["levels"][3]["steps_to_80"]["color"]["median"] is None and stored["redness"]["rises"]
    text = " ".join(console.file.getvalue().split())
    assert "Held-out class 11 by the share of class 01 whose color is hidden" in text
    assert "never 0/3" in text and "1.00, 0.20, 0.00" not in text and "1.01, 0.21, 0.01" in text
    assert "red minus blue of class 11 at the end: rises with the masked fraction." in text
    assert "order of the signal" not in text and "stronger signal" not in text  # no signal varies
    mean = np.mean([level["product_check"]["mean"] for level in stored["levels"]])
    assert f"product of the concepts' accuracies: {mean:+.3f} on average" in text


@pytest.fixture
def asked(ds):
    """Two protocols: overprompting draws the masked colour from the third save on, naive prompting and shape never."""
    both = xr.concat([ds, ds.assign_coords(protocol=["overprompt"])], "protocol", data_vars="minimal", join="override")
    elicited = np.zeros((*(both.sizes[name] for name in ("run", "step", "protocol", "klass", "concept")),))
    elicited[:, 2:, 1, 3, 0] = 1.0
    dims = ("run", "step", "protocol", "klass", "concept")
    return both.assign(capability_concept=(dims, elicited), capability_split=(dims[:-1], elicited[..., 1]))


def test_pictures_have_no_colour_of_an_object(ds):
    config = {"study": "images", "scale": "quick", "data": {"source": "images"}}
    pictures = ds.assign_attrs(config=json.dumps(config))
    found = summarise(pictures)
    block = found["underspecification"]
    assert "redness" not in block and not {"redness", "rgb"} & set(block["levels"][0])
    console = Console(width=100, file=io.StringIO())
    report.print_summary(found, console)
    text = console.file.getvalue()
    assert "whose color is hidden" in text and "R - B" not in text and "red minus blue" not in text


def test_a_broken_query_leaves_its_seed_out_of_what_is_elicited(asked):
    broken = asked.copy(deep=True)
    (half,) = [one for one in signal_levels.levels(asked) if one.setting["mask"] == 0.5]
    broken["capability_split"].values[half.runs[0], 3, 1, 3] = np.nan
    for ds, seeds in ((asked, 3), (broken, 2)):
        found = underspecification.summarise(ds)["elicited"]["protocols"]["overprompt"]
        assert found["class"]["steps_to_80"]["seeds"] == len(found["class"]["final"]["per_seed"]) == seeds
        assert found["masked_concept"]["steps_to_80"]["seeds"] == 3


def test_numbers_of_what_is_elicited_at_one_half(asked, tmp_path):
    found = underspecification.summarise(asked)["elicited"]
    assert found["mask"] == 0.5 and list(found["protocols"]) == ["naive", "overprompt"]
    over = found["protocols"]["overprompt"]
    first, second = asked["step"].values[1:3]
    assert first < over["masked_concept"]["steps_to_80"]["median"] <= second
    assert over["masked_concept"]["final"]["mean"] == 1 and over["class"]["steps_to_80"]["learned"] == 0
    assert found["protocols"]["naive"]["masked_concept"]["steps_to_80"]["learned"] == 0
    console = Console(width=100, file=io.StringIO())
    report.print_summary({**summarise(asked), "underspecification": underspecification.summarise(asked)}, console)
    text = console.file.getvalue()
    row = next(line.split() for line in text.splitlines() if line.startswith("overprompt"))
    assert "Elicited at a masked share of 0.5" in text and row[2:] == ["1.00", "never", "0/3", "0.00"]


def test_fig10_shows_the_class_and_the_masked_concept(asked):
    axes = panels(masked_figures.fig10(asked))
    assert [ax.get_ylabel() for ax in axes[::2]] == ["P(class 11 (blue, small))", "P(blue)"]
    assert axes[3].lines[0].get_ydata()[-1] == 1.0 and axes[2].lines[0].get_ydata()[-1] == 0.0
    older = panels(masked_figures.fig10(asked.drop_vars("capability_concept")))
    assert len(older) == 2


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>" and ax.axison]


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


def test_masked_fraction_gives_the_colours_of_other_figures(ds):
    colors, _, index = style.signal_colors(signal_levels.levels(ds))
    assert index == -1 and len(set(colors)) == 4
    bar = next(ax for ax in trajectories.fig4(ds).axes if ax.get_label() == "<colorbar>")
    assert bar.get_ylabel() == "masked fraction"


def test_product_of_accuracies(ds):
    left, right = panels(masked_figures.product(ds))
    held_out = next(line for line in left.lines if line.get_label() == "held out")
    alive = np.flatnonzero(ok_runs(ds))
    naive = ds.isel(run=alive, klass=[3]).sel(protocol="naive")
    assert sorted(held_out.get_ydata()) == sorted(naive["joint_accuracy"].values.ravel())
    np.testing.assert_allclose(sorted(held_out.get_xdata()), sorted(naive["accuracy"].prod("concept").values.ravel()))
    assert right.get_title() == "11 (blue, small)" and len(right.lines) == 5


def test_figures_of_masking_need_several_fractions(tmp_path):
    lines = []
    names = ("fig7", "fig8", "fig9", "fig10")
    single = synthetic.dataset()
    study = Config(study="signal", scale="quick")
    samples = synthetic.sample_images(single)
    assert figures.draw_all(figures.Inputs(single, samples, study.data), tmp_path, names, show=lines.append) == []
    assert len(lines) == 4 and all("masked fraction does not vary" in line for line in lines)


def test_measured_trajectories_are_fitted_by_eq2(ds):
    fig, fits, shared = landscapes.measured(ds)
    assert [level.setting["mask"] for level, _ in fits] == [0.0, 0.25, 0.5, 1.0] and shared is None
    labels = {line.get_label() for line in fig.axes[1].lines}
    assert {"measured", "Eq. 2", "identity mapping"} <= labels


def test_eq2_is_recovered_from_its_own_trajectory():
    steps = np.linspace(0.0, 25.0, 40)
    path = landscape.trajectory(landscape.eq2(0.75, a=1.5, t1=9.0), steps)
    found = landscape.fit(steps, path, actual=(0.25, 1.0))
    assert found.residual < 1e-3 and found.biased == (0.0, 1.0)
    assert found.a == pytest.approx(1.5, rel=0.02) and found.t1 == pytest.approx(9.0, abs=0.1)
    assert landscape.fit(steps, path).residual > 3 * found.residual


def test_identity_mapping_learns_the_stronger_signal_first():
    path = identity_mapping.prediction(np.array([0.02, 0.1]))
    np.testing.assert_allclose(path[0], 0.5, atol=0.01)
    np.testing.assert_allclose(path[-1], 1.0, atol=0.01)
    assert path[:, 1].mean() > path[:, 0].mean() + 0.05


def test_results_older_than_a_setting_are_read_at_its_default(tmp_path):
    old = synthetic.dataset(levels=(0.2,), seeds=(0,)).drop_vars("mask")
    results.write_results(old.assign_coords(mask=("run", [0.0])), Workdir(epath.Path(tmp_path)))
    assert results.open_results(tmp_path)["mask"].values.tolist() == [0.0]
    old.to_netcdf(tmp_path / "concept_space.nc", engine="h5netcdf")
    assert results.open_results(tmp_path)["mask"].values.tolist() == [0.0]
