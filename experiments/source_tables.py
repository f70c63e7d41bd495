"""Tables of the documents about pictures and three concepts: functions of the result files, lines of Markdown."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cspace_jax.analysis.intervals import LEAST_MEDIAN, missing
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.verdict_tables import time_words
from experiments.docs_results import Results, markdown

TWO_SAVES = (1014, 2400)  # of the quick studies of digits: half-way up, and the last
FACES_SAVES = (216, 726, 1176, 1734, 2400)


def _points(ds: xr.Dataset, runs: Sequence[int], klass: int, step: int) -> str:
    """Return the coordinates of a class at a save, a pair a run."""
    found = ds["prob"].isel(protocol=0, klass=klass, run=list(runs)).sel(step=step).transpose("run", "concept").values
    return ", ".join("(" + ", ".join(f"{value:.2f}" for value in one) + ")" for one in found)


def _no_interval(study: Mapping[str, Any]) -> str:
    """Return why the medians of a study of few seeds have no interval."""
    return missing(min(len(block["seeds"]) for block in study["levels"]), LEAST_MEDIAN)


def digits(found: Results) -> list[str]:
    """Return the graded signal on real digits by level: learning times of the colour, where class 11 is drawn."""
    ds, study = found.dataset("digits"), found.summary("digits")
    rows = []
    for level, block in zip(levels(ds), study["levels"], strict=True):
        seen, unseen = (
            time_words(part["learning_times"]["color"][study["learned"]])
            for part in (block["training_classes"], block["classes"]["11"])
        )
        reached = block["classes"]["11"]["reached_80"]
        ends = [_points(ds, level.runs, 3, step) for step in TWO_SAVES]
        share = f"{reached['persistent']} of {reached['seeds']}"
        rows.append([f"{level.setting['sep_col']:g}", f"{seen} / {unseen}", *ends, share])
    header = (
        "`sep_col`", f"steps to 80 % of the colour: seen classes / class 11; {_no_interval(study)}",
        *(f"class 11 is drawn as (P(one), P(blue)), a pair a seed, at step {step:,}" for step in TWO_SAVES),
        "80 % on both to the end",
    )  # fmt: skip
    return markdown(header, rows)


def stroke(found: Results) -> list[str]:
    """Return by class of the stroke study when its concepts are learned, and what is drawn at the end."""
    ds, study = found.dataset("stroke"), found.summary("stroke")
    rows, (block,) = [], study["levels"]
    for k, (name, part) in enumerate(block["classes"].items()):
        times = part["learning_times"]
        words = " / ".join(time_words(times[concept][study["learned"]]) for concept in ("digit", "stroke", "joint"))
        last = int(ds["step"].values[-1])
        rows.append([f"{name} ({'seen' if part['trained'] else 'never seen'})", words, _points(ds, range(2), k, last)])
    header = (
        "class",
        f"steps to 80 %: digit / stroke / both; {_no_interval(study)}",
        "(P(one), P(thick)) at the last save, a pair a seed",
    )
    return markdown(header, rows)


def faces(found: Results) -> list[str]:
    """Return where the unseen class of the drawn faces goes: a row a seed, a column a save."""
    ds = found.dataset("faces")
    rows = [
        [f"seed {int(ds['seed'].values[run])}", *(_points(ds, [run], 3, step) for step in FACES_SAVES)]
        for run in range(ds.sizes["run"])
    ]
    return markdown(("(P(female), P(smiling)) of class 11 at step", *(f"{step:,}" for step in FACES_SAVES)), rows)


def proxies(found: Results) -> list[str]:
    """Return the two stand-ins for the signal of the drawn faces."""
    ds = found.dataset("faces")
    names = ds["concept"].values.astype(str).tolist()
    rise = ds["exchange"].mean("run").isel(step=-1).values
    rows = [
        ["squared distance of class-mean pictures", *(f"{value:.4f}" for value in ds["mean_distance"].values)],
        ["rise of the validation loss at the last save when it is named wrongly, bits per dimension",
         *(f"{value:.3f}" for value in rise)],
    ]  # fmt: skip
    return markdown(("stand-in for the signal", *names), rows)


def three(found: Results) -> list[str]:
    """Return by level of three concepts and unseen class: the trained class approached, learned steps; seeds each."""
    rows, header = [], []
    for block in found.summary("three")["approach"]:
        signals = ", ".join(f"{value:.2f}" for value in block["normalised_signal"].values())
        classes = block["classes"]
        header = ["level", "normalised signal: colour, size, background", *classes]
        cells = [f"{_counts(one['approached'])} / {', '.join(_steps(one['learned_step']))}" for one in classes.values()]
        rows.append([block["level"], signals, *cells])
    return markdown(header, rows)


def _counts(names: Sequence[str]) -> str:
    return ", ".join(f"{name} in {number}" for name, number in collections.Counter(names).most_common())


def _steps(values: Sequence[float]) -> list[str]:
    return [f"{value:,.0f}" if np.isfinite(value) else "never" for value in values]
