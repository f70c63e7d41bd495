"""Figs. 7 to 10: what masking a concept in part of the training conditionings does to the unseen class."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from cspace_jax.analysis import capability, curves, intervals, reasons, underspecification
from cspace_jax.analysis.learning import default_sigma, definition_of, trajectory
from cspace_jax.analysis.levels import Level, held_out, levels, setting_label
from cspace_jax.plots import elicitation, speeds, style
from cspace_jax.plots.registry import figure, rendered_images, stored_samples
from cspace_jax.plots.trajectories import concept_square, draw_path

Samples = Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]
SERIES = ((style.OKABE_ITO[0], "o"), (style.OKABE_ITO[1], "D"), (style.OKABE_ITO[2], "s"))  # a concept each
CHANNEL_COLORS = {"r": "#C8102E", "g": "#2E8B57", "b": "#1F4FD8"}
SEEDS_SHOWN = 3
SAMPLES_SHOWN = 4


def percent(fraction: float) -> str:
    """Return a masked fraction as printed in figures: whole per cents with their sign, others as they are."""
    share = round(100 * fraction, 6)  # 0.29 * 100 is not 29
    return f"{share:.0f}%" if share == round(share) else f"{fraction:.3g}"


def _seeds_in_common(ds: xr.Dataset, samples: Samples) -> str:
    return "" if _common_groups(ds) else "every seed diverged at some masked fraction"


def _common_groups(ds: xr.Dataset) -> list[list[Level]]:
    return [found for found in underspecification.mask_groups(ds) if underspecification.common_seeds(ds, found)]


def _parts(width: float, heights: Sequence[float]) -> tuple[Figure, list[FigureBase]]:
    """Return a figure with a part for each group of levels, and the parts, one above the other.

    Width and heights are in inches.
    """
    fig = style.new_figure(width, sum(heights))
    if len(heights) == 1:
        return fig, [fig]
    return fig, list(np.ravel(fig.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)))


def _title(found: list[Level], *words: str) -> str:
    """Return the title of a group's part: the settings that it does not share with other groups, and more words."""
    return ", ".join(filter(None, (setting_label(underspecification.group_setting(found)), *words)))


@figure("fig7", paper="Fig. 7", needs=(reasons.masked_fractions, _seeds_in_common, stored_samples))
@style.styled()
def fig7(ds: xr.Dataset, samples: Samples) -> Figure:
    """Draw samples of the held-out class at the last save, a row for each masked fraction (paper Fig. 7).

    samples: step -> uint8 [r, k, n, h, w, 3]. Columns: up to three seeds that diverged at no fraction, the
    same ones and the same starting noise in every row. A part a group of levels that differ in the fraction alone;
    groups without such a seed are left out.
    """
    groups = _common_groups(ds)
    last = samples[max(samples)]
    columns = max(min(SEEDS_SHOWN, len(underspecification.common_seeds(ds, found))) for found in groups)
    width = 0.72 * columns * min(SAMPLES_SHOWN, last.shape[2]) + 1.0
    fig, parts = _parts(width, [0.74 * len(found) + 0.7 for found in groups])
    asked = f"asked for {style.class_label(ds, held_out(ds))}, by masked share of {_masked_words(ds)}"
    for part, found in zip(parts, groups, strict=True):
        _draw_samples(part, ds, last, found, columns)
        part.suptitle("\n".join(filter(None, (asked if found is groups[0] else "", _title(found)))), fontsize=9)
    return fig


