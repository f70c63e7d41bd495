"""Fig. 12 and learning curves: what loss, accuracy and concept space show of the same training."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import default_sigma, memorisation, reached, samples_of, trajectory
from cspace_jax.analysis.levels import Level, by_signal, levels, swept_concept, unseen
from cspace_jax.config.definitions import THRESHOLD
from cspace_jax.plots import style
from cspace_jax.plots.registry import figure
from cspace_jax.plots.trajectories import concept_square
from cspace_jax.storage import results
from cspace_jax.text import counted

SPLIT_COLORS = {"validation": "#222222", "test": style.HELD_OUT_COLOR}


def min_vlb(data_noise: float) -> float:
    """Return the smallest possible loss [bits / dim]: log2(2 pi data_noise^2) / 2 (reference implementation)."""
    return float(np.log2(2 * np.pi * data_noise**2) / 2)


def choose_level(found: list[Level], ds: xr.Dataset, protocol: str) -> int:
    """Return the position of the weakest level at which the held-out classes are learned, else of the strongest.

    Learned means that at least half of the seeds end with each held-out class at 80 %. That is where memorisation and
    the later turn are seen best. "Weak" is by the swept concept's signal, or by the order of the levels where none is
    known. Return 0 where every run diverged.
    """
    order = by_signal(found, swept_concept(found))
    for i in order:
        counts = [reached(ds, found[i], klass, protocol) for klass in unseen(ds)]
        if all(count["persistent"] * 2 >= count["seeds"] for count in counts):
            return i
    return order[-1] if order else 0


@figure("fig12", paper="Fig. 12")
@style.styled()
def fig12(ds: xr.Dataset, level: int | None = None, protocol: str | None = None, sigma: float | None = None) -> Figure:
    """Draw loss, accuracy and trajectory of one level side by side (paper Fig. 12); mean over its seeds.

    level is a position in `analysis.levels`; None takes `choose_level`. The loss is shown above its smallest possible
    value on a log axis, as in the paper; where the noise schedule is fixed, the diffusion term alone, because the
    others are constants that would hide the curve (650 bits / dim at quick scale). Accuracy is the joint accuracy of
    each class. A star marks the turning point.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    sigma = default_sigma(ds) if sigma is None else sigma
    found = levels(ds)
    chosen = found[choose_level(found, ds, protocol) if level is None else level]
    fig = style.new_figure(10.6, 3.5)
    left, middle, right = fig.subplots(1, 3)
    if chosen.runs:
        _loss_panel(left, ds, chosen)
        _accuracy_panel(middle, ds, chosen, protocol)
        _trajectory_panel(right, ds, chosen, protocol, sigma)
    pair = (0, min(1, ds.sizes["concept"] - 1))
    concept_square(right, ds, pair)
    right.set_title("(c) concept space")
    fig.suptitle(f"{chosen.label}, mean of {counted(len(chosen.runs), 'seed')}", fontsize=10)
    return fig


def _loss_panel(ax: Axes, ds: xr.Dataset, level: Level) -> None:
    losses = ds["loss"].isel(run=list(level.runs))
    if _schedule_is_fixed(ds):
        shown, words = losses.sel(term="diffusion"), "diffusion term of the loss  [bits / dim]"
    else:
        shown = losses.sel(term="total") - min_vlb(level.setting["data_noise"])
        words = "loss above its minimum  [bits / dim]"
    names = {"validation": "validation (training classes)", "test": "test (held-out classes)"}
    for split in map(str, ds["split"].values):
        values = shown.sel(split=split).transpose("run", "step").values
        ax.plot(ds["step"].values, values.mean(axis=0), color=SPLIT_COLORS[split], label=names[split])
    style.step_axis(ax)
    ax.set(title="(a) loss", ylabel=words)
    drawn = np.concatenate([line.get_ydata() for line in ax.lines])
    if np.isfinite(drawn).any() and np.nanmin(drawn) > 0:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")  # 0.2, not 2 x 10^-1
        ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    ax.legend()


def _schedule_is_fixed(ds: xr.Dataset) -> bool:
    """Return whether the noise schedule is not learned: reconstruction and latent terms then hang on no parameter."""
    schedule = results.config_of(ds).get("diffusion", {}).get("schedule", "")
    return schedule.startswith("fixed")


