"""A study beside the published numbers (`analysis/published.py`): times, and trajectories where they are published."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cspace_jax.analysis.published import TRAJECTORY, Part, Row, load_published, mean_trajectory
from cspace_jax.plots import style


@style.styled()
def figure(ds: xr.Dataset, parts: Sequence[Part], comparable: bool) -> Figure:
    """Draw measured against published numbers, one panel a part, and trajectories where published ones exist.

    Unless steps are `comparable`, the line of equality is left out and the title says that only the order counts.
    """
    shown = [part for part in parts if part.rows]
    paths = _published_paths([row for part in parts if part.columns == TRAJECTORY for row in part.rows])
    fig = style.new_figure(3.6 * (len(shown) + bool(paths)), 3.4)
    axes = list(np.ravel(fig.subplots(1, len(shown) + bool(paths), squeeze=False)))
    for ax, part in zip(axes, shown, strict=False):
        keys = [key for key in part.columns if not key.startswith(("min", "final"))]
        _draw_times(ax, part.rows, keys, part.columns, ds)
        if comparable:
            ax.axline((0, 0), slope=1, color="#8C8C8C", lw=0.8)
    if paths:
        _draw_paths(axes[-1], ds, paths)
    if not comparable:
        fig.suptitle("not the paper's setting: only the order of the levels is comparable", fontsize=9)
    return fig


def _draw_times(ax: Axes, rows: list[Row], keys: list[str], columns: dict[str, str], ds: xr.Dataset) -> None:
    latest = max(float(ds["step"].values[-1]), *(v for r in rows for v in r.published.values() if v > 1))
    edge = 1.12 * latest  # where "never" is drawn
    for key, color, marker in zip(keys, style.OKABE_ITO, "osD", strict=False):
        pairs = np.array([[row.published[key], row.ours[key]] for row in rows], dtype=float)
        ax.plot(*np.nan_to_num(pairs, nan=edge).T, marker, color=color, ms=5, mfc="none", label=columns[key])
    for line in (ax.axhline, ax.axvline):
        line(edge, color="#8C8C8C", lw=0.8, ls=":")
    ax.text(0, edge, "never", va="bottom", fontsize=7)
    ax.set(xlabel="published step", ylabel="measured step", title="class 11 (blue, small)")
    ax.legend()


def _published_paths(rows: list[Row]) -> list[tuple[Row, np.ndarray]]:
    """Return the exactly matched levels with a published trajectory [t, 2]."""
    found = {
        one["sep_col"]: np.array([one["blue"], one["small"]]).T for one in load_published()["trajectories"]["curves"]
    }
    return [(row, found[row.at[0]]) for row in rows if row.exact and row.at[0] in found]


def _draw_paths(ax: Axes, ds: xr.Dataset, paths: list[tuple[Row, np.ndarray]]) -> None:
    for (row, theirs), color in zip(paths, style.OKABE_ITO, strict=False):
        ax.plot(*mean_trajectory(ds, row.level).T, "-", color=color, label=f"sep_col = {row.at[0]:g}")
        ax.plot(*theirs.T, "o", color=color, ms=3.5, mfc="none")
    ax.set(xlabel="P(blue)", ylabel="P(small)", xlim=(0, 1), ylim=(0, 1), title="line measured, circles published")
    ax.legend()
