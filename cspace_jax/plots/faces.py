"""Fig. 14: trajectories of pictures in concept space, and samples of the unseen class over training."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import trajectory
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.plots import style
from cspace_jax.plots.pictures import choose_steps, run_label
from cspace_jax.plots.registry import Samples, figure, stored_samples
from cspace_jax.plots.trajectories import concept_square, draw_path, draw_reading

_SIGMA = 1.0  # published smoothing of these trajectories, in saves
_ROWS, _COLUMNS = 2, 10  # of the strip of samples


def _pictures(ds: xr.Dataset, samples: Samples) -> str:
    if "reading" not in ds:
        return "only drawn for pictures"
    return "" if ds.sizes["concept"] == 2 else "it shows two concepts"


@figure("fig14", paper="Fig. 14", needs=(_pictures, stored_samples))
@style.styled()
def fig14(ds: xr.Dataset, samples: Samples, run: int) -> Figure:
    """Draw trajectories of the seen classes, of the first unseen one, and its samples over training (paper Fig. 14).

    Mean over the seeds of the level that `run` belongs to, smoothed by one save. Crosses are how the probe reads
    pictures that no run is trained on, the star is the turn. The strip has samples of `run`; each row has the same
    starting noise throughout.
    """
    level = next(one for one in levels(ds) if run in one.runs + one.diverged)
    held = unseen(ds)[0]
    fig = style.new_figure(9.2, 6.6)
    parts: Any = fig.subfigures(2, 1, height_ratios=(3.6, 0.3 + 0.95 * _ROWS))
    top, bottom = parts
    left, right = top.subplots(1, 2)
    for klass in np.flatnonzero(ds["trained"].values).tolist():
        _draw(left, ds, level, klass)
    _draw(right, ds, level, held, turn=True)
    for ax, title in ((left, "seen classes"), (right, f"held out: {style.class_label(ds, held)}")):
        concept_square(ax, ds, (0, 1))
        ax.set_title(title, fontsize=9)
    _strip(bottom, ds, samples, run, held)
    return fig


def _draw(ax: Any, ds: xr.Dataset, level: Level, klass: int, turn: bool = False) -> None:
    draw_reading(ax, ds, klass, (0, 1))
    if not level.runs:
        return
    protocol = str(ds["protocol"].values[0])
    path = curves.smooth(trajectory(ds, level.runs, klass, protocol).mean(axis=0), _SIGMA)
    draw_path(ax, path, style.class_color(klass))
    found = curves.find_turn(ds["step"].values, path)
    if turn and np.isfinite(found.step):
        at = path[int(np.argmin(np.abs(ds["step"].values - found.step)))]
        ax.plot(*at, "*", color=style.class_color(klass), mec="white", ms=14, zorder=7)


def _strip(fig: Any, ds: xr.Dataset, samples: Samples, run: int, klass: int) -> None:
    steps = choose_steps(sorted(samples), _COLUMNS)
    rows = min(_ROWS, samples[steps[0]].shape[2])
    axes = fig.subplots(rows, len(steps), squeeze=False)
    for row, column in np.ndindex(axes.shape):
        style.show_image(axes[row, column], samples[steps[column]][run, klass, row], style.HELD_OUT_COLOR)
    for column, step in enumerate(steps):
        axes[0, column].set_title(f"{step:,}", fontsize=8)
    fig.suptitle(f"samples of {style.class_label(ds, klass)} over training steps, {run_label(ds, run)}", fontsize=9)
