"""Two studies side by side: curves overlaid by level, and learning time against learning time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis.learning import samples_of
from cspace_jax.analysis.levels import Level, unseen
from cspace_jax.analysis.side_by_side import SEEN, Pair
from cspace_jax.plots import style

COLUMNS = 4  # panels beside each other
MOST = 12  # levels that are drawn
APART = 3  # ratio of last steps from which the axis of steps is logarithmic
STYLES = ((style.OKABE_ITO[0], style.LINES[0]), (style.OKABE_ITO[3], style.LINES[1]))  # of the first and the second


@style.styled()
def curves(named: Mapping[str, xr.Dataset], pairs: Sequence[Pair]) -> Figure:
    """Draw P(class asked for) of every held-out class against the step, both studies in one panel a level and class.

    Mean over seeds with its 95 % interval as a band. Of many levels, `MOST` evenly spaced ones are drawn, and
    the title says so.
    """
    both = list(named.values())
    shown = [pairs[i] for i in sorted({round(i) for i in np.linspace(0, len(pairs) - 1, min(MOST, len(pairs)))})]
    panels = [(klass, pair) for klass in unseen(both[0]) for pair in shown]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(panels) / columns)
    fig = style.new_figure(2.6 * columns + 0.6, 2.2 * rows + 0.7)
    axes = np.ravel(fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False))
    for ax, (klass, pair) in zip(axes, panels, strict=False):
        for (name, ds), level, (color, line) in zip(named.items(), pair.both, STYLES, strict=True):
            _draw_curve(ax, ds, level, klass, color, line, name)
        ax.set_title(f"{pair.label}: {style.class_label(both[0], klass)}", fontsize=8.5)
        ax.set_ylim(-0.03, 1.03)
        style.step_axis(ax)
        ax.set_ylabel("P(class)")
        ax.label_outer()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    last = [float(ds["step"].values[-1]) for ds in both]
    if max(last) > APART * min(last):
        axes[0].set_xscale("log")
    counts = [len(level.runs) for pair in shown for level in pair.both]
    some = f"; {len(shown)} of {len(pairs)} levels" if len(shown) < len(pairs) else ""
    fig.suptitle(style.band_words(counts) + some, fontsize=8.5)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=3.4)
    return fig


def _draw_curve(ax: Axes, ds: xr.Dataset, level: Level, klass: int, color: Any, line: Any, name: str) -> None:
    protocol = str(ds["protocol"].values[0])
    chosen = ds["joint_prob"].sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
    values, steps = chosen.transpose("run", "step").values, ds["step"].values
    ax.plot(steps, values.mean(axis=0), ls=line, color=color, lw=1.5, label=name)
    style.draw_band(ax, steps, values, samples_of(ds), color)


@style.styled()
def times(found: Mapping[str, Any]) -> Figure:
    """Draw the learning times of `side_by_side.compare`, the second study's against the first's, one point a row.

    Medians with their 95 % intervals; "never" lies beyond the dotted lines; on the grey line both are equal.
    """
    first, second = found["studies"]
    places = list(dict.fromkeys(row["klass"] for row in found["rows"]))
    concepts = list(dict.fromkeys(row["concept"] for row in found["rows"]))
    fig = style.new_figure(2.9 * len(places) + 0.6, 3.5)
    axes = fig.subplots(1, len(places), sharex=True, sharey=True, squeeze=False)[0]
    edges = [1.12 * _latest(found["rows"], side) for side in ("first", "second")]
    for ax, klass in zip(axes, places, strict=True):
        for concept, color, marker in zip(concepts, style.OKABE_ITO, "osD^v<>", strict=False):
            chosen = [row for row in found["rows"] if (row["klass"], row["concept"]) == (klass, concept)]
            _draw_points(ax, chosen, edges, color, marker, concept)
        ax.axline((0, 0), slope=1, color="#8C8C8C", lw=0.8)
        ax.axvline(edges[0], color="#8C8C8C", lw=0.8, ls=":")
        ax.axhline(edges[1], color="#8C8C8C", lw=0.8, ls=":")
        ax.text(0, edges[1], "never", va="bottom", fontsize=7)
        ax.set(
            title="seen classes" if klass == SEEN else f"class {klass}",
            xlabel=f"learned ({found['learned']}) at step in {first}",
        )
    axes[0].set(
        ylabel=f"learned ({found['learned']}) at step in {second}", xlim=(0, 1.06 * edges[0]), ylim=(0, 1.06 * edges[1])
    )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(concepts))
    return fig


def _latest(rows: Sequence[Mapping[str, Any]], side: str) -> float:
    """Return the latest learning time of a study, at least 1."""
    known = [one for row in rows for one in (row[side]["median"], *row[side]["interval"]) if math.isfinite(one)]
    return max(known, default=1.0)


def _draw_points(
    ax: Axes, rows: Sequence[Mapping[str, Any]], edges: Sequence[float], color: str, marker: str, label: str
) -> None:
    sides = ("first", "second")
    points = np.array([[row[side]["median"] for side in sides] for row in rows])
    points = np.where(np.isfinite(points), points, np.array(edges))
    for i, (row, point) in enumerate(zip(rows, points, strict=True)):
        bars = [_bar(row[side], place, edge) for side, place, edge in zip(sides, point, edges, strict=True)]
        ax.errorbar(
            *point, xerr=bars[0], yerr=bars[1], fmt=marker, color=color, ms=5, mfc="none", lw=0.8,
            label=label if i == 0 else None,
        )  # fmt: skip


def _bar(times: Mapping[str, Any], place: float, edge: float) -> Any:
    """Return how far an interval reaches below and above its median [2, 1]; None where there is none."""
    low, high = times["interval"]
    if times["no_interval"] or not math.isfinite(low):
        return None
    return np.array([[max(place - low, 0)], [max((high if math.isfinite(high) else edge) - place, 0)]])
