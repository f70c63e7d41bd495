"""Figs. 4 and 13: learning trajectories in concept space, one curve a signal level."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import default_sigma, trajectory
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.plots import style
from cspace_jax.plots.registry import figure

Images = Mapping[int, Real[np.ndarray, "h w 3"]]


@figure("fig4", paper="Fig. 4")
@style.styled()
def fig4(ds: xr.Dataset, protocol: str | None = None, raw: bool = False, corner_images: Images | None = None) -> Figure:
    """Draw the trajectories of class 00 (a), of each held-out class (b), and of all training classes (paper Fig. 4).

    Mean over seeds, one curve a level, coloured by normalised signal; dashes tell settings without a signal
    (`style.line_styles`); smoothed as published unless `raw`. A circle
    marks the first save, a square the last. With more than two concepts the first two are shown. corner_images: class
    index -> image [h, w, 3], put beside the corners instead of words (two concepts only).
    """
    trained, plain = ds["trained"].values, int(np.argmin(ds["bit"].values.sum(axis=1)))
    panels = [(f"(a) trained: {style.class_label(ds, plain)}", [plain])] if trained[plain] else []
    for klass in np.flatnonzero(~trained):
        panels.append((f"(b) held out: {style.class_label(ds, int(klass))}", [int(klass)]))
    panels.append(("all training classes", np.flatnonzero(trained).tolist()))
    columns = len(panels) if len(panels) <= 4 else -(-len(panels) // 2)
    return _panels(ds, [(title, classes, (0, min(1, ds.sizes["concept"] - 1))) for title, classes in panels],
                   columns, protocol, raw, corner_images)  # fmt: skip


@figure("fig13", paper="Fig. 13")
@style.styled()
def fig13(
    ds: xr.Dataset, protocol: str | None = None, raw: bool = False, corner_images: Images | None = None
) -> Figure:
    """Draw the trajectories of all classes, one panel a class and pair of concepts (paper Fig. 13)."""
    number = ds.sizes["concept"]
    pairs = list(itertools.combinations(range(number), 2)) or [(0, 0)]
    panels = []
    for pair in pairs:
        for klass, trained in enumerate(ds["trained"].values):
            title = f"{style.class_label(ds, klass)}{'' if trained else ', held out'}"
            panels.append((title, [klass], pair))
    columns = 4 if len(panels) <= 8 else ds.sizes["klass"]
    return _panels(ds, panels, columns, protocol, raw, corner_images)


def _panels(
    ds: xr.Dataset, panels: Sequence[tuple[str, list[int], tuple[int, int]]], columns: int, protocol: str | None,
    raw: bool, corner_images: Images | None,
) -> Figure:  # fmt: skip
    protocol = protocol or str(ds["protocol"].values[0])
    found = levels(ds)
    colors, scale, index = style.signal_colors(found)
    lines, legend = style.line_styles(ds, found)
    sigma = 0.0 if raw else default_sigma(ds)
    images = corner_images if ds.sizes["concept"] == 2 else None
    rows = -(-len(panels) // columns)
    side = 3.3 if columns <= 3 else 2.7
    fig = style.new_figure(side * columns + 0.9, (side + (1.1 if images else 0.35)) * rows)
    axes = np.ravel(fig.subplots(rows, columns, squeeze=False))
    for ax, (title, classes, pair) in zip(axes, panels, strict=False):
        for klass in classes:
            draw_reading(ax, ds, klass, pair)
            _draw_class(ax, ds, list(zip(found, colors, lines, strict=True)), klass, pair, protocol, sigma)
        concept_square(ax, ds, pair, images)
        ax.set_title(title, pad=40 if images else 6, fontsize=9)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if len(found) > 1:
        style.signal_bar(fig, scale, ds, index, list(axes))
    style.line_legend(fig, legend)
    if "reading" in ds:
        fig.suptitle("crosses: how the probe reads pictures of the class that no run is trained on", fontsize=8)
    return fig


def _draw_class(
    ax: Axes, ds: xr.Dataset, looks: list[tuple[Level, Any, Any]], klass: int, pair: tuple[int, int],
    protocol: str, sigma: float,
) -> None:  # fmt: skip
    for level, color, line in looks:
        if level.runs:
            path = trajectory(ds, level.runs, klass, protocol).mean(axis=0)
            path = curves.smooth(path, sigma)[:, pair]
            draw_path(ax, path, color, f"{ds['klass'].values[klass]} {level.label}", line)


def draw_path(ax: Axes, path: Float[np.ndarray, "t 2"], color: Any, label: str = "", line: Any = "-") -> None:
    """Draw one trajectory [t, 2] with a circle at its first and a square at its last point."""
    ax.plot(*path.T, ls=line, color=color, lw=1.5, label=label, solid_capstyle="round", zorder=3)
    ax.plot(*path[0], "o", color="white", mec=color, ms=4.5, mew=1.1, zorder=4)
    ax.plot(*path[-1], "s", color=color, mec="white", ms=5.5, mew=0.7, zorder=5)


def draw_reading(ax: Axes, ds: xr.Dataset, klass: int, pair: tuple[int, int]) -> None:
    """Mark how the probe reads held-out pictures of a class: no model can be read better than this."""
    if "reading" in ds:
        x, y = ds["reading"].values[klass, list(pair)]
        ax.plot(x, y, "x", color=style.class_color(klass), ms=8, mew=2.2, zorder=6, clip_on=False)


def concept_square(ax: Axes, ds: xr.Dataset, pair: tuple[int, int], images: Images | None = None) -> None:
    """Set up the unit square with axis labels and either words or images at its corners."""
    names = [str(ds["concept"].values[i]) for i in pair]
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    ax.set_xlabel(style.probability_label(ds, names[0]))
    ax.set_ylabel(style.probability_label(ds, names[1]))
    for klass, bits in enumerate(ds["bit"].values):
        others = [b for i, b in enumerate(bits) if i not in pair]
        if any(others):
            continue  # with three concepts the corners stand for the classes whose other bits are 0
        corner = tuple(float(bits[i]) for i in pair)
        _corner(ax, ds, klass, corner, pair, images)


def _corner(
    ax: Axes, ds: xr.Dataset, klass: int, corner: tuple[float, ...], pair: tuple[int, int], images: Images | None
) -> None:
    trained = bool(ds["trained"].values[klass])
    color = style.TRAINED_COLOR if trained else style.HELD_OUT_COLOR
    x, y = corner
    ax.plot(x, y, "P", color=color, ms=7, mec="white", mew=0.6, zorder=2, clip_on=False)
    if images and klass in images:
        style.place_image(ax, images[klass], (x, y), (0, 24 if y else -39), color)
        return
    text = ", ".join(
        style.bit_label(ds, str(ds["concept"].values[i]), int(b)) for i, b in zip(pair, corner, strict=True)
    )
    ax.annotate(
        text, (x, y), xytext=(-5 if x else 5, -7 if y else 7), textcoords="offset points", fontsize=6.5, color=color,
        ha="right" if x else "left", va="top" if y else "bottom", zorder=6,
        bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
    )  # fmt: skip
