"""What a study logs for TensorBoard or Weights & Biases, besides its own files; it changes no result.

A log is complete after every start: what was trained before is written from metrics.jsonl, what was evaluated from the
labelled dataset.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from jaxtyping import UInt8

from cspace_jax.analysis import learning
from cspace_jax.config.schema import NAIVE
from cspace_jax.config.setting import SWEPT
from cspace_jax.storage.pictures import sheet

MOST = 4  # samples of a class in a picture
TRAINING, RESULTS = "training", "results"  # what is logged while runs train, and what their evaluations gave


@runtime_checkable
class Writer(Protocol):
    """Takes the numbers and pictures of runs, which it tells apart by label; steps may come in any order."""

    def begin(self, label: str, part: str) -> None:
        """Start a part of a run's log, `TRAINING` or `RESULTS`, anew."""

    def scalars(self, label: str, part: str, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a run at a step."""

    def picture(self, label: str, part: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        """Take a picture of a run at a step."""

    def close(self) -> None:
        """Write out what is held."""


@dataclasses.dataclass(frozen=True)
class Log:
    """What takes the numbers of a study's runs; without a writer it takes nothing.

    Attributes:
      writer: where they go.
      labels: of all runs of the study.
      first: number of the first run of the part of the study that this logs.
    """

    writer: Writer | None = None
    labels: tuple[str, ...] = ()
    first: int = 0

    def of_part(self, first: int) -> "Log":
        """Return the log of a part of the study whose runs begin at number `first`."""
        return dataclasses.replace(self, first=first)

    def begin(self, runs: Iterable[int], earlier: Iterable[Mapping[str, Any]]) -> None:
        """Start the training logs of runs; `earlier` are the rows of metrics.jsonl of the steps before."""
        if self.writer is None:
            return
        for run in runs:
            self.writer.begin(self.labels[self.first + run], TRAINING)
        self.metrics(earlier)

    def metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows as they stand in metrics.jsonl; what is not finite is left out."""
        if self.writer is None:
            return
        for row in rows:
            values = {f"train/{name}": row[name] for name in row if name not in ("run", "step", "seed", *SWEPT)}
            label = self.labels[self.first + int(row["run"])]
            self.writer.scalars(label, TRAINING, int(row["step"]), _finite(values))

    def results(self, ds: xr.Dataset, samples: Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]) -> None:
        """Take the labelled dataset and the kept samples by step; they replace those that were logged before."""
        if self.writer is None:
            return
        for label in self.labels:
            self.writer.begin(label, RESULTS)
        for run, step, values in numbers(ds):
            self.writer.scalars(self.labels[run], RESULTS, step, values)
        for step, images in samples.items():
            for label, one in zip(self.labels, images, strict=True):
                self.writer.picture(label, RESULTS, step, "samples", sheet(one[:, :MOST]))

    def close(self) -> None:
        """Write out what is held."""
        if self.writer is not None:
            self.writer.close()


def labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a label for each run: its number, the swept numbers that vary, and its seed."""
    varying = [name for name in SWEPT if len({one[name] for one in settings}) > 1]
    return [
        " ".join([f"run_{run:05d}", *(f"{name}={one[name]:g}" for name in varying), f"seed={one['seed']}"])
        for run, one in enumerate(settings)
    ]


def numbers(ds: xr.Dataset) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Return (run, step, numbers by name) of a labelled dataset, of naive prompting; what is not finite is left out.

    Coordinates P(bit = 1) and joint accuracy of each class, losses, and at the last step the learning times in steps;
    a class that a run never learned has none.
    """
    naive = ds.sel(protocol=NAIVE).transpose("run", "step", "klass", "concept", "split", "term", ...)
    classes, concepts = (ds[name].values.tolist() for name in ("klass", "concept"))
    times, steps = _times(ds), [int(step) for step in ds["step"].values]
    for run in range(ds.sizes["run"]):
        for t, step in enumerate(steps):
            here = naive.isel(run=run, step=t)
            found = {
                f"concept_space/{k}_{c}": here["prob"].values[i, j]
                for i, k in enumerate(classes) for j, c in enumerate(concepts)
            }  # fmt: skip
            found |= {f"joint_accuracy/{k}": here["joint_accuracy"].values[i] for i, k in enumerate(classes)}
            found |= {
                f"loss/{split}_{term}": here["loss"].values[i, j]
                for i, split in enumerate(ds["split"].values) for j, term in enumerate(ds["term"].values)
            }  # fmt: skip
            found |= {name: one[run] for name, one in times.items()} if step == steps[-1] else {}
            yield run, step, _finite(found)


def _times(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the learning time of every run [r] by name of class and concept; NaN = never."""
    steps, runs, definition = ds["step"].values, range(ds.sizes["run"]), learning.definition_of(ds)
    found = {}
    for i, klass in enumerate(ds["klass"].values):
        for concept, curves in learning.curves_by_concept(ds, runs, [i], NAIVE).items():
            found[f"learning_time/{klass}_{concept}"] = learning.times_by(definition, steps, curves)
    return found


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
