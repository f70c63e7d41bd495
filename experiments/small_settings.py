"""Search for a small setting that shows the paper's effects in minutes: a study of its own over named variants.

    python -m experiments.small_settings --workdir=runs/small_settings
    python -m experiments.small_settings --workdir=runs/small_settings --variants=base,narrow

Each variant is configs/signal.py at a scale plus the overrides of VARIANTS, trained and read in WORKDIR/NAME. Started
again, finished variants are only read and an interrupted one goes on. The table shows, for the held-out class 11 (blue,
small) on the mean over seeds at every signal level, what the criteria of a useful setting need:

  low blue    lowest P(blue) after the first 7.5 % of the steps, and P(small) there: memorised as 01 (red, small)
  large blue  highest P(blue) while P(small) is below 0.5 in that phase: memorised as 10 (blue, large)
  ever, end   seeds with accuracy of at least 0.8 on both concepts at some save, and from some save to the last
  first       the first such save of each seed
  final       P(blue), P(small) at the last save
  trained     median step at which the training classes are learned (80 %, all concepts, for good)

The line below a variant says whether the swept concept was learned sooner at every stronger signal. All numbers are
also written to WORKDIR/small_settings.json.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from etils import epath
from rich import box
from rich.table import Table

import cspace_jax as cs
from cspace_jax.analysis import curves, report
from cspace_jax.analysis.learning import accuracy_curves, trajectory
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.analysis.report import wide_console
from cspace_jax.analysis.summary import summarise
from cspace_jax.cli import scripts
from cspace_jax.config import SCALES, Config, reading
from cspace_jax.errors import UserError
from cspace_jax.storage.files import located, write_atomic
from cspace_jax.storage.workdir import Workdir

THRESHOLD = 0.8

# Overrides of configs/signal.py, dotted as on the command line.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "small_images": {"data.image_size": 12},
    "narrow": {"network.channels": (24, 48)},
    "weak_size": {"grid.sep_size": (0.2,)},
    "strong_size": {"grid.sep_size": (0.3,)},
    "half_batch": {"optim.batch_size": 8, "optim.steps": 3_600},
    "high_rate": {"grid.learning_rate": (5e-3,)},
    "cosine": {"optim.decay": "cosine"},
    "no_average": {"optim.ema": 0.0},
    "learned_schedule": {"diffusion.schedule": "learned_linear"},
    "paper_clip": {"optim.clip": 0.01},
}


def make_config(scale: str, overrides: Mapping[str, Any], probe_cache: str) -> Config:
    """Return configs/signal.py at a scale with dotted overrides and without figures.

    Raises:
      UserError: a field is unknown or its value not allowed.
    """
    shared = {"figures": (), "probe.cache_dir": probe_cache}  # variants with the same images share one probe
    return cs.load_config(f"signal:{scale}", **shared, **overrides)


def run_variant(name: str, scale: str, root: epath.Path) -> xr.Dataset:
    """Train and read one variant unless that is done, and return its dataset.

    Raises:
      UserError: its configuration or its workdir does not allow it.
    """
    config = make_config(scale, VARIANTS[name], str(root / "probes"))
    folder = root / name
    done = Workdir(folder).dataset.exists()
    if not done:
        print(f"variant {name}: {VARIANTS[name] or 'no overrides'}", flush=True)
    # What is done is only checked against the configuration: no figure is drawn.
    study = cs.run(config, folder, "figures" if done else "all", command_line=f"small_settings variant {name}")
    return study.dataset


def criteria(ds: xr.Dataset) -> dict[str, Any]:
    """Return the numbers of a variant: one dict a level, and the order over levels (NaN for unknown)."""
    summary = summarise(ds)
    found = zip(levels(ds), summary["levels"], strict=True)
    return {
        "levels": [_level_criteria(ds, level, block) for level, block in found],
        "order": {place: kinds["stays_80"] for place, kinds in summary["order"][summary["swept_concept"]].items()},
        "swept_concept": summary["swept_concept"],
    }


def _level_criteria(ds: xr.Dataset, level: Level, block: Mapping[str, Any]) -> dict[str, Any]:
    held_out = int(np.flatnonzero(ds["bit"].values.all(axis=1))[0])
    mine = block["classes"][str(ds["klass"].values[held_out])]
    made = {"level": block["label"], "reached_80": mine["reached_80"]}
    made["trained"] = block["training_classes"]["learning_times"]["joint"]["stays_80"]["median"]
    if not level.runs:
        return made
    protocol = str(ds["protocol"].values[0])
    path = trajectory(ds, level.runs, held_out, protocol).mean(axis=0)
    accuracy = accuracy_curves(ds, level.runs, [held_out], protocol)
    phases = memorised_phases(ds["step"].values, path)
    return made | phases | {"first": first_saves(ds["step"].values, accuracy), "final": mine["final"]["prob"]}


def memorised_phases(steps: np.ndarray, path: np.ndarray) -> dict[str, Any]:
    """Return the farthest points of the path [t, 2] of class 11 towards the classes 01 and 10.

    The path is P(bit = 1) of two concepts at the `steps` [t]; the early phase is left out. low_blue: smallest first
    coordinate, the second there, and the step. large_blue: largest first coordinate among the saves whose second is
    below 0.5, and the step; NaN if there is no such save.
    """
    start = curves.late_saves(steps)
    low = start + int(np.argmin(path[start:, 0]))
    large = np.where(path[:, 1] < 0.5, path[:, 0], -np.inf)
    large[:start] = -np.inf
    high = int(np.argmax(large))
    known = bool(np.isfinite(large[high]))
    return {
        "low_blue": {"blue": float(path[low, 0]), "small": float(path[low, 1]), "step": int(steps[low])},
        "large_blue": {
            "blue": float(path[high, 0]) if known else math.nan,
            "step": int(steps[high]) if known else math.nan,
        },
    }


def first_saves(steps: np.ndarray, accuracy: np.ndarray) -> list[float]:
    """Return for each seed the first save at which its accuracy is at least 0.8 on all concepts.

    accuracy is [r, t, c] at the `steps` [t]; NaN = never.
    """
    above = np.all(accuracy >= THRESHOLD, axis=-1)
    return [float(steps[np.argmax(one)]) if one.any() else math.nan for one in above]


def table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the table of all variants, one row a level."""
    made = Table(title="Held-out class 11 by variant", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("variant", "level", "low blue", "large blue", "ever", "end", "first", "final", "trained"):
        made.add_column(name, no_wrap=True, justify="left" if name in ("variant", "level") else "right")
    for name, one in found.items():
        for i, row in enumerate(one["levels"]):
            made.add_row(name if i == 0 else "", row["level"], *_cells(row))
        made.add_section()
    return made


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "final" not in row:
        return ["diverged"] + [""] * 6
    low, large, count = row["low_blue"], row["large_blue"], row["reached_80"]
    return [
        f"{low['blue']:.2f}, {low['small']:.2f} @{low['step']:,}",
        "-" if math.isnan(large["blue"]) else f"{large['blue']:.2f} @{large['step']:,}",
        *(f"{count[kind]}/{count['seeds']}" for kind in ("momentary", "persistent")),
        " ".join(_step(one) for one in row["first"]),
        ", ".join(f"{value:.2f}" for value in row["final"].values()),
        _step(row["trained"]),
    ]


def _step(value: float) -> str:
    return "never" if math.isnan(value) else f"{value:,.0f}"


def sentences(name: str, one: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    """Return the order of the learning times over levels, and the times spent, in words."""
    said = []
    for place, check in one["order"].items():
        if check["ordered"] is not None:
            where = "training classes" if place == "training_classes" else f"class {place}"
            said.append(f"{where} {'ordered' if check['ordered'] else 'NOT ordered'} by {one['swept_concept']} signal")
    said += [f"{stage} {value:.0f} s" for stage, value in seconds.items()]
    return [f"{name}: {', '.join(said)}"]


def _times(root: epath.Path, name: str) -> dict[str, float]:
    path = Workdir(root / name).times
    return json.loads(path.read_text()) if path.exists() else {}


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        reading.one_of("variants", name, VARIANTS)
    return list(names or VARIANTS)


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: bad input, and at the end variants that could not be run.
    """
    made = scripts.Parser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--workdir", required=True, help="folder of the study; each variant has its own folder in it")
    made.add_argument("--variants", type=scripts.comma_separated(str), default=(), help="names; empty: all")
    made.add_argument("--scale", default="quick", help=f"scale that is varied: {', '.join(SCALES)}")
    args = made.parse_args(list(arguments))
    reading.one_of("scale", args.scale, SCALES)
    names, root = _chosen(args.variants), _root(args.workdir)
    found, failed = {}, {}
    for name in names:
        try:
            found[name] = criteria(run_variant(name, args.scale, root))
        except UserError as error:  # the others are still worth their time
            failed[name] = str(error)
            print(f"variant {name}: {error}", flush=True)
    _show(found, root)
    if failed:
        raise UserError(f"{len(failed)} of {len(names)} variants failed: {', '.join(failed)} (reasons above)")


def _root(path: str) -> epath.Path:
    if not path.strip():
        raise UserError(f"workdir = {path!r}: must be the path of a folder")
    return located(path)


def _show(found: Mapping[str, Mapping[str, Any]], root: epath.Path) -> None:
    if not found:
        return
    text = json.dumps(report.to_json(found), indent=2, allow_nan=False)
    write_atomic(root / "small_settings.json", text + "\n")
    console = wide_console()
    console.width = max(console.width, 120)
    console.print(table(found))
    for name, one in found.items():
        for line in sentences(name, one, _times(root, name)):
            console.print(line, highlight=False)


if __name__ == "__main__":
    scripts.start(run)