def _accuracy_panel(ax: Axes, ds: xr.Dataset, level: Level, protocol: str) -> None:
    chosen = ds["joint_accuracy"].sel(protocol=protocol).isel(run=list(level.runs))
    for klass, trained in enumerate(ds["trained"].values):
        values = chosen.isel(klass=klass).transpose("run", "step").values
        ax.plot(ds["step"].values, values.mean(axis=0), "-" if trained else "--", color=style.class_color(klass),
                label=style.class_label(ds, klass))  # fmt: skip
    ax.axhline(THRESHOLD, color="#999999", lw=0.8, ls=":")
    style.step_axis(ax)
    ax.set(title="(b) accuracy on all concepts", ylabel="accuracy", ylim=(-0.03, 1.03))
    ax.legend(loc="center right", fontsize=7)


def _trajectory_panel(ax: Axes, ds: xr.Dataset, level: Level, protocol: str, sigma: float) -> None:
    pair = [0, min(1, ds.sizes["concept"] - 1)]
    for klass, trained in enumerate(ds["trained"].values):
        path = curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(axis=0), sigma)
        color = style.class_color(klass)
        ax.plot(*path[:, pair].T, "-" if trained else "--", color=color, zorder=3)
        ax.plot(*path[-1, pair], "s", color=color, mec="white", ms=6, mew=0.7, zorder=5)
        if trained:
            continue
        step = memorisation(ds, level, klass, protocol, sigma)["turning_step"]
        if np.isfinite(step):
            at = int(np.flatnonzero(ds["step"].values == step)[0])
            ax.plot(*path[at, pair], "*", color=color, mec="black", ms=12, mew=0.6, zorder=6)
            ax.annotate(
                f"turn at {step:,.0f}", tuple(path[at, pair]), xytext=(8, -12), textcoords="offset points", fontsize=7
            )


@figure("curves")
@style.styled()
def learning_curves(ds: xr.Dataset, protocol: str | None = None) -> Figure:
    """Draw the coordinates of every class against the training step: rows concepts, columns classes, a line a level.

    Mean over seeds with its 95 % interval as a band (3 seeds and more), unsmoothed; the thin grey line is the class's
    true value. Colours and dashes of the levels as in Fig. 4.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    found = levels(ds)
    colors, scale, index = style.signal_colors(found)
    lines, legend = style.line_styles(ds, found)
    rows, columns = ds.sizes["concept"], ds.sizes["klass"]
    fig = style.new_figure(2.5 * columns + 1.0, 2.1 * rows + 0.5)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for level, color, line in zip(found, colors, lines, strict=True):
        if level.runs:
            _draw_level(axes, ds, level, color, line, protocol)
    _label_grid(axes, ds)
    fig.suptitle(style.band_words(len(level.runs) for level in found if level.runs), fontsize=8.5)
    if len(found) > 1:
        style.signal_bar(fig, scale, ds, index, list(axes.ravel()))
    style.line_legend(fig, legend)
    return fig


def _draw_level(axes: Any, ds: xr.Dataset, level: Level, color: Any, line: Any, protocol: str) -> None:
    chosen = ds["prob"].sel(protocol=protocol).isel(run=list(level.runs))
    values = chosen.transpose("run", "concept", "klass", "step").values
    for row, column in np.ndindex(axes.shape):
        ax = axes[row, column]
        ax.plot(ds["step"].values, values[:, row, column].mean(axis=0), ls=line, color=color, lw=1.3, label=level.label)
        style.draw_band(ax, ds["step"].values, values[:, row, column], samples_of(ds), color)


def _label_grid(axes: np.ndarray, ds: xr.Dataset) -> None:
    for klass, ax in enumerate(axes[0]):
        held_out = "" if ds["trained"].values[klass] else ", held out"
        ax.set_title(f"{style.class_label(ds, klass)}{held_out}", fontsize=8.5)
        style.step_axis(axes[-1, klass])
    for row, name in enumerate(map(str, ds["concept"].values)):
        axes[row, 0].set_ylabel(style.probability_label(ds, name))
        axes[row, 0].set_ylim(-0.03, 1.03)
        for klass, ax in enumerate(axes[row]):
            ax.axhline(float(ds["bit"].values[klass, row]), color="#888888", lw=0.9, ls=":")
