"""Compare a finished colour sweep or grid of signals with the numbers published for it.

    python -m experiments.compare_published --workdir=runs/signal

Prints, per level, the measured number beside the published one, by the published definitions:

  T80        step after which the held-out class 11 stays at 0.8 or above on the smoothed mean over seeds
  lowest     smallest P(blue) after the first 7.5 % of the steps: how deep class 11 was memorised as a red class
  learned    mean over seeds of the notebooks' learning time, "never" counted as the last step

A level is compared with the published level of exactly its sep_col and sep_size. If the workdir is not at the paper's
setting, published step numbers do not apply to it: each level is then put beside the nearest published one (marked ~)
and only the order of the levels is compared. The published numbers and their origin are in published.json.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

import cspace_jax as cs
from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import accuracy_curves, trajectory
from cspace_jax.analysis.levels import Level, levels, ok_runs
from cspace_jax.cli import scripts
from cspace_jax.config import Config, SaveConfig, differing_fields
from cspace_jax.errors import UserError
from cspace_jax.plots import style
from cspace_jax.storage import results, workdir

HERE = pathlib.Path(__file__).resolve().parent
PUBLISHED_SAVES = (SaveConfig(start=500, count=60), SaveConfig(start=10, count=50))
NEVER = float("nan")
TOLERANCE = 1e-6  # of separations called equal; settings are stored as float32 or from text
MAX_NAMED = 6  # differing fields named in one line
TRAJECTORY = {
    "t80_color": "T80 colour", "t80_size": "T80 size", "t80_joint": "T80 joint", "min_blue": "lowest blue",
    "final_blue": "final blue", "final_small": "final small",
}  # fmt: skip
LEARNED = {"color": "colour learned", "size": "size learned"}
Values = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One level of the study beside its published counterpart."""

    level: Level
    ours: Values
    published: Values
    at: tuple[float, float]  # sep_col and sep_size of the published level
    exact: bool


def load_published(path: pathlib.Path = HERE / "published.json") -> dict[str, Any]:
    """Return the published numbers; see the file for their origin."""
    return json.loads(path.read_text())


def trajectory_levels(published: dict[str, Any]) -> dict[tuple[float, float], Values]:
    """Return the published numbers of the colour sweep by (sep_col, sep_size); null becomes NaN (never)."""
    source = published["trajectories"]
    return {
        (one["sep_col"], source["sep_size"]): {key: NEVER if one[key] is None else one[key] for key in TRAJECTORY}
        for one in source["levels"]
    }


def learned_levels(published: dict[str, Any]) -> dict[tuple[float, float], Values]:
    """Return the published learning times of the grid by (sep_col, sep_size)."""
    source = published["learning_times"]
    return {
        (sep_col, sep_size): {concept: source[concept][i][j] for concept in LEARNED}
        for i, sep_size in enumerate(source["sep_size"])
        for j, sep_col in enumerate(source["sep_col"])
    }


def mean_trajectory(ds: xr.Dataset, level: Level) -> np.ndarray:
    """Return P(blue), P(small) [t, 2] of class 11, mean over seeds, smoothed as published."""
    paths = trajectory(ds, level.runs, held_out(ds), _protocol(ds), curves.SIGMA_TRAJECTORY)
    return paths.mean(axis=0)


def measure_trajectory(ds: xr.Dataset, level: Level) -> Values:
    """Return what `trajectory_levels` holds, measured at one level."""
    steps, path = ds["step"].values, mean_trajectory(ds, level)
    late = path[curves.late_saves(steps) :, 0]
    return {
        "t80_color": curves.crossing_time(steps, path[:, 0]),
        "t80_size": curves.crossing_time(steps, path[:, 1]),
        "t80_joint": curves.crossing_time(steps, path.prod(axis=1)),
        "min_blue": float(late.min()),
        "final_blue": float(path[-1, 0]),
        "final_small": float(path[-1, 1]),
    }


def measure_learned(ds: xr.Dataset, level: Level) -> Values:
    """Return what `learned_levels` holds, measured at one level: a time never reached counts as the last step."""
    steps = ds["step"].values
    accuracy = accuracy_curves(ds, level.runs, [held_out(ds)], _protocol(ds))
    return {concept: _capped_mean(steps, accuracy[..., index]) for index, concept in enumerate(LEARNED)}


