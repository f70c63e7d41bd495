"""A study can log to TensorBoard or Weights & Biases besides its own files. A log changes no result.

A log is complete after every start: what was trained before is written from metrics.jsonl, what was evaluated before
from the files of evaluations (`log_results`).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from cspace_jax.config.setting import SWEPT
from cspace_jax.storage.pictures import sheet

MOST = 4  # samples of a class in a picture
PICTURED = 16  # runs whose samples are shown, at most


@runtime_checkable
class Writer(Protocol):
    """A writer takes numbers and pictures of runs.

    It tells runs apart by label. Steps may come in any order.
    """

    def begin(self, label: str) -> None:
        """Start a run's log anew."""

    def scalars(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a run at a step."""

    def picture(self, label: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        """Take a picture of a run at a step."""

    def close(self) -> None:
        """Write out what is held."""


@dataclasses.dataclass
class Curves:
    """The accuracies of a wave's runs at the saves that are evaluated so far.

    Attributes:
      scores: accuracy by step, [r, k, c + 1], of each class by concept, and last of all concepts at once.
      timed: how many of the first saves have their learning times in the log.
      in_order: whether the log took its steps in increasing order.
    """

    scores: dict[int, Float[np.ndarray, "r k c"]] = dataclasses.field(default_factory=dict)
    timed: int = 0
    in_order: bool = True


@dataclasses.dataclass(frozen=True)
class Log:
    """A log takes the numbers of a study's runs. Without a writer it takes nothing.

    Attributes:
      writer: where they go.
      labels: of all runs of the study.
      pictured: numbers of the runs whose samples are shown.
      first: number of the first run of the part of the study that this logs.
      curves: of each wave, by the number of its first run; parts of a study share them.
    """

    writer: Writer | None = None
    labels: tuple[str, ...] = ()
    pictured: frozenset[int] = frozenset()
    first: int = 0
    curves: dict[int, Curves] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def of_part(self, first: int) -> "Log":
        """Return the log of a part of the study whose runs begin at number `first`."""
        return dataclasses.replace(self, first=first)

    def begin(self, runs: Sequence[int], earlier: Iterable[Mapping[str, Any]]) -> None:
        """Start the logs of a wave's runs anew.

        `earlier` holds the rows of metrics.jsonl of the steps before.
        """
        if self.writer is None:
            return
        self.curves[self.first + runs[0]] = Curves()
        for run in runs:
            self.writer.begin(self.labels[self.first + run])
        self.metrics(earlier)

    def metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of metrics.jsonl. Numbers that are not finite are left out."""
        if self.writer is None:
            return
        for row in rows:
            values = {f"train/{name}": row[name] for name in row if name not in ("run", "step", "seed", *SWEPT)}
            label = self.labels[self.first + int(row["run"])]
            self.writer.scalars(label, int(row["step"]), _finite(values))

    def result(self, run: int, step: int, values: Mapping[str, Any]) -> None:
        """Take numbers of a run's evaluation at a step. Numbers that are not finite are left out."""
        if self.writer is not None and (found := _finite(values)):
            self.writer.scalars(self.labels[self.first + run], step, found)

    def samples(self, run: int, step: int, images: UInt8[np.ndarray, "k n h w 3"]) -> None:
        """Take the kept samples of a run at a step as one picture.

        A run whose samples are not shown is passed over.
        """
        if self.writer is not None and self.first + run in self.pictured and images.size:
            self.writer.picture(self.labels[self.first + run], step, "samples", sheet(images[:, :MOST]))

    def close(self) -> None:
        """Write out what is held."""
        if self.writer is not None:
            self.writer.close()


def labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a label for each run: its number, its swept numbers that vary, and its seed."""
    varying = [name for name in SWEPT if len({one[name] for one in settings}) > 1]
    return [
        " ".join([f"run_{run:05d}", *(f"{name}={one[name]:g}" for name in varying), f"seed={one['seed']}"])
        for run, one in enumerate(settings)
    ]


def pictured(settings: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    """Return the numbers of the runs whose samples are shown.

    These are all runs if they are few, else one of each level. Of more than `PICTURED` levels as many are taken, evenly
    spaced from the first to the last.
    """
    if len(settings) <= PICTURED:
        return frozenset(range(len(settings)))
    levels = {tuple(one[name] for name in SWEPT): run for run, one in reversed(list(enumerate(settings)))}
    first = sorted(levels.values())
    chosen = np.linspace(0, len(first) - 1, min(PICTURED, len(first))).round().astype(int)
    return frozenset(first[i] for i in chosen)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that are finite."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
