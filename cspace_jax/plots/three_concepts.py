"""Fig. 15: trajectories of three concepts in space, and when unseen classes are learned."""

import itertools
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cspace_jax.analysis import curves, unseen_classes
from cspace_jax.analysis.learning import default_sigma, trajectory
from cspace_jax.analysis.levels import Level, by_signal, levels, swept_concept, unseen
from cspace_jax.config.definitions import THRESHOLD
from cspace_jax.plots import style
from cspace_jax.plots.registry import Samples, figure


def _three(ds: xr.Dataset, samples: Samples) -> str:
    return "" if ds.sizes["concept"] == 3 else f"it shows three concepts, this study has {ds.sizes['concept']}"


@figure("fig15", paper="Fig. 15", needs=(_three,))
@style.styled()
def fig15(ds: xr.Dataset, protocol: str | None = None) -> Figure:
    """Draw trajectories in the box of three concepts at two levels, and learned steps against distance (paper Fig. 15).

    The two levels are the weakest and the strongest of the swept concept. Edges of a box are proportional to the
    normalised concept signals; colours say how many bits a class is from 000; a circle marks the first save, a square
    the last, thin lines are projections on the walls. Right: for every level, seed and unseen class the first save at
    which all concepts are above .8, against the distance of its point to its corner when all training classes are above
    .95; open = never learned.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    found = [level for level in levels(ds) if level.runs]
    shown = _ends(found)
    fig = style.new_figure(4.1 * len(shown) + 4.4, 4.4)
    for number, level in enumerate(shown, 1):
        axes: Any = fig.add_subplot(1, len(shown) + 1, number, projection="3d")
        _box(axes, ds, level, protocol)
    _learned(fig.add_subplot(1, len(shown) + 1, len(shown) + 1), ds, found, protocol)
    return fig


def _ends(found: list[Level]) -> list[Level]:
    """Return the weakest and the strongest level of the swept concept; the only one if there is one."""
    ordered = [found[i] for i in by_signal(found, swept_concept(found))]
    return ordered[:1] if len(ordered) == 1 else [ordered[0], ordered[-1]]


def _box(axes: Any, ds: xr.Dataset, level: Level, protocol: str) -> None:
    bits, trained = ds["bit"].values, ds["trained"].values
    for klass in range(ds.sizes["klass"]):
        path = curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(axis=0), default_sigma(ds))
        color = style.OKABE_ITO[(0, 5, 1, 3)[int(bits[klass].sum())]]
        axes.plot(*path.T, color=color, lw=1.6, ls="-" if not trained[klass] else "--", zorder=3)
        axes.plot(*path[0], "o", color="white", mec=color, ms=4)
        axes.plot(*path[-1], "s", color=color, mec="white", ms=5)
        axes.text(
            *(bits[klass] + 0.04 * (2 * bits[klass] - 1)), str(ds["klass"].values[klass]), fontsize=7, color=color
        )
        if not trained[klass]:
            for wall, at in zip(range(3), (0.0, 1.0, 0.0), strict=True):
                flat = path.copy()
                flat[:, wall] = at
                axes.plot(*flat.T, color=color, lw=0.6, alpha=0.45)
    _edges(axes)
    names = [str(name) for name in ds["concept"].values]
    labels = [style.probability_label(ds, name) for name in names]
    axes.set(xlabel=labels[0], ylabel=labels[1], zlabel=labels[2], xlim=(0, 1), ylim=(0, 1), zlim=(0, 1))
    signal = np.array(level.normalised)
    axes.set_box_aspect(np.maximum(signal, 0.15) if np.isfinite(signal).all() else (1, 1, 1), zoom=0.85)
    axes.set(xticks=[0, 1], yticks=[0, 1], zticks=[0, 1])
    axes.set_title(level.label, fontsize=9)


def _edges(axes: Any) -> None:
    corners = list(itertools.product((0, 1), repeat=3))
    for a, b in itertools.combinations(corners, 2):
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1:
            axes.plot(*zip(a, b, strict=True), color="#BBBBBB", lw=0.7, zorder=1)


def _learned(ax: Any, ds: xr.Dataset, found: list[Level], protocol: str) -> None:
    """Draw the first save at which unseen classes are learned against their distance when training has converged."""
    steps, names = ds["step"].values, ds["klass"].values
    top = 1.08 * float(steps[-1])
    markers = dict(zip(unseen(ds), "osD^v<>P", strict=False))
    colors, _, _ = style.signal_colors(found)
    for level, color in zip(found, colors, strict=True):
        for klass, run in itertools.product(markers, level.runs):
            at = unseen_classes.converged_step(ds, run, protocol)
            if not np.isfinite(at):
                continue
            far = unseen_classes.distances(ds, run, klass, protocol)[np.argmax(steps >= at)]
            step = unseen_classes.learned_step(ds, run, klass, protocol)
            never = not np.isfinite(step)
            ax.plot(far, top if never else step, markers[klass], mec=color, mfc="none" if never else color, ms=6)
    if not ax.lines:
        ax.text(0.5, 0.5, "no run: training classes\nare never all above 0.95", ha="center", transform=ax.transAxes)
        ax.set_xlim(0, 1)
        ax.set_ylim(float(steps[0]), top)
    for klass, marker in markers.items():
        ax.plot([], [], marker, color="#555555", label=str(names[klass]))
    for level, color in zip(found, colors, strict=True):
        ax.plot([], [], "-", color=color, lw=4, label=level.label)
    ax.axhline(float(steps[-1]), color="#999999", lw=0.8, ls=":")
    ax.set(
        xlabel="distance to its corner when training classes are learned", ylabel=f"step of all concepts > {THRESHOLD}"
    )
    ax.set_title("unseen classes; open = never", fontsize=9)
    ax.legend(fontsize=6.5)
