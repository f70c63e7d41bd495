"""The labelled dataset of a study: coordinates in concept space of every run, checkpoint, protocol and class."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.config.setting import SWEPT
from cspace_jax.data.classes import Classes
from cspace_jax.errors import UserError
from cspace_jax.storage.evaluations import MEASURED, SPLITS, TERMS

CHANNELS = ("r", "g", "b")


def measure(
    prob_samples: Float[np.ndarray, "r p k s c"], bits: Int[np.ndarray, "k c"]
) -> dict[str, Float[np.ndarray, "r p k ..."]]:
    """Turn P(bit = 1) of single samples [r, p, k, sample, c] into coordinates and accuracies.

    A NaN stays a NaN. Returns prob (concept-space coordinate) and accuracy [r, p, k, c], joint_accuracy and joint_prob
    [r, p, k]. A sample counts as bit 1 when its probability is above one half; a tie goes to bit 0, as argmax does. The
    joint values average the product over the concepts of a sample (reference implementation, linear-intervention
    script).
    """
    probs = np.asarray(prob_samples, dtype=np.float32)
    truth = np.asarray(bits, dtype=bool)[None, None, :, None, :]
    correct = np.where(truth, probs, 1 - probs)
    right = np.where(np.isnan(probs), np.nan, (probs > 0.5) == truth).astype(np.float32)
    return {
        "prob": probs.mean(axis=3),
        "accuracy": right.mean(axis=3),
        "joint_accuracy": right.prod(axis=-1).mean(axis=-1),
        "joint_prob": correct.prod(axis=-1).mean(axis=-1),
    }


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Measurements of all runs of a study.

    Attributes:
      evaluations: raw arrays by step, stacked over runs (`storage.evaluations.MEASURED`); each step is read once.
      settings: one mapping a run: the seed and the fields of `SWEPT`.
      classes: the classes of the active concepts.
      protocols: names along the protocol axis of the raw arrays.
      signal: concept signal at the class means [r, c]; None = unknown.
      signal_range: concept signal on the training ranges [r, c]; None = unknown.
      diverged: which runs [r] are known to have failed; a run with a NaN coordinate has failed as well.
    """

    evaluations: Mapping[int, Mapping[str, Float[np.ndarray, "r ..."]]]
    settings: Sequence[Mapping[str, float]]
    classes: Classes
    protocols: Sequence[str] = (NAIVE,)
    signal: Float[np.ndarray, "r c"] | None = None
    signal_range: Float[np.ndarray, "r c"] | None = None
    diverged: Bool[np.ndarray, " r"] | None = None

    @property
    def steps(self) -> list[int]:
        """Steps in increasing order."""
        return sorted(self.evaluations)


