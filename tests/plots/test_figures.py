import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import synthetic
import xarray as xr
from matplotlib.axes import Axes
from PIL import Image
from scipy import ndimage

from cspace_jax.analysis import stability
from cspace_jax.analysis.learning import accuracy_curves, default_sigma, describe_times, learning_times, memorisation
from cspace_jax.analysis.levels import levels
from cspace_jax.config import Config, DataConfig
from cspace_jax.errors import UserError
from cspace_jax.plots import (
    animation,
    elicitation,
    figures,
    pictures,
    progress,
    speeds,
    style,
    trajectories,
)
from cspace_jax.plots import embeddings as similarity_plots
from cspace_jax.plots.figures import Inputs, draw_all

CONFIG = Config(study="signal", scale="quick", data=DataConfig(image_size=16))


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(diverged=(4,))


@pytest.fixture(scope="module")
def samples(ds):
    return synthetic.sample_images(ds)


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>" and ax.axison]


def test_images_stand_upright_and_clipped():
    image = np.zeros((4, 6, 3))
    image[3, 0] = 2.0  # x at the right, y at the bottom
    shown = style.upright(image)
    assert shown.shape == (6, 4, 3) and shown[0, 3].tolist() == [1, 1, 1]  # origin="lower": row 0 is the bottom
    assert style.upright(np.full((2, 2, 3), 255, np.uint8)).max() == 1.0


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


def test_fig3_draws_speeds_and_marks_the_unlearned(ds):
    fig = speeds.fig3(ds)
    color, size = panels(fig)
    assert "pixel MSE" in color.get_xlabel() and "steps" in color.get_ylabel() and color.get_xscale() == "log"
    labelled = {line.get_label(): line for line in color.lines if not line.get_label().startswith("_")}
    assert set(labelled) == {"training classes", "held-out 11 (blue, small)"}
    for label, line in labelled.items():
        classes = [0, 1, 2] if label == "training classes" else [3]
        medians = []
        for level in levels(ds):
            accuracy = accuracy_curves(ds, level.runs, classes, "naive")[..., 0]
            medians.append(describe_times(learning_times(ds["step"].values, accuracy)["stays_80"]))
        expected = sorted(1000 / one["median"] for one in medians if np.isfinite(one["median"]))
        np.testing.assert_allclose(sorted(line.get_ydata()), expected)
    never = [line for line in color.lines if line.get_gid() == "never"]
    assert len(never) == 1 and never[0].get_ydata() == [0] and never[0].get_markerfacecolor() == "white"
    assert [text.get_text() for text in color.texts] == ["3/3 never"]
    assert not [line for line in size.lines if line.get_gid() == "never"]


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


def test_files_are_written_and_equal_for_equal_figures(ds, tmp_path):
    paths = [style.save(trajectories.fig4(ds), tmp_path / name) for name in ("a", "b")]
    assert [path.name for path in paths[0]] == ["a.png", "a.pdf"]
    for one, two in zip(*paths, strict=True):
        assert one.read_bytes() == two.read_bytes()
    with Image.open(paths[0][0]) as picture:
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_draw_all_writes_every_name_and_leaves_no_state(ds, samples, tmp_path):
    before = dict(matplotlib.rcParams)
    written = draw_all(Inputs(ds, samples, CONFIG.data), tmp_path, ("fig2", "fig3", "samples"))
    assert sorted(path.name for path in written) == [
        "fig2.pdf", "fig2.png", "fig3.pdf", "fig3.png", "samples.pdf", "samples.png",
    ]  # fmt: skip
    assert all(path.stat().length > 1000 for path in written)
    assert plt.get_fignums() == [] and dict(matplotlib.rcParams) == before
    with pytest.raises(UserError, match="figures = 'fig5': must be one of all, fig2"):
        draw_all(Inputs(ds, samples, CONFIG.data), tmp_path, ("fig5",))


def test_draw_all_says_what_it_leaves_out(ds, tmp_path):
    lines = []
    unknown = ds.assign(signal=ds["signal"] * np.nan)
    assert draw_all(Inputs(unknown, {}, CONFIG.data), tmp_path, ("fig3", "gif", "samples"), lines.append) == []
    assert len(lines) == 3 and "signal was not measured" in lines[0]


def test_figures_that_nobody_named_are_counted_in_one_line(ds, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "names", lambda: ("fig3", "gif", "samples"))
    inputs = Inputs(ds.assign(signal=ds["signal"] * np.nan), {}, CONFIG.data)
    lines = []
    assert draw_all(inputs, tmp_path, ("all",), lines.append) == []
    assert draw_all(inputs, tmp_path, ("all", "gif"), lines.append) == []
    assert [line.split(",")[0] for line in lines] == [
        "3 figures do not apply to this study; --verbose says why",
        "figures: gif left out",
        "2 figures do not apply to this study; --verbose says why",
    ]
    lines.clear()
    assert draw_all(inputs, tmp_path, ("all",), lines.append, verbose=True) == []
    assert [line.split(",")[0] for line in lines] == [f"figures: {name} left out" for name in figures.names()]


@pytest.mark.parametrize("make", ["one level and seed", "all diverged", "two saves"])
def test_small_datasets_are_drawn_in_reduced_form(make, tmp_path):
    ds = {
        "one level and seed": lambda: synthetic.dataset(levels=(0.2,), seeds=(0,), steps=(500, 1000, 5000)),
        "all diverged": lambda: synthetic.dataset(levels=(0.2, 0.4), seeds=(0,), diverged=(0, 1)),
        "two saves": lambda: synthetic.dataset(levels=(0.2, 0.4), seeds=(0, 1), steps=(1, 2)),
    }[make]()
    lines = []
    names = ("fig3", "fig4", "fig12", "gif")
    written = draw_all(Inputs(ds, synthetic.sample_images(ds, every=1), CONFIG.data), tmp_path, names, lines.append)
    assert len(written) == (0 if make == "all diverged" else 7)
    assert bool(lines) == (make == "all diverged")


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


