"""The numbers of a study as plain dicts and lists."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.analysis import (
    capability,
    claims,
    claims_of_capability,
    claims_of_learning,
    claims_of_masking,
    comparison,
    curves,
    definition2,
    intervals,
    pictures,
    stability,
    underspecification,
    unseen_classes,
)
from cspace_jax.analysis.learning import (
    curves_by_concept,
    default_sigma,
    definition_of,
    describe_times,
    learning_times,
    memorisation,
    product_check,
    reached,
    seed_spread,
)
from cspace_jax.analysis.levels import Level, levels, swept_concept, unseen
from cspace_jax.analysis.ordering import level_groups, order_within
from cspace_jax.analysis.summary_blocks import BLOCKS
from cspace_jax.config.definitions import EARLY, EARLY_STEPS, LEARNED, THRESHOLD

# Importing a module registers its block.
MODULES = (
    unseen_classes, capability, claims, claims_of_capability, claims_of_learning, claims_of_masking, comparison,
    definition2, pictures, stability, underspecification,
)  # fmt: skip
_EXACT = f"{intervals.LEAST_MEDIAN} seeds and more"
DEFINITIONS = {
    **LEARNED,
    "median": "Kaplan-Meier median over seeds that did not diverge; a seed that never learned is censored at the last "
    "step; null = never",
    "interval": f"{100 * intervals.LEVEL:g} % over seeds: of a median between two order statistics (exact, {_EXACT}), "
    "of a probability Student's on the logit scale joined with the exact interval of the share of seeds above one half "
    f"({intervals.LEAST_MEAN} seeds and more), of paired differences that of their median ({_EXACT}), of another mean "
    "Student's; null = open end, or none for so few seeds (`no_interval`)",
    "memorisation": "trajectory of P(bit = 1) smoothed with `sigma`, after the first "
    f"{100 * EARLY:g} % of the steps (at most {EARLY_STEPS:,}): class = the training class approached most closely "
    f"(memorised: within {curves.MEMORISED_WITHIN} of its corner); weak concept = the one held back; turning step = "
    "its minimum, if the class was memorised and leaves again; depth = 1 - that minimum, mean of the seeds' own",
    "turn": f"first turn of at least {curves.TURN_DEGREES:g} degrees over {curves.TURN_WINDOW} saves before and after "
    f"that lasts {curves.TURN_LASTS} saves (own detector)",
    "momentary": f"seeds with accuracy of at least {THRESHOLD} on all concepts at one save or more",
    "persistent": f"seeds with accuracy of at least {THRESHOLD} on all concepts at every save from some save to the "
    "last",
}


def _per_concept(ds: xr.Dataset, values: Float[np.ndarray, " c"]) -> dict[str, float]:
    return {str(name): float(value) for name, value in zip(ds["concept"].values, values, strict=True)}


def _times_block(ds: xr.Dataset, level: Level, classes: list[int], protocol: str) -> dict[str, Any]:
    steps = ds["step"].values
    return {
        name: {kind: describe_times(times, steps) for kind, times in learning_times(steps, curve).items()}
        for name, curve in curves_by_concept(ds, level.runs, classes, protocol).items()
    }


def _class_block(ds: xr.Dataset, level: Level, klass: int, protocol: str, sigma: float) -> dict[str, Any]:
    measured = ds[["prob", "accuracy", "joint_accuracy"]]
    last = measured.sel(protocol=protocol).isel(run=list(level.runs), klass=klass, step=-1)
    block: dict[str, Any] = {
        "trained": bool(ds["trained"].values[klass]),
        "learning_times": _times_block(ds, level, [klass], protocol),
        "reached_80": reached(ds, level, klass, protocol),
        "product_check": product_check(ds, level, klass, protocol),
    }
    if level.runs:
        spread = seed_spread(ds, level, protocol)[:, klass]
        block["final"] = {
            "prob": _per_concept(ds, last["prob"].mean("run").values),
            "accuracy": _per_concept(ds, last["accuracy"].mean("run").values),
            "joint_accuracy": float(last["joint_accuracy"].mean()),
            "joint_accuracy_per_seed": last["joint_accuracy"].values.tolist(),
            "seed_std": _per_concept(ds, spread[-1]),
            "largest_seed_std": _per_concept(ds, spread.max(axis=0)),
        }
    if not block["trained"]:
        block["memorisation"] = memorisation(ds, level, klass, protocol, sigma)
    return block


def _level_block(ds: xr.Dataset, level: Level, protocol: str, sigma: float) -> dict[str, Any]:
    trained = np.flatnonzero(ds["trained"].values).tolist()
    return {
        "label": level.label, "setting": level.setting,
        "signal": _per_concept(ds, np.array(level.signal)),
        "normalised_signal": _per_concept(ds, np.array(level.normalised)),
        "seeds": [int(ds["seed"].values[run]) for run in level.runs],
        "diverged_seeds": [int(ds["seed"].values[run]) for run in level.diverged],
        "training_classes": {"learning_times": _times_block(ds, level, trained, protocol)},
        "classes": {
            str(name): _class_block(ds, level, klass, protocol, sigma) for klass, name in enumerate(ds["klass"].values)
        },
    }  # fmt: skip


def _order_block(ds: xr.Dataset, found: list[Level], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    held_out = ds["klass"].values[unseen(ds)].astype(str).tolist()
    result: dict[str, Any] = {}
    for index, concept in enumerate(map(str, ds["concept"].values)):
        signal, groups = np.array([level.signal[index] for level in found]), level_groups(found, concept)
        places = {"training_classes": [block["training_classes"] for block in blocks]}
        places |= {name: [block["classes"][name] for block in blocks] for name in held_out}
        result[concept] = {
            place: {
                kind: order_within(
                    signal, np.array([part["learning_times"][concept][kind]["median"] for part in parts]), groups
                )
                for kind in LEARNED
            }
            for place, parts in places.items()
        }
    return result


def summarise(
    ds: xr.Dataset,
    protocol: str | None = None,
    sigma: float | None = None,
    wall_times: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the numbers of a study as plain dicts and lists (NaN for unknown; `report.py` writes them as null).

    protocol defaults to the first one, sigma (smoothing of trajectories, in saves) to the published 2 for two concepts
    and 1 for more. wall_times are passed through.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    sigma = default_sigma(ds) if sigma is None else sigma
    found = levels(ds)
    blocks = [_level_block(ds, level, protocol, sigma) for level in found]
    blocks_of_study = {name: block.make(ds) for name, block in BLOCKS.items() if block.when(ds)}
    return {
        "study": ds.attrs.get("study", ""), "scale": ds.attrs.get("scale", ""), "protocol": protocol, "sigma": sigma,
        "definitions": DEFINITIONS, "learned": definition_of(ds),
        "runs": {"total": ds.sizes["run"], "diverged": sum(len(level.diverged) for level in found)},
        "probe_accuracy": ds.attrs.get("probe_accuracy", "{}"),
        "swept_concept": str(ds["concept"].values[swept_concept(found)]),
        "levels": blocks, "order": _order_block(ds, found, blocks),
        "wall_times": dict(wall_times or {}),
        **blocks_of_study,
    }  # fmt: skip