def _draw_samples(
    part: FigureBase, ds: xr.Dataset, images: UInt8[np.ndarray, "r k n h w 3"], found: list[Level], seeds: int
) -> None:
    """Draw a group's samples [r, k, n, h, w, 3], room for so many seeds in a row."""
    klass, shown = held_out(ds), min(SAMPLES_SHOWN, images.shape[2])
    common = underspecification.common_seeds(ds, found)[:SEEDS_SHOWN]
    grid = np.reshape(part.subplots(len(found), seeds * shown, squeeze=False), (len(found), seeds, shown))
    for ax in np.ravel(grid[:, len(common) :]):
        ax.set_axis_off()
    for level, row in zip(found, grid[:, : len(common)], strict=True):
        run_of = {int(ds["seed"].values[run]): run for run in level.runs}
        for seed, axes in zip(common, row, strict=True):
            for number, ax in enumerate(axes):
                style.show_image(ax, images[run_of[seed], klass, number])
            if level is found[0]:
                axes[0].set_title(f"seed {seed}", fontsize=8, loc="left")
        row[0, 0].set_ylabel(percent(level.setting["mask"]), rotation=0, ha="right", va="center")


def _masked_words(ds: xr.Dataset) -> str:
    concept, klass = underspecification.masked(ds)
    return f"{style.class_label(ds, klass)} without {style.concept_title(str(ds['concept'].values[concept]))}"


@figure("fig8", paper="Fig. 8", needs=(reasons.masked_fractions,))
@style.styled()
def fig8(ds: xr.Dataset, protocol: str | None = None) -> Figure:
    """Draw the speed at which each concept is learned against the masked fraction (paper Fig. 8).

    Left the held-out class, right the masked training class when it is asked for in full. Speed is 1 / learning time
    by the definition on its axis; marks as in Fig. 3, "never" included. A row a group of levels that differ in the
    fraction alone.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    groups = underspecification.mask_groups(ds)
    fig, parts = _parts(7.4, [3.3, *[3.2] * (len(groups) - 1)])
    for part, found in zip(parts, groups, strict=True):
        _draw_speeds(part, ds, found, protocol)
        if len(groups) > 1:
            part.suptitle(_title(found), fontsize=9)
    words = speeds.seeds_words(level for found in groups for level in found)
    fig.legend(*fig.axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=3, title=words)
    return fig


def _draw_speeds(part: FigureBase, ds: xr.Dataset, found: list[Level], protocol: str) -> None:
    definition = definition_of(ds)
    _, masked_class = underspecification.masked(ds)
    panels = (held_out(ds), "held out"), (masked_class, "masked")
    left, right = part.subplots(1, 2)
    for ax, (klass, word) in zip((left, right), panels, strict=True):
        for concept, name in enumerate(map(str, ds["concept"].values)):
            look = (style.concept_title(name), *SERIES[concept % len(SERIES)])
            places = underspecification.fractions(found) + 0.012 * (concept - (ds.sizes["concept"] - 1) / 2)
            speeds.draw_series(
                ax, found, places, speeds.timer(ds, concept, protocol, definition), [klass], look, concept
            )
        ax.set(title=f"{word}: {style.class_label(ds, klass)}", xlim=(-0.06, 1.2))
        _fraction_axis(ax, found)
        speeds.limit_speed(ax)
    left.set_ylabel(f"learning speed, {definition}  [1 / 1,000 steps]")


def _fraction_axis(ax: Axes, found: list[Level]) -> None:
    ax.set_xlabel("masked fraction")
    ax.set_xticks(underspecification.fractions(found), [percent(level.setting["mask"]) for level in found])


@figure("fig9", paper="Fig. 9", needs=(reasons.masked_fractions, rendered_images))
@style.styled()
def fig9(ds: xr.Dataset, protocol: str | None = None, sigma: float | None = None) -> Figure:
    """Draw where the held-out class goes at each masked fraction: in concept space and in colour (paper Fig. 9a).

    Left: mean trajectories over seeds, smoothed as Fig. 4, the masked concept across. Middle: each point is the mean
    RGB of the drawn objects, over training. Right: the same at the last save, a dot a seed, means with 95 %
    intervals over seeds (3 and more). A row a group of levels that differ in the fraction alone. The second half of
    the paper's figure, Eq. 2, is drawn by experiments/landscape.py.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    sigma = default_sigma(ds) if sigma is None else sigma
    groups = underspecification.mask_groups(ds)
    fig, parts = _parts(11.4, [3.4] * len(groups))
    for part, found in zip(parts, groups, strict=True):
        left, middle, right = part.subplots(1, 3, width_ratios=(1.0, 1.25, 1.0))
        _draw_paths(left, ds, found, protocol, sigma)
        _draw_colors(middle, ds, found, held_out(ds), protocol)
        _draw_final(right, ds, found, held_out(ds), protocol)
        if len(groups) > 1:
            part.suptitle(_title(found), fontsize=9)
    return fig


