"""Figs. 7 to 10: what masking a concept in part of the training conditionings does to the unseen class."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import capability, curves, intervals, underspecification
from cspace_jax.analysis.learning import default_sigma, definition_of, trajectory
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.plots import elicitation, speeds, style
from cspace_jax.plots.registry import figure, further_protocols, rendered_images, stored_samples
from cspace_jax.plots.trajectories import concept_square, draw_path

Samples = Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]
SERIES = ((style.OKABE_ITO[0], "o"), (style.OKABE_ITO[1], "D"), (style.OKABE_ITO[2], "s"))  # a concept each
CHANNEL_COLORS = {"r": "#C8102E", "g": "#2E8B57", "b": "#1F4FD8"}
SEEDS_SHOWN = 3
SAMPLES_SHOWN = 4


def percent(level: Level) -> str:
    """Return a level's masked fraction as printed in figures."""
    return f"{level.setting['mask']:.3g}" if level.setting["mask"] * 100 % 1 else f"{level.setting['mask']:.0%}"


def _mask_varies(ds: xr.Dataset, samples: Samples) -> str:
    return "" if underspecification.is_swept(ds) else "the masked fraction does not vary (grid.mask)"


def _seeds_in_common(ds: xr.Dataset, samples: Samples) -> str:
    return "" if underspecification.common_seeds(ds) else "every seed diverged at some masked fraction"


@figure("fig7", paper="Fig. 7", needs=(stored_samples, _mask_varies, _seeds_in_common))
@style.styled()
def fig7(ds: xr.Dataset, samples: Samples) -> Figure:
    """Draw samples of the held-out class at the last save, a row for each masked fraction (paper Fig. 7).

    samples: step -> uint8 [r, k, n, h, w, 3]. Columns: up to three seeds that diverged at no fraction, the
    same ones and the same starting noise in every row.
    """
    found, klass = underspecification.mask_levels(ds), underspecification.held_out(ds)
    last = samples[max(samples)]
    shown = min(SAMPLES_SHOWN, last.shape[2])
    runs = [{int(ds["seed"].values[run]): run for run in level.runs} for level in found]
    common = underspecification.common_seeds(ds)[:SEEDS_SHOWN]
    seeds = len(common)
    fig = style.new_figure(0.72 * seeds * shown + 1.0, 0.74 * len(found) + 0.7)
    grid = np.reshape(fig.subplots(len(found), seeds * shown, squeeze=False), (len(found), seeds, shown))
    for level, row, run_of in zip(found, grid, runs, strict=True):
        for seed, axes in zip(common, row, strict=True):
            for number, ax in enumerate(axes):
                style.show_image(ax, last[run_of[seed], klass, number])
            if level is found[0]:
                axes[0].set_title(f"seed {seed}", fontsize=8, loc="left")
        row[0, 0].set_ylabel(percent(level), rotation=0, ha="right", va="center")
    fig.suptitle(f"asked for {style.class_label(ds, klass)}, by masked share of {_masked_words(ds)}", fontsize=9)
    return fig


def _masked_words(ds: xr.Dataset) -> str:
    concept, klass = underspecification.masked(ds)
    return f"{style.class_label(ds, klass)} without {style.concept_title(str(ds['concept'].values[concept]))}"


