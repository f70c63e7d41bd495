"""The labelled dataset of a study: coordinates in concept space of every run, checkpoint, protocol and class."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cspace_jax.config.setting import SWEPT
from cspace_jax.data.concepts import Classes
from cspace_jax.errors import UserError
from cspace_jax.storage.evaluations import MEASURED, SPLITS, TERMS

CHANNELS = ("r", "g", "b")


def measure(prob_samples: np.ndarray, bits: np.ndarray) -> dict[str, np.ndarray]:
    """Turn P(bit = 1) of single samples [r, p, k, sample, c] into coordinates and accuracies; a NaN stays a NaN.

    Returns prob (concept-space coordinate) and accuracy [r, p, k, c], joint_accuracy and joint_prob [r, p, k]. A sample
    counts as bit 1 when its probability is above one half; a tie goes to bit 0, as argmax does. The joint values
    average the product over the concepts of a sample (reference implementation, linear-intervention script).
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


def build_dataset(
    evaluations: Mapping[int, Mapping[str, np.ndarray]],
    settings: Sequence[Mapping[str, float]],
    classes: Classes,
    *,
    protocols: Sequence[str] = ("naive",),
    signal: np.ndarray | None = None,
    signal_range: np.ndarray | None = None,
    diverged: np.ndarray | None = None,
    config: Mapping[str, Any] | None = None,
    probe_accuracy: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Merge raw evaluations {step: arrays} of all runs into the labelled dataset.

    settings holds one mapping a run (seed and the fields of SWEPT), classes is a `concepts.Classes`. signal and
    signal_range are [r, c] (NaN where not given). diverged marks runs [r] known to have failed; a run with a NaN
    coordinate is marked as well. config is the JSON-able config, kept as an attribute. Raises UserError if there is
    nothing to merge or if an evaluation was made for another grid.
    """
    if not evaluations:
        raise UserError("results: no evaluation found; run --mode=eval first")
    steps = sorted(evaluations)
    bits = np.asarray(classes.bits)
    expected = (len(settings), len(protocols), *bits.shape)
    for step in steps:
        shape = np.shape(evaluations[step]["prob_samples"])
        if (*shape[:3], *shape[4:]) != expected:
            raise UserError(
                f"results: the evaluation of step {step} has runs, protocols, classes, concepts = "
                f"{(*shape[:3], *shape[4:])}, the config asks for {expected}"
            )
    measured = [measure(evaluations[step]["prob_samples"], bits) for step in steps]
    stacked = {name: np.stack([one[name] for one in measured], axis=1) for name in measured[0]}
    raw = {name: np.stack([evaluations[step][name] for step in steps], axis=1) for name in MEASURED[1:]}
    unknown = np.full((len(settings), bits.shape[1]), np.nan)
    variables = {
        "prob": (("run", "step", "protocol", "klass", "concept"), stacked["prob"]),
        "accuracy": (("run", "step", "protocol", "klass", "concept"), stacked["accuracy"]),
        "joint_accuracy": (("run", "step", "protocol", "klass"), stacked["joint_accuracy"]),
        "joint_prob": (("run", "step", "protocol", "klass"), stacked["joint_prob"]),
        "mean_rgb": (("run", "step", "protocol", "klass", "channel"), raw["mean_rgb"]),
        "loss": (("run", "step", "split", "term"), raw["loss"]),
        "schedule_b": (("run", "step"), raw["schedule_b"]),
        "schedule_w": (("run", "step"), raw["schedule_w"]),
        "signal": (("run", "concept"), unknown if signal is None else np.asarray(signal)),
        "signal_range": (("run", "concept"), unknown if signal_range is None else np.asarray(signal_range)),
    }
    failed = np.isnan(stacked["prob"][:, :, 0]).any(axis=(1, 2, 3))
    failed = np.asarray(failed if diverged is None else failed | np.asarray(diverged, dtype=bool))
    coords = _coordinates(settings, steps, classes, protocols, failed)
    config = dict(config or {})
    attributes = {
        "study": str(config.get("study", "")),
        "scale": str(config.get("scale", "")),
        "config": json.dumps(config, sort_keys=True),
        "probe_accuracy": json.dumps(dict(probe_accuracy or {}), sort_keys=True),
    }
    return xr.Dataset(variables, coords, attributes)


def _coordinates(
    settings: Sequence[Mapping[str, float]],
    steps: Sequence[int],
    classes: Classes,
    protocols: Sequence[str],
    failed: np.ndarray,
) -> dict[str, Any]:
    coords = {name: ("run", np.array([float(one[name]) for one in settings])) for name in SWEPT}
    return coords | {
        "run": np.arange(len(settings)),
        "seed": ("run", np.array([int(one["seed"]) for one in settings])),
        "status": ("run", np.where(failed, "diverged", "ok")),
        "step": np.asarray(steps),
        "protocol": list(protocols),
        "klass": list(classes.names),
        "concept": list(classes.active),
        "trained": ("klass", np.asarray(classes.trained, dtype=bool)),
        "bit": (("klass", "concept"), np.asarray(classes.bits, dtype=np.int64)),
        "channel": list(CHANNELS),
        "split": list(SPLITS),
        "term": list(TERMS),
    }