def _draw_paths(ax: Axes, ds: xr.Dataset, found: list[Level], protocol: str, sigma: float) -> None:
    pair, klass = underspecification.axes(ds), held_out(ds)
    every = np.unique(np.concatenate([underspecification.fractions(one) for one in underspecification.mask_groups(ds)]))
    shades = dict(zip(every.tolist(), style.shades(len(every)), strict=True))  # the same in all groups
    for level in found:
        path = curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(0), sigma)
        draw_path(ax, path[:, list(pair)], shades[level.setting["mask"]], percent(level.setting["mask"]))
    concept_square(ax, ds, pair)
    ax.set_title(f"{style.class_label(ds, klass)} by masked fraction")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(6, len(found)), fontsize=7, columnspacing=1.2)


def _draw_colors(ax: Axes, ds: xr.Dataset, found: list[Level], klass: int, protocol: str) -> None:
    for row, level in enumerate(found):
        rgb = underspecification.colors(ds, level, klass, protocol).mean(0)
        ax.scatter(ds["step"].values, np.full(len(rgb), row), s=95, c=np.clip(rgb, 0, 1), edgecolor="#888888", lw=0.4)
    ax.set_yticks(range(len(found)), [percent(level.setting["mask"]) for level in found])
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
    ax.set(ylim=(-0.03, 1.06), ylabel="mean RGB")
    ax.set_title(f"at step {ds['step'].values[-1]:,}\n{style.band_words(len(one) for one in last)}", fontsize=8)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _fraction_axis(ax, found)


@figure("fig10", paper="Fig. 10", needs=(reasons.masked_fractions, reasons.further_protocols))
@style.styled()
def fig10(ds: xr.Dataset) -> Figure:
    """Draw what protocols elicit in every seed at the masked fraction closest to 50 %: naive, overprompting, controls.

    Above: P(class asked for); below: P(value of the masked concept) alone, for studies in which the other concept is
    learned late. Paper Fig. 10, which has the upper row of the first two. The query of a protocol is chosen on one half
    of the samples and scored on the other; as many random directions of the same length have a panel of their own.
    A part a group of levels that differ in the fraction alone.
    """
    klass, groups = held_out(ds), underspecification.mask_groups(ds)
    names = [name for name in elicitation.FIG10 if name in ds["protocol"].values]
    rows = [elicitation.Row(klass, "capability_split")]
    if capability.CONCEPT in ds:  # else the results are of an older version
        rows.append(elicitation.Row(klass, capability.CONCEPT, underspecification.masked(ds)[0]))
    width, height = elicitation.panel_size(rows, names)
    fig, parts = _parts(width, [height] * len(groups))
    for part, found in zip(parts, groups, strict=True):
        level = underspecification.nearest_half(found)
        elicitation.seed_panels(part, ds, level, rows, names)
        part.suptitle(_title(found, f"{percent(level.setting['mask'])} masked"), fontsize=9)
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
    lines, legend = style.line_styles(ds, found)
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
    klass = held_out(ds)
    for level, color, line in zip(found, shades, lines, strict=True):
        one = ds.sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
        difference = (one["joint_accuracy"] - one["accuracy"].prod("concept")).mean("run")
        right.plot(ds["step"].values, difference.values, ls=line, color=color, label=level.label)
    right.axhline(0.0, color="#888888", lw=0.8)
    right.set(title=f"{style.class_label(ds, klass)}", ylabel="accuracy on all concepts - product")
    style.step_axis(right)
    if len(found) > 1:
        style.signal_bar(fig, scale, ds, index, right)
    style.line_legend(fig, legend)
    return fig