@figure("fig8", paper="Fig. 8", needs=(_mask_varies,))
@style.styled()
def fig8(ds: xr.Dataset, protocol: str | None = None) -> Figure:
    """Draw the speed at which each concept is learned against the masked fraction (paper Fig. 8).

    Left the held-out class, right the masked training class when it is asked for in full. Speed is 1 / learning time
    by the definition on its axis; marks as in Fig. 3, "never" included.
    """
    protocol, definition = protocol or str(ds["protocol"].values[0]), definition_of(ds)
    found = underspecification.mask_levels(ds)
    _, masked_class = underspecification.masked(ds)
    fig = style.new_figure(7.4, 3.3)
    panels = (underspecification.held_out(ds), "held out"), (masked_class, "masked")
    for ax, (klass, word) in zip(fig.subplots(1, 2), panels, strict=True):
        for concept, name in enumerate(map(str, ds["concept"].values)):
            look = (style.concept_title(name), *SERIES[concept % len(SERIES)])
            places = underspecification.fractions(found) + 0.012 * (concept - (ds.sizes["concept"] - 1) / 2)
            speeds.draw_series(
                ax, found, places, speeds.timer(ds, concept, protocol, definition), [klass], look, concept
            )
        ax.set(title=f"{word}: {style.class_label(ds, klass)}", xlim=(-0.06, 1.2))
        _fraction_axis(ax, found)
        speeds.limit_speed(ax)
    fig.axes[0].set_ylabel(f"learning speed, {definition}  [1 / 1,000 steps]")
    fig.legend(*fig.axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def _fraction_axis(ax: Axes, found: list[Level]) -> None:
    ax.set_xlabel("masked fraction")
    ax.set_xticks(underspecification.fractions(found), [percent(level) for level in found])


@figure("fig9", paper="Fig. 9", needs=(_mask_varies, rendered_images))
@style.styled()
def fig9(ds: xr.Dataset, protocol: str | None = None, sigma: float | None = None) -> Figure:
    """Draw where the held-out class goes at each masked fraction: in concept space and in colour (paper Fig. 9a).

    Left: mean trajectories over seeds, smoothed as Fig. 4, the masked concept across. Middle: each point is the mean
    RGB of the drawn objects, over training. Right: the same at the last save, a dot a seed, means with 95 % intervals
    over seeds (3 and more). The second half of the paper's figure, Eq. 2, is drawn by experiments/landscape.py.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    sigma = default_sigma(ds) if sigma is None else sigma
    found, klass = underspecification.mask_levels(ds), underspecification.held_out(ds)
    fig = style.new_figure(11.4, 3.4)
    left, middle, right = fig.subplots(1, 3, width_ratios=(1.0, 1.25, 1.0))
    pair = underspecification.axes(ds)
    for level, shade in zip(found, style.shades(len(found)), strict=True):
        path = curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(0), sigma)
        draw_path(left, path[:, list(pair)], shade, percent(level))
    concept_square(left, ds, pair)
    left.set_title(f"{style.class_label(ds, klass)} by masked fraction")
    left.legend(loc="center right", fontsize=7)
    _draw_colors(middle, ds, found, klass, protocol)
    _draw_final(right, ds, found, klass, protocol)
    return fig


def _draw_colors(ax: Axes, ds: xr.Dataset, found: list[Level], klass: int, protocol: str) -> None:
    for row, level in enumerate(found):
        rgb = underspecification.colors(ds, level, klass, protocol).mean(0)
        ax.scatter(ds["step"].values, np.full(len(rgb), row), s=95, c=np.clip(rgb, 0, 1), edgecolor="#888888", lw=0.4)
    ax.set_yticks(range(len(found)), [percent(level) for level in found])
    ax.set(ylim=(-0.6, len(found) - 0.4), title="mean colour of the object", ylabel="masked fraction")
    style.step_axis(ax)


def _draw_final(ax: Axes, ds: xr.Dataset, found: list[Level], klass: int, protocol: str) -> None:
    places = underspecification.fractions(found)
    last = [underspecification.colors(ds, level, klass, protocol)[:, -1] for level in found]
    for i, name in enumerate(map(str, ds["channel"].values)):
        color = CHANNEL_COLORS[name]
        ends = np.array([intervals.mean_interval(one[:, i]) for one in last])
        ax.plot(places, [one[:, i].mean() for one in last], "-", color=color, lw=1.4, label=name.upper())
        ax.vlines(places, *ends.T, color=color, lw=1.4)
        for place, one in zip(places, last, strict=True):
            ax.plot(np.full(len(one), place), one[:, i], ".", color=color, ms=4, alpha=0.5)
    for place, one in zip(places, last, strict=True):
        ax.plot(place, 1.0, "s", color=tuple(np.clip(one.mean(0), 0, 1)), ms=9, clip_on=False)
    ax.set(ylim=(-0.03, 1.06), title=f"at step {ds['step'].values[-1]:,}", ylabel="mean RGB")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _fraction_axis(ax, found)


@figure("fig10", paper="Fig. 10", needs=(_mask_varies, further_protocols))
@style.styled()
def fig10(ds: xr.Dataset) -> Figure:
    """Draw what protocols elicit in every seed at the masked fraction closest to 50 %: naive, overprompting, controls.

    Above: P(class asked for); below: P(value of the masked concept) alone, for studies in which the other concept is
    learned late. Paper Fig. 10, which has the upper row of the first two. The query of a protocol is chosen on one half
    of the samples and scored on the other; as many random directions of the same length have a panel of their own.
    """
    level, klass = underspecification.nearest_half(ds), underspecification.held_out(ds)
    names = [name for name in elicitation.FIG10 if name in ds["protocol"].values]
    rows = [elicitation.Row(klass, "capability_split")]
    if capability.CONCEPT in ds:  # else the results are of an older version
        rows.append(elicitation.Row(klass, capability.CONCEPT, underspecification.masked(ds)[0]))
    fig = elicitation.seed_panels(ds, level, rows, names)
    fig.suptitle(f"{percent(level)} masked", fontsize=9)
    return fig


@figure("product")
@style.styled()
def product(ds: xr.Dataset, protocol: str | None = None) -> Figure:
    """Draw joint accuracy against the product of the concepts' accuracies: equal if concepts fail independently.

    Left: every seed and save, training and held-out classes. Right: their difference in the held-out class over
    training, mean over seeds, a line a level. Source of the question: Okawa et al. (2023), multiplicative emergence.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    found = [level for level in levels(ds) if level.runs]
    shades, scale, index = style.signal_colors(found)
    fig = style.new_figure(7.8, 3.3)
    left, right = fig.subplots(1, 2)
    alive = ds.sel(protocol=protocol).isel(run=[run for level in found for run in level.runs])
    expected = alive["accuracy"].prod("concept")
    trained = ds["trained"].values
    for chosen, color, label in (
        (trained, style.TRAINED_COLOR, "trained"),
        (~trained, style.HELD_OUT_COLOR, "held out"),
    ):
        points = [one.isel(klass=chosen).transpose("run", "step", "klass").values.ravel() for one in
                  (expected, alive["joint_accuracy"])]  # fmt: skip
        left.plot(*points, ".", ms=4, alpha=0.35, color=color, label=label, mew=0)
    left.plot([0, 1], [0, 1], "-", color="#888888", lw=0.8)
    left.set(xlabel="product of the concepts' accuracies", ylabel="accuracy on all concepts", aspect="equal")
    left.legend(loc="upper left")
    klass = underspecification.held_out(ds)
    for level, color in zip(found, shades, strict=True):
        one = ds.sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
        difference = (one["joint_accuracy"] - one["accuracy"].prod("concept")).mean("run")
        right.plot(ds["step"].values, difference.values, color=color, label=level.label)
    right.axhline(0.0, color="#888888", lw=0.8)
    right.set(title=f"{style.class_label(ds, klass)}", ylabel="accuracy on all concepts - product")
    style.step_axis(right)
    if len(found) > 1:
        style.signal_bar(fig, scale, ds, index, right)
    return fig
