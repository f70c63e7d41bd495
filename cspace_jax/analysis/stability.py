"""Which seeds learn stably, beside when patching elicits the class (paper appendix C.6, Fig. 17). NumPy only.

The paper says that patching works for seeds with "stable" dynamics, "in that once the model reaches accuracy, it
converges and stays at such accuracy"; others oscillate. It gives no numbers. RECONSTRUCTION: a seed is stable if
P(class asked for) under naive prompting reaches 80 % at some save and never falls below it afterwards.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Real

from cspace_jax.analysis import capability, curves
from cspace_jax.analysis.learning import whole
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.config.definitions import THRESHOLD
from cspace_jax.config.protocol_names import NAIVE, PATCH

KINDS = STABLE, UNSTABLE, NEVER = "stable", "unstable", "never learned"


def asked_patch(ds: xr.Dataset) -> bool:
    """Return whether patching is among the protocols of a battery."""
    return "capability" in ds and PATCH in ds["protocol"].values


def kind(steps: Real[np.ndarray, " t"], curve: Float[np.ndarray, " t"], threshold: float = THRESHOLD) -> str:
    """Return how a curve [t] learns: stable (first reach = stay), unstable (falls below again), or never."""
    reach, stay = (curves.crossing_time(steps, curve, threshold, persistence) for persistence in (1, None))
    return NEVER if np.isnan(reach) else STABLE if reach == stay else UNSTABLE


def seeds(ds: xr.Dataset, level: Level, klass: int) -> list[dict[str, Any]]:
    """Return by seed: how naive prompting learns a held-out class, and when it and patching reach it.

    reach: step at which naive prompting first reaches 80 %; naive, patch: steps from which they stay there; NaN for
    never. `dips`: how often naive prompting falls below 80 % again. All of the plain P(class), as in Fig. 17: naive
    prompting and patching have one query each, so that there is no maximum to correct for. A seed with a broken query
    is left out.
    """
    steps, found = ds["step"].values, []
    chosen = ds["capability"].isel(run=list(level.runs), klass=klass)
    naive, patch = (chosen.sel(protocol=name).transpose("run", "step").values for name in (NAIVE, PATCH))
    times = zip(capability.emergence(steps, naive), capability.emergence(steps, patch), strict=True)
    known = whole(naive) & whole(patch)
    for run, curve, (own, patched), told in zip(level.runs, naive, times, known, strict=True):
        if not told:
            continue
        above = curve >= THRESHOLD
        found.append({
            "seed": int(ds["seed"].values[run]), "kind": kind(steps, curve), "stable": kind(steps, curve) == STABLE,
            "reach": curves.crossing_time(steps, curve, THRESHOLD, 1), "naive": float(own),
            "patch": float(patched), "dips": int((above[:-1] & ~above[1:]).sum()),
        })  # fmt: skip
    return found


@summary_block("stable_seeds", when=asked_patch)
def summarise(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return by level and held-out class the seeds (`seeds`), and in how many of each kind patching emerges."""
    blocks = []
    for level in levels(ds):
        classes = {
            str(ds["klass"].values[klass]): _class_block(seeds(ds, level, klass)) for klass in unseen(ds) if level.runs
        }
        blocks.append({"label": level.label, "setting": level.setting, "classes": classes})
    return blocks


def _class_block(found: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {}
    for name in (STABLE, UNSTABLE, NEVER):
        patched = [np.isfinite(one["patch"]) for one in found if one["kind"] == name]
        kinds[name] = {"seeds": len(patched), "patched": int(sum(patched))}
    return {"seeds": found, "kinds": kinds}