def build_dataset(
    measurements: Measurements,
    config: Mapping[str, Any] | None = None,
    probe_accuracy: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Merge the raw evaluations of all runs into the labelled dataset.

    Args:
      measurements: of all runs and steps.
      config: JSON-able configuration, kept as an attribute.
      probe_accuracy: held-out accuracy of the probe by concept, kept as an attribute.

    Raises:
      UserError: there is nothing to merge, or an evaluation was made for another grid.
    """
    if not measurements.evaluations:
        raise UserError("results: no evaluation found; run --mode=eval first")
    found = variables(measurements)
    failed = np.isnan(found["prob"][1][:, :, 0]).any(axis=(1, 2, 3))
    if measurements.diverged is not None:
        failed = failed | np.asarray(measurements.diverged, dtype=bool)
    return xr.Dataset(
        found, coordinates(measurements, failed), attributes(measurements.classes, config or {}, probe_accuracy or {})
    )


def require_fit(
    step: int, arrays: Mapping[str, np.ndarray], expected: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that the evaluation of a step is of the study's grid and classes.

    Args:
      step: of the evaluation.
      arrays: raw ones by name.
      expected: runs, protocols, classes, concepts.
      shapes: that arrays must have, by name.

    Raises:
      UserError: it is of another grid, or an array is missing or has another shape.
    """
    shape = np.shape(arrays.get("prob_samples", ()))
    if len(shape) != 5 or (*shape[:3], shape[4]) != expected:
        raise UserError(
            f"results: the evaluation of step {step} has runs, protocols, classes, concepts = "
            f"{(*shape[:3], *shape[4:])}, the config asks for {expected}"
        )
    for name, wanted in shapes.items():
        found = np.shape(arrays[name]) if name in arrays else None
        if found != wanted:
            raise UserError(f"results: {name} of step {step} has the shape {found}, must have {wanted}")


def _read(measurements: Measurements) -> Iterator[Mapping[str, Float[np.ndarray, "r ..."]]]:
    """Yield the raw arrays of each step by name, [r, ...] each.

    Raises:
      UserError: they do not fit the grid or each other.
    """
    expected = (len(measurements.settings), len(measurements.protocols), *np.shape(measurements.classes.bits))
    first: dict[str, tuple[int, ...]] = {}
    for step in measurements.steps:
        arrays = measurements.evaluations[step]
        require_fit(step, arrays, expected, first)
        first = first or {name: np.shape(values) for name, values in arrays.items()}
        yield arrays


def variables(measurements: Measurements) -> dict[str, Any]:
    """Return the variables of the dataset: name -> (dimensions, values).

    Raises:
      UserError: an evaluation was made for another grid, or lacks an array that the first one has.
    """
    bits, others = np.asarray(measurements.classes.bits), MEASURED[1:]
    kept = [measure(raw["prob_samples"], bits) | {one: raw[one] for one in others} for raw in _read(measurements)]
    stacked = {name: np.stack([one[name] for one in kept], axis=1) for name in kept[0]}
    unknown = np.full((len(measurements.settings), bits.shape[1]), np.nan)
    signal, ranged = (
        unknown if one is None else np.asarray(one) for one in (measurements.signal, measurements.signal_range)
    )
    asked = ("run", "step", "protocol", "klass")
    return {
        "prob": ((*asked, "concept"), stacked["prob"]),
        "accuracy": ((*asked, "concept"), stacked["accuracy"]),
        "joint_accuracy": (asked, stacked["joint_accuracy"]),
        "joint_prob": (asked, stacked["joint_prob"]),
        "mean_rgb": ((*asked, "channel"), stacked["mean_rgb"]),
        "loss": (("run", "step", "split", "term"), stacked["loss"]),
        "schedule_b": (("run", "step"), stacked["schedule_b"]),
        "schedule_w": (("run", "step"), stacked["schedule_w"]),
        "signal": (("run", "concept"), signal),
        "signal_range": (("run", "concept"), ranged),
    }


def coordinates(measurements: Measurements, failed: Bool[np.ndarray, " r"]) -> dict[str, Any]:
    """Return the coordinates of the dataset; `failed` [r] marks runs that diverged."""
    settings, classes = measurements.settings, measurements.classes
    swept = {name: ("run", np.array([float(one[name]) for one in settings])) for name in SWEPT}
    return swept | {
        "run": np.arange(len(settings)),
        "seed": ("run", np.array([int(one["seed"]) for one in settings])),
        "status": ("run", np.where(failed, "diverged", "ok")),
        "step": np.asarray(measurements.steps),
        "protocol": list(measurements.protocols),
        "klass": list(classes.names),
        "concept": list(classes.active),
        "trained": ("klass", np.asarray(classes.trained, dtype=bool)),
        "bit": (("klass", "concept"), np.asarray(classes.bits, dtype=np.int64)),
        "channel": list(CHANNELS),
        "split": list(SPLITS),
        "term": list(TERMS),
    }


def attributes(classes: Classes, config: Mapping[str, Any], probe_accuracy: Mapping[str, float]) -> dict[str, str]:
    """Return the attributes of the dataset: study, scale, and as JSON text words, configuration, probe's accuracy."""
    return {
        "study": str(config.get("study", "")),
        "scale": str(config.get("scale", "")),
        "words": json.dumps(dict(zip(classes.active, classes.words, strict=True))),
        "config": json.dumps(dict(config), sort_keys=True),
        "probe_accuracy": json.dumps(dict(probe_accuracy), sort_keys=True),
    }
