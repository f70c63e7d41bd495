"""Order in which unseen classes are learned, for three concepts and more (paper appendix C.4, Fig. 15)."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Real

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import accuracy_curves, default_sigma, trajectory
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.config.definitions import THRESHOLD

CONVERGED = 0.95


def has_three_concepts(ds: xr.Dataset) -> bool:
    """Return whether a study has three concepts or more."""
    return ds.sizes["concept"] >= 3


def first_step(steps: Real[np.ndarray, " t"], reached: Bool[np.ndarray, " t"]) -> float:
    """Return the first of `steps` [t] where `reached` [t] holds; infinity if it never does."""
    return float(steps[np.argmax(reached)]) if reached.any() else np.inf


def converged_step(ds: xr.Dataset, run: int, protocol: str) -> float:
    """Return the first save at which all concepts of all training classes are above .95; infinity if none is."""
    trained = np.flatnonzero(ds["trained"].values).tolist()
    accuracy = np.stack([accuracy_curves(ds, [run], [k], protocol)[0] for k in trained])  # [k, t, c]
    return first_step(ds["step"].values, np.all(accuracy > CONVERGED, axis=(0, 2)))


def learned_step(ds: xr.Dataset, run: int, klass: int, protocol: str) -> float:
    """Return the first save at which all concepts of a class are above .8; infinity if none is."""
    return first_step(ds["step"].values, (accuracy_curves(ds, [run], [klass], protocol)[0] > THRESHOLD).all(axis=1))


def distances(ds: xr.Dataset, run: int, klass: int, protocol: str) -> Float[np.ndarray, " t"]:
    """Return the distance of a class's smoothed point in concept space to its corner at every save [t]."""
    path = trajectory(ds, [run], klass, protocol, default_sigma(ds))[0]
    return np.linalg.norm(path - ds["bit"].values[klass], axis=-1)


def nearest_trained(ds: xr.Dataset, run: int, klass: int, protocol: str) -> int:
    """Return the training class whose corner the smoothed path of a class comes closest to.

    Early saves are left out (`curves.late_saves`).
    """
    path = trajectory(ds, [run], klass, protocol, default_sigma(ds))[0]
    late = path[curves.late_saves(ds["step"].values) :]
    trained = np.flatnonzero(ds["trained"].values)
    far = np.linalg.norm(late[:, None] - ds["bit"].values[trained][None], axis=-1)  # [t, k]
    return int(trained[np.argmin(far.min(axis=0))])


@summary_block("approach", when=has_three_concepts)
def approach(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return the learned step of each unseen class, and its distance to its corner at convergence.

    Convergence is the first save at which all concepts of all training classes are above .95. Both are by level, class
    and seed. A step that never comes is infinite, and its distance NaN; summary.json has null for both. `approached` is
    the training class whose corner each seed's path comes closest to.
    """
    protocol = str(ds["protocol"].values[0])
    return [_level_block(ds, level, protocol) for level in levels(ds) if level.runs]


def _level_block(ds: xr.Dataset, level: Level, protocol: str) -> dict[str, Any]:
    steps, names = ds["step"].values, ds["klass"].values
    converged = [converged_step(ds, run, protocol) for run in level.runs]
    classes = {}
    for klass in unseen(ds):
        far = [
            float(distances(ds, run, klass, protocol)[np.argmax(steps >= at)]) if np.isfinite(at) else float("nan")
            for run, at in zip(level.runs, converged, strict=True)
        ]
        classes[str(names[klass])] = {
            "learned_step": [learned_step(ds, run, klass, protocol) for run in level.runs],
            "distance_when_trained": far,
            "approached": [str(names[nearest_trained(ds, run, klass, protocol)]) for run in level.runs],
        }
    signal = dict(zip(map(str, ds["concept"].values), level.normalised, strict=True))
    return {"level": level.label, "normalised_signal": signal, "converged_step": converged, "classes": classes}
