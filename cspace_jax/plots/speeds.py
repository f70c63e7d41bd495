"""Fig. 3: how fast each concept is learned, against its measured signal."""

from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import censored, intervals, reasons
from cspace_jax.analysis.learning import accuracy_curves, definition_of, times_by
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.plots import style
from cspace_jax.plots.registry import figure

PER = 1000.0  # speeds are shown per 1,000 steps


@figure("fig3", paper="Fig. 3", needs=(reasons.signal,))
@style.styled()
def fig3(ds: xr.Dataset, protocol: str | None = None, definition: str | None = None) -> Figure:
    """Draw learning speed (1 / learning time) against concept signal, one panel a concept (paper Fig. 3).

    The signal is the pixel MSE between classes that differ in the concept. Dots are seeds, large markers Kaplan-Meier
    medians with exact intervals where there are six seeds and more; a seed that never learned sits at zero as an open
    marker, and each level says how many those are. Training classes are averaged, held-out classes drawn one by one.
    Concepts whose signal is not known, as those of labels of pictures, have no panel.
    definition: a key of `LEARNED`, by default that of the configuration.
    """
    protocol, definition = protocol or str(ds["protocol"].values[0]), definition or definition_of(ds)
    found = levels(ds)
    trained = np.flatnonzero(ds["trained"].values).tolist()
    series = [("training classes", trained, style.TRAINED_COLOR, "o")]
    for order, klass in enumerate(unseen(ds)):
        color = style.HELD_OUT_COLOR if order == 0 else style.class_color(klass)
        series.append((f"held-out {style.class_label(ds, klass)}", [klass], color, "Ds^v"[order % 4]))
    known = reasons.known_signals(ds)
    fig = style.new_figure(3.6 * len(known) + 0.4, 3.5)
    for index, ax in zip(known, np.ravel(fig.subplots(1, len(known), squeeze=False)), strict=True):
        times = timer(ds, index, protocol, definition)
        for place, (label, classes, color, marker) in enumerate(series):
            nudge = 1 + 0.025 * (place - (len(series) - 1) / 2)  # so that markers at the same signal stay apart
            places = nudge * np.array([level.signal[index] for level in found])
            draw_series(ax, found, places, times, classes, (label, color, marker), place)
        _finish(ax, ds, index)
    fig.axes[0].set_ylabel(f"learning speed, {definition}  [1 / 1,000 steps]")
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, title=seeds_words(found))
    return fig


def seeds_words(found: Iterable[Level]) -> str:
    """Return the words of a figure of medians over seeds: how many they are, and where intervals are drawn."""
    counts = [len(level.runs) for level in found if level.runs]
    least, most = min(counts, default=0), max(counts, default=0)
    number, needed = f"n = {least}" if least == most else f"n = {least} to {most}", intervals.LEAST_MEDIAN
    if least < needed <= most:
        return f"median over seeds with 95 % interval where n is {needed} and more, {number}"
    told = intervals.missing(most, needed)
    return (
        f"median over seeds, {told.replace(f'n = {most}', number)}"
        if told
        else (f"median over seeds with 95 % interval, {number}")
    )


def timer(
    ds: xr.Dataset, concept: int, protocol: str, definition: str
) -> Callable[..., Float[np.ndarray, " r"]]:  # fmt: skip
    """Return the function from a level and classes to the learning times of a concept [r], by a definition."""

    def times(level: Level, classes: list[int]) -> Float[np.ndarray, " r"]:
        accuracy = accuracy_curves(ds, level.runs, classes, protocol)[..., concept]
        return times_by(definition, ds["step"].values, accuracy)

    return times


def draw_series(
    ax: Axes, found: list[Level], places: Float[np.ndarray, " level"], times: Callable[..., Float[np.ndarray, " r"]],
    classes: list[int], look: tuple[str, str, str], place: int,
) -> None:  # fmt: skip
    """Draw the speeds of levels at the places [level] of the x axis, with the marks that `fig3` describes.

    Args:
      ax: axes.
      found: levels.
      places: their x.
      times: from `timer`.
      classes: classes that are averaged.
      look: label, colour and marker.
      place: number of the series, which moves its words up.
    """
    label, color, marker = look
    line = []
    for level, x in zip(found, map(float, places), strict=True):
        if not level.runs:
            continue
        one = times(level, classes)
        learned = one[np.isfinite(one)]
        ax.plot(np.full(learned.size, x), PER / learned, marker, color=color, ms=3, alpha=0.45, mew=0, zorder=2)
        never = int(np.isnan(one).sum())
        if never:
            _mark_never(ax, x, never, len(one), color, marker, place)
        median = censored.median(one)
        low, high = intervals.median_interval(one)
        # an open end (never learned) is a speed of zero
        fast, slow = PER / low, 0.0 if np.isnan(high) else PER / high
        value = 0.0 if np.isnan(median) else PER / median
        if np.isfinite(fast):
            ax.plot([x, x], [slow, fast], "-", color=color, lw=1.2, zorder=3)
        line.append((x, value))
    if line:
        points = np.array(sorted(line))
        style_of_line = "-" if len(found[0].varying) == 1 else ""
        filled = points[points[:, 1] > 0]
        ax.plot(*points.T, linestyle=style_of_line, color=color, lw=0.8, alpha=0.5, zorder=2)
        ax.plot(*filled.T, marker, color=color, ms=6.5, mec="white", mew=0.7, label=label, zorder=4)


def _mark_never(ax: Axes, x: float, never: int, seeds: int, color: str, marker: str, place: int) -> None:
    ax.plot([x], [0.0], marker, mfc="white", mec=color, ms=6, mew=1.2, zorder=5, clip_on=False, gid="never")
    ax.annotate(
        f"{never}/{seeds} never", (x, 0), xytext=(7, 8 * place - 2), textcoords="offset points", ha="left", va="center",
        fontsize=6.5, color=color, gid="never",
    )  # fmt: skip


def _finish(ax: Axes, ds: xr.Dataset, index: int) -> None:
    name = style.concept_title(str(ds["concept"].values[index]))
    signals = ds["signal"].values[:, index]
    low, high = signals.min(), signals.max()
    ax.set(title=name, xlabel=f"{name} signal  [pixel MSE]")
    if low > 0 and high / low > 3:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    elif high > 0:
        ax.set_xlim(min(0.7 * low, 2 * low - high), 1.3 * high)
    limit_speed(ax)


def limit_speed(ax: Axes) -> None:
    """Let the axis of speeds start at 0 and hold all that is drawn."""
    top = max((np.max(line.get_ydata(), initial=0.0) for line in ax.lines), default=0.0)
    ax.set_ylim(0, 1.1 * top or 1.0)