@pytest.fixture(scope="module")
def elicited():
    return synthetic.elicited()


def test_fig17_has_a_line_a_seed_and_their_mean(elicited):
    ds, raw = elicited
    fig = elicitation.fig17(ds)
    own, patched = panels(fig)
    assert patched.get_title() == "(b) patched from the last checkpoint" and own.get_ylabel().startswith("P(class 11")
    level = progress.choose_level(levels(ds), ds, "naive")
    runs = slice(2 * level, 2 * level + 2)
    joint = np.stack([raw[step]["prob_samples"][runs].prod(-1).mean(-1)[..., 0] for step in (500, 2000, 9000)], 1)
    for ax, query in ((own, 0), (patched, 1)):
        lines = {line.get_label(): line.get_ydata() for line in ax.lines}
        np.testing.assert_allclose(lines["seed 1"], joint[1, :, query], rtol=1e-5)
        np.testing.assert_allclose(lines["mean"], joint[:, :, query].mean(0), rtol=1e-5)


def test_many_seeds_are_a_mean_and_a_band_and_a_row_a_kind(elicited):
    ds, _ = elicited
    level = levels(ds)[progress.choose_level(levels(ds), ds, "naive")]
    many = ds.isel(run=np.resize(level.runs, 30)).assign_coords(run=range(30), seed=("run", np.arange(30)))
    fig = elicitation.fig17(many)
    own, patched = panels(fig)
    expected = np.resize(ds["capability"].sel(protocol="naive").isel(run=list(level.runs), klass=3), (30, 3)).mean(0)
    (line,) = [one for one in own.lines if one.get_label() == "mean over seeds"]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert [text.get_text() for text in patched.get_legend().get_texts()] == ["90 % of 30 seeds", "mean over seeds"]
    (table,) = [table for ax in fig.findobj(Axes) for table in ax.tables]
    text = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    rows = [[text[row, column] for column in range(5)] for row in range(1, len(text) // 5)]
    assert sum(int(row[0]) for row in rows) == 30
    seeds = stability.seeds(many, levels(many)[0], 3)
    for number, kind, *times in rows:
        same = [one for one in seeds if one["kind"] == kind]
        medians = [np.median(np.nan_to_num([one[name] for one in same], nan=np.inf)) for name in elicitation._TIMES]
        assert int(number) == len(same)
        assert times == ["never" if np.isinf(one) else f"{one:,.0f}" for one in medians]


def test_fig16_has_a_trajectory_a_weight_and_a_panel_a_level(elicited):
    ds, raw = elicited
    fig = elicitation.fig16(ds)
    weak, strong = panels(fig)
    assert strong.get_title() == "11 (blue, small), sep_col=0.6" and "sep_col=0.2" in weak.get_title()
    labels = [text.get_text() for text in strong.get_legend().get_texts()]
    assert labels == ["0 (no prompt)", "1 (no guidance)", "7"]
    line = next(one for one in strong.lines if one.get_label() == "7")
    mean = np.stack([raw[step]["prob_samples"][2:, 4, 0].mean((0, 1)) for step in (500, 2000, 9000)])
    smoothed = ndimage.gaussian_filter1d(mean, default_sigma(ds), axis=0, truncate=6)
    np.testing.assert_allclose(line.get_xydata(), smoothed, rtol=1e-4)


def test_embeddings_have_a_line_a_block_and_a_panel_a_pair(elicited):
    ds, _ = elicited
    ds, raw = synthetic.embedded(ds)
    axes = panels(similarity_plots.similarities(ds))
    assert [ax.get_title() for ax in axes] == [
        "blue and red",
        "blue and large",
        "blue and small",
        "class 11, to the last step",
    ]
    level = progress.choose_level(levels(ds), ds, "naive")
    expected = [raw[step]["embedding_cosine"][2 * level : 2 * level + 2, 1, 1, 3].mean() for step in raw]
    line = next(one for one in axes[2].lines if one.get_label() == "mid 1")
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert axes[3].lines[0].get_ydata()[-1] == pytest.approx(1.0)


def test_figures_of_what_was_not_measured_are_left_out(ds, tmp_path):
    lines = []
    names = ("fig6", "fig16", "fig17", "embeddings")
    assert draw_all(Inputs(ds, {}, CONFIG.data), tmp_path, names, lines.append) == []
    assert [line.split(",")[0] for line in lines] == [f"figures: {name} left out" for name in names]


def test_the_users_own_settings_of_matplotlib_change_nothing():
    odd = {"text.usetex": True, "figure.dpi": 17, "axes.titlesize": 40, "savefig.bbox": "tight", "axes.linewidth": 9}
    with style.styled():
        usual = dict(matplotlib.rcParams)
    with matplotlib.rc_context(odd):
        with style.styled():
            assert dict(matplotlib.rcParams) == usual
        assert matplotlib.rcParams["figure.dpi"] == 17  # theirs again


def test_figures_of_masking_need_several_fractions(tmp_path):
    lines = []
    names = ("fig7", "fig8", "fig9", "fig10")
    single = synthetic.dataset()
    study = Config(study="signal", scale="quick")
    samples = synthetic.sample_images(single)
    assert figures.draw_all(figures.Inputs(single, samples, study.data), tmp_path, names, show=lines.append) == []
    assert len(lines) == 4 and all("masked fraction does not vary" in line for line in lines)
