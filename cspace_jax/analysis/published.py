"""The numbers published for the colour sweep and the grid of signals, and the same numbers of a study.

By the published definitions, of the held-out class 11:

  T80        step after which it stays at 0.8 or above on the smoothed mean over seeds
  lowest     smallest P(blue) after the first 7.5 % of the steps: how deep it was memorised as a red class
  learned    mean over seeds of the notebooks' learning time, "never" counted as the last step

`published.json` holds the numbers and says where each comes from. They are means: no seed of its own is published.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Real

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import accuracy_curves, trajectory
from cspace_jax.analysis.levels import Level, levels, ok_runs
from cspace_jax.analysis.ordering import rank_correlation
from cspace_jax.config import Config, SaveConfig, differing_fields
from cspace_jax.config.concepts import SEPARATIONS
from cspace_jax.config.reading import fail, one_of
from cspace_jax.config.schema import DGP
from cspace_jax.errors import UserError
from cspace_jax.studies import loading

FILE = pathlib.Path(__file__).with_name("published.json")
PREFIX = "published:"  # of a name that stands for published numbers, such as published:signal
PUBLISHED_SAVES = (SaveConfig(start=500, count=60), SaveConfig(start=10, count=50))
NEVER = float("nan")
TOLERANCE = 1e-6  # of separations called equal; settings are stored as float32 or from text
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


def load_published() -> dict[str, Any]:
    """Return the published numbers; see `published.json` for their origin."""
    return json.loads(FILE.read_text())


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


def mean_trajectory(ds: xr.Dataset, level: Level) -> Float[np.ndarray, "t 2"]:
    """Return P(blue), P(small) [t, 2] of class 11, mean over seeds, smoothed as published."""
    paths = trajectory(ds, level.runs, held_out(ds), _protocol(ds), curves.SIGMA_TRAJECTORY)
    return paths.mean(axis=0)


def measure_trajectory(ds: xr.Dataset, level: Level) -> Values:
    """Return the numbers of `trajectory_levels`, measured at one level: steps and probabilities."""
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
    """Return the numbers of `learned_levels`, measured at one level, in steps.

    A time that never comes counts as the last step.
    """
    steps = ds["step"].values
    accuracy = accuracy_curves(ds, level.runs, [held_out(ds)], _protocol(ds))
    return {concept: _capped_mean(steps, accuracy[..., index]) for index, concept in enumerate(LEARNED)}


def _capped_mean(steps: Real[np.ndarray, " t"], accuracy: Float[np.ndarray, "r t"]) -> float:
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
    sides = [row.ours[key] for row in rows], [row.published[key] for row in rows]
    ours, theirs = (np.where(np.isnan(side), np.inf, side) for side in sides)
    return rank_correlation(ours, theirs)


def paper_setting(config: Config) -> Config:
    """Return the paper's setting with the levels, the seeds and the name of a study.

    The two published ways to save count as the paper's: learning times in the notebooks' sense are counted in saves,
    so other save steps give other times for the same curve.
    """
    paper = loading.configure("signal:paper", {})
    same = {name: getattr(config.grid, name) for name in ("seeds", *SEPARATIONS)}
    return dataclasses.replace(
        paper, study=config.study, scale=config.scale, grid=dataclasses.replace(paper.grid, **same),
        save=config.save if config.save in PUBLISHED_SAVES else paper.save, engine=config.engine,
        evaluate=dataclasses.replace(paper.evaluate, keep_samples=config.evaluate.keep_samples),
    )  # fmt: skip


def deviations(config: Config) -> list[str]:
    """Return the fields that differ from the paper's setting, other than levels and seeds."""
    return differing_fields(paper_setting(config), config)


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the published tables beside the numbers of a study.

    Attributes:
      title: of the table.
      columns: key of a number -> its name.
      rows: one a level of the study that has a published counterpart.
    """

    title: str
    columns: dict[str, str]
    rows: list[Row]


_TRAJECTORIES = ("Trajectories of class 11", TRAJECTORY, trajectory_levels, measure_trajectory)
_TIMES = ("Learning times of class 11", LEARNED, learned_levels, measure_learned)
STUDIES = {"signal": (_TRAJECTORIES, _TIMES), "signal_grid": (_TIMES,)}  # name after `PREFIX` -> tables


def beside(ds: xr.Dataset, config: Config, name: str = "signal") -> list[Part]:
    """Return a study beside the published numbers of a study of `STUDIES`.

    A level goes with the published level of exactly its sep_col and sep_size; where the study departs from the paper's
    setting (`deviations`), with the nearest one: only the order of the levels is comparable then.

    Raises:
      UserError: nothing is published under this name or for these concepts, or all runs diverged.
    """
    one_of(f"{PREFIX}NAME", name, STUDIES)
    if config.data.active != ("color", "size") or config.data.source != DGP:
        fail("data.active", config.data.active, "published numbers are of ('color', 'size')")
    if not ok_runs(ds).any():
        raise UserError(f"study {config.study}: all runs diverged, there is nothing to compare")
    published, nearest = load_published(), bool(deviations(config))
    return [
        Part(title, columns, match(ds, found(published), measure, nearest))
        for title, columns, found, measure in STUDIES[name]
    ]