def _capped_mean(steps: np.ndarray, accuracy: np.ndarray) -> float:
    times = np.array([curves.notebook_time(steps, one) for one in accuracy])
    return float(np.where(np.isnan(times), steps[-1], times).mean())


def held_out(ds: xr.Dataset) -> int:
    """Return the index of class 11."""
    return ds["klass"].values.tolist().index("11")


def _protocol(ds: xr.Dataset) -> str:
    return str(ds["protocol"].values[0])


def match(
    ds: xr.Dataset,
    published: dict[tuple[float, float], Values],
    measure: Callable[[xr.Dataset, Level], Values],
    nearest: bool,
) -> list[Row]:
    """Return the levels that have a published counterpart: an equal one, or with `nearest` the nearest one."""
    rows = []
    for level in levels(ds):
        if not level.runs:
            continue
        place = level.setting["sep_col"], level.setting["sep_size"]
        at = min(published, key=lambda one: math.dist(one, place))
        exact = math.dist(at, place) < TOLERANCE
        if exact or nearest:
            rows.append(Row(level, measure(ds, level), published[at], at, exact))
    return rows


def agreement(rows: Sequence[Row], key: str) -> float:
    """Return the rank correlation over levels of measured and published numbers; "never" is the latest.

    NaN for fewer than two levels or if either side is all alike.
    """
    ranks = [
        stats.rankdata([math.inf if math.isnan(one[key]) else one[key] for one in side])
        for side in ([row.ours for row in rows], [row.published for row in rows])
    ]
    if len(rows) < 2 or any(len(set(rank)) == 1 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def table(rows: Sequence[Row], columns: dict[str, str], title: str) -> Table:
    """Return a table with one row a level: measured | published."""
    made = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column("level", no_wrap=True)
    made.add_column("published at\nsep_col, sep_size", no_wrap=True)
    for name in columns.values():
        made.add_column(f"{name}\nours | publ.", justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{_text(row.ours[key], key)} | {_text(row.published[key], key)}" for key in columns]
        made.add_row(row.level.label, f"{'' if row.exact else '~'}{row.at[0]:g}, {row.at[1]:g}", *cells)
    return made


def _text(value: float, key: str) -> str:
    if math.isnan(value):
        return "never"
    return f"{value:.2f}" if key.startswith(("min", "final")) else f"{value:,.0f}"


def deviations(config: Config) -> list[str]:
    """Return in what the study departs from the paper's setting: fields other than levels and seeds.

    The two published ways to save count as the paper's: learning times in the notebooks' sense are counted in saves,
    so other save steps give other times for the same curve.
    """
    paper = cs.load_config("signal:paper")
    same = {name: getattr(config.grid, name) for name in ("seeds", "sep_col", "sep_size", "sep_bg")}
    paper = dataclasses.replace(
        paper, study=config.study, scale=config.scale, grid=dataclasses.replace(paper.grid, **same),
        save=config.save if config.save in PUBLISHED_SAVES else paper.save, engine=config.engine,
        evaluate=dataclasses.replace(paper.evaluate, keep_samples=config.evaluate.keep_samples),
    )  # fmt: skip
    return differing_fields(paper, config)


@style.styled()
def figure(
    ds: xr.Dataset, parts: list[tuple[list[Row], dict[str, str]]], published: dict[str, Any], comparable: bool
) -> Figure:
    """Draw measured against published numbers, one panel a table, and trajectories where published ones exist.

    Unless steps are `comparable`, the line of equality is left out and the title says that only the order counts.
    """
    shown = [(rows, columns) for rows, columns in parts if rows]
    paths = _published_paths(parts[0][0], published)
    fig = style.new_figure(3.6 * (len(shown) + bool(paths)), 3.4)
    axes = list(np.ravel(fig.subplots(1, len(shown) + bool(paths), squeeze=False)))
    for ax, (rows, columns) in zip(axes, shown, strict=False):
        _draw_times(ax, rows, [key for key in columns if not key.startswith(("min", "final"))], columns, ds)
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


def _published_paths(rows: list[Row], published: dict[str, Any]) -> list[tuple[Row, np.ndarray]]:
    """Return the exactly matched levels with a published trajectory [t, 2]."""
    found = {one["sep_col"]: np.array([one["blue"], one["small"]]).T for one in published["trajectories"]["curves"]}
    return [(row, found[row.at[0]]) for row in rows if row.exact and row.at[0] in found]


def _draw_paths(ax: Axes, ds: xr.Dataset, paths: list[tuple[Row, np.ndarray]]) -> None:
    for (row, theirs), color in zip(paths, style.OKABE_ITO, strict=False):
        ax.plot(*mean_trajectory(ds, row.level).T, "-", color=color, label=f"sep_col = {row.at[0]:g}")
        ax.plot(*theirs.T, "o", color=color, ms=3.5, mfc="none")
    ax.set(xlabel="P(blue)", ylabel="P(small)", xlim=(0, 1), ylim=(0, 1), title="line measured, circles published")
    ax.legend()


def report(ds: xr.Dataset, config: Config, console: Console) -> list[tuple[list[Row], dict[str, str]]]:
    """Print the comparison; returns the rows and columns of both tables."""
    published = load_published()
    different = deviations(config)
    _say_scale(ds, config, different, console)
    parts = []
    for title, found, measure, columns in (
        ("Trajectories of class 11", trajectory_levels(published), measure_trajectory, TRAJECTORY),
        ("Learning times of class 11", learned_levels(published), measure_learned, LEARNED),
    ):
        rows = match(ds, found, measure, nearest=bool(different))
        parts.append((rows, columns))
        if not rows:
            console.print(f"{title}: no level of this study was published.\n", highlight=False)
            continue
        console.print(table(rows, columns, title))
        for key, name in columns.items():
            _say_order(rows, key, name, console)
        console.print()
    return parts


def _say_scale(ds: xr.Dataset, config: Config, different: list[str], console: Console) -> None:
    if different:
        more = f" and {len(different) - MAX_NAMED} more" if len(different) > MAX_NAMED else ""
        named = ", ".join(different[:MAX_NAMED]) + more
        text = f"NOT AT PAPER SCALE (scale {config.scale}; differing: {named}): "
        text += "published step numbers are not comparable, only the order of the levels is; ~ marks a nearest level."
    else:
        text = "At the paper's setting: steps and probabilities are comparable."
    text += f" Seeds: {len(config.grid.seeds)}, published 5."
    diverged = int((~ok_runs(ds)).sum())
    console.print(text + (f" {diverged} runs diverged and are left out." if diverged else ""), highlight=False)


def _say_order(rows: Sequence[Row], key: str, name: str, console: Console) -> None:
    value = agreement(rows, key)
    said = "not defined" if math.isnan(value) else f"{value:+.2f}"
    console.print(f"  order of {name} over {len(rows)} level(s): rank correlation {said}", highlight=False)


def _open(path: str) -> tuple[epath.Path, Config, xr.Dataset]:
    folder, config = workdir.load(path)
    if config.data.active != ("color", "size"):
        raise UserError(
            f"workdir = {path!r}: its data.active is {config.data.active}, published numbers are of ('color', 'size')"
        )
    ds = results.open_results(folder.root)
    if not ok_runs(ds).any():
        raise UserError(f"workdir = {path!r}: all runs diverged, there is nothing to compare")
    return folder.figures, config, ds


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: bad input.
    """
    made = scripts.Parser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--workdir", required=True, help="folder of the finished study")
    made.add_argument("--out", default="", help="figure without its ending; empty: WORKDIR/figures/published")
    args = made.parse_args(list(arguments))
    figures, config, ds = _open(args.workdir)
    console = Console()
    console.width = max(console.width, 120)
    parts = report(ds, config, console)
    if any(rows for rows, _ in parts):
        drawn = figure(ds, parts, load_published(), comparable=not deviations(config))
        print(*style.save(drawn, args.out or figures / "published"), sep="\n")


if __name__ == "__main__":
    scripts.start(run)
