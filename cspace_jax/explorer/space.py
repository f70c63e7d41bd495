"""The data of the live view of concept space: coordinates of every run at every save, and the runs' settings."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Real

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import default_sigma
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.explorer.charts import level_looks
from cspace_jax.plots import elicitation, style

SYMBOLS = ("circle", "square", "diamond", "cross", "x", "circle-open", "square-open", "diamond-open")  # also in 3-D


def payload(ds: xr.Dataset) -> dict[str, Any]:
    """Return everything that the live view shows but images, ready for JSON; NaN where a run diverged.

    Arrays are float32 in base64 (`packed`): `prob` and `smooth` [r, t, k, c], `joint` (accuracy on all concepts)
    [r, t, k], `answers` (P(class asked for) under each protocol) [r, t, p, k]. `smooth` is `prob` smoothed as in the
    printed figures.
    """
    names = ("run", "step", "klass", "concept")
    naive = ds.sel(protocol=str(ds["protocol"].values[0]))
    prob = naive["prob"].transpose(*names).values
    return {
        "study": ds.attrs.get("study", ""),
        "steps": ds["step"].values.tolist(),
        "concepts": [_concept(ds, str(name)) for name in ds["concept"].values],
        "classes": [_class(ds, k) for k in range(ds.sizes["klass"])],
        **_runs(ds),
        "prob": packed(prob),
        "smooth": packed(_smoothed(prob, default_sigma(ds))),
        "joint": packed(naive["joint_accuracy"].transpose(*names[:3]).values),
        **_answers(ds),
    }


def packed(values: Real[np.ndarray, "..."]) -> dict[str, Any]:
    """Return an array as its shape and its little-endian float32 bytes in base64."""
    return {"shape": list(values.shape), "f32": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _smoothed(prob: Real[np.ndarray, "r t k c"], sigma: float) -> Real[np.ndarray, "r t k c"]:
    return np.stack([curves.smooth(run, sigma) if np.isfinite(run).all() else run for run in prob])


def _concept(ds: xr.Dataset, name: str) -> dict[str, Any]:
    words = [style.bit_label(ds, name, bit) for bit in (0, 1)]
    return {"name": name, "title": style.concept_title(name), "axis": style.probability_label(ds, name), "words": words}


def _class(ds: xr.Dataset, klass: int) -> dict[str, Any]:
    return {
        "code": str(ds["klass"].values[klass]),
        "label": style.class_label(ds, klass),
        "bits": ds["bit"].values[klass].tolist(),
        "trained": bool(ds["trained"].values[klass]),
        "color": style.class_color(klass),
        "symbol": SYMBOLS[klass % len(SYMBOLS)],
    }


def _runs(ds: xr.Dataset) -> dict[str, Any]:
    found = levels(ds)
    looks = level_looks(ds, found)
    level_of = {run: i for i, level in enumerate(found) for run in (*level.runs, *level.diverged)}
    diverged = {run for level in found for run in level.diverged}
    return {
        "levels": [
            {"label": level.label, "color": color, "dash": dash, "signal": _signal(ds, level)}
            for level, (color, dash) in zip(found, looks, strict=True)
        ],
        "runs": [
            {"seed": int(ds["seed"].values[run]), "level": level_of[run], "diverged": run in diverged}
            for run in range(ds.sizes["run"])
        ],
    }


def _signal(ds: xr.Dataset, level: Level) -> dict[str, float | None]:
    signals = zip(map(str, ds["concept"].values), level.signal, strict=True)
    return {name: value if np.isfinite(value) else None for name, value in signals}


def _answers(ds: xr.Dataset) -> dict[str, Any]:
    """Return the protocols and their P(class asked for), [r, t, p, k]; none where none were asked."""
    if "capability_split" not in ds:
        return {"protocols": [], "answers": packed(np.zeros((ds.sizes["run"], ds.sizes["step"], 0, ds.sizes["klass"])))}
    values = ds["capability_split"].transpose("run", "step", "protocol", "klass").values
    names: Sequence[str] = list(map(str, ds["protocol"].values))
    protocols = [{"name": name, "title": elicitation.title_of(name)} for name in names]
    return {"protocols": protocols, "answers": packed(values)}
