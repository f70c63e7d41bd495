"""From the labelled dataset to the numbers of a study: signal levels, learning times, memorisation, order, spread.

Works on plain NumPy views of the dataset for any number of concepts and any held-out classes. A diverged run is
counted and left out of everything else.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from cspace_jax import curves
from cspace_jax.results import SETTINGS

PAPER_THRESHOLD = 0.8
DEFINITIONS = {
    "paper_80": "accuracy reaches 0.8 and stays there to the last save; interpolated between saves; not smoothed",
    "notebooks_90": "accuracy smoothed (sigma 1.5 saves) is above 0.9 at 3 saves in a row; the middle of the first 3",
    "median": "over seeds that did not diverge; a seed that never learned is later than any number; null = never",
    "interval": "95 % percentile bootstrap over seeds; null = open end or fewer than two seeds",
    "memorisation": "trajectory of P(bit = 1) smoothed with `sigma`, after the first 7.5 % of the steps (at most "
    "1,500): class = the training class approached most closely (memorised: within 0.5 of its corner); weak concept = "
    "the one held back; turning step = its minimum, if the class was memorised and leaves again",
    "turn": "first turn of at least 60 degrees over 3 saves before and after that lasts 2 saves (own detector)",
    "momentary": "seeds with accuracy of at least 0.8 on all concepts at one save or more",
    "persistent": "seeds with accuracy of at least 0.8 on all concepts at every save from some save to the last",
}

SEPARATION = {"color": "sep_col", "size": "sep_size", "bg_color": "sep_bg"}  # concept -> setting of its signal


@dataclasses.dataclass(frozen=True)
class Level:
    """All runs that differ in nothing but their seed."""

    label: str  # "sep_col=0.2", only the settings that vary over the study
    setting: dict[str, float]
    varying: dict[str, float]
    runs: tuple[int, ...]  # positions of the runs that did not diverge
    diverged: tuple[int, ...]
    signal: tuple[float, ...]  # pixel signal of each concept, mean over the runs
    normalised: tuple[float, ...]  # signal divided by its length over concepts


def ok_runs(ds: xr.Dataset) -> np.ndarray:
    """Return a mask [r] of the runs that neither were marked diverged nor hold a NaN coordinate."""
    prob = ds["prob"].isel(protocol=0)  # of all classes; further protocols ask for held-out ones only
    finite = np.isfinite(prob.transpose("run", ...).values).reshape(ds.sizes["run"], -1).all(axis=1)
    return finite & (ds["status"].values == "ok")


def levels(ds: xr.Dataset) -> list[Level]:
    """Return the signal levels of a study in the order of their settings (first varying setting slowest)."""
    table = np.stack([ds[name].values for name in SETTINGS], axis=1)
    rows, member = np.unique(table, axis=0, return_inverse=True)
    varying = [name for name, column in zip(SETTINGS, rows.T, strict=True) if len(set(column)) > 1]
    alive = ok_runs(ds)
    found = []
    for number, row in enumerate(rows):
        setting: dict[str, float] = dict(zip(SETTINGS, map(float, row), strict=True))
        found.append(_level(ds, setting, varying, np.flatnonzero(member.ravel() == number), alive))
    return found


def _level(ds: xr.Dataset, setting: dict[str, float], varying: list[str], runs: np.ndarray, alive: np.ndarray) -> Level:
    signal = ds["signal"].values[runs].mean(axis=0)
    ranged = ds["signal_range"].values[runs].mean(axis=0)
    return Level(
        label=", ".join(f"{name}={setting[name]:.3g}" for name in varying) or "the one setting",
        setting=setting,
        varying={name: setting[name] for name in varying},
        runs=tuple(int(run) for run in runs if alive[run]),
        diverged=tuple(int(run) for run in runs if not alive[run]),
        signal=tuple(map(float, signal)),
        normalised=tuple(map(float, normalise(ranged if np.isfinite(ranged).all() else signal))),
    )


def normalise(signal: np.ndarray) -> np.ndarray:
    """Divide a signal vector [..., c] by its length over concepts (the "normalised concept signal"); 0 stays 0."""
    length = np.linalg.norm(signal, axis=-1, keepdims=True)
    return np.divide(signal, length, out=np.zeros_like(signal), where=length != 0)


def swept_concept(found: Iterable[Level]) -> int:
    """Return the index of the concept whose signal changes most over the levels (largest ratio; 0 if none does)."""
    signals = np.array([level.signal for level in found])
    if not np.isfinite(signals).all() or (signals <= 0).any():
        return 0
    return int(np.argmax(signals.max(axis=0) / signals.min(axis=0)))


def trajectory(ds: xr.Dataset, runs: Iterable[int], klass: int, protocol: str, sigma: float = 0.0) -> np.ndarray:
    """Return the coordinates of a class in concept space [r, t, c] for the given runs, smoothed by `sigma` saves."""
    chosen = ds["prob"].sel(protocol=protocol).isel(run=list(runs), klass=klass)
    return curves.smooth(chosen.transpose("run", "step", "concept").values, sigma, axis=1)


def accuracy_curves(ds: xr.Dataset, runs: Iterable[int], classes: Iterable[int], protocol: str) -> np.ndarray:
    """Return accuracy [r, t, c] of the given runs, averaged over the given classes."""
    chosen = ds["accuracy"].sel(protocol=protocol).isel(run=list(runs), klass=list(classes))
    return chosen.transpose("klass", "run", "step", "concept").values.mean(axis=0)


def learning_times(steps: np.ndarray, accuracy: np.ndarray) -> dict[str, np.ndarray]:
    """Return the learning time of every curve [r, t] by both definitions: {"paper_80": [r], "notebooks_90": [r]}."""
    return {
        "paper_80": np.array([curves.crossing_time(steps, one, PAPER_THRESHOLD) for one in accuracy]),
        "notebooks_90": np.array([curves.notebook_time(steps, one) for one in accuracy]),
    }


def describe_times(times: np.ndarray) -> dict[str, Any]:
    """Summarise learning times over seeds [r]: censored median, its interval, how many learned."""
    low, high = curves.bootstrap_interval(times, "median")
    learned = int(np.isfinite(times).sum())
    return {
        "median": curves.censored_median(times), "interval": [float(low), float(high)], "learned": learned,
        "seeds": len(times), "fraction": learned / len(times) if len(times) else float("nan"),
        "per_seed": times.tolist(),
    }  # fmt: skip


def seed_spread(ds: xr.Dataset, level: Level, protocol: str) -> np.ndarray:
    """Return the standard deviation over seeds of the coordinates [t, k, c]; NaN for fewer than two seeds."""
    chosen = ds["prob"].sel(protocol=protocol).isel(run=list(level.runs))
    values = chosen.transpose("run", "step", "klass", "concept").values
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def product_check(ds: xr.Dataset, level: Level, klass: int, protocol: str) -> dict[str, float]:
    """Compare joint accuracy with the product of the concepts' accuracies over all seeds and saves.

    Equal if the concepts of one sample fail independently (multiplicative emergence); largest and mean difference.
    """
    chosen = ds.sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
    difference = chosen["joint_accuracy"].values - chosen["accuracy"].prod("concept").transpose("run", "step").values
    if difference.size == 0:
        return {"largest": float("nan"), "mean": float("nan")}
    return {"largest": float(np.abs(difference).max()), "mean": float(difference.mean())}


def reached(
    ds: xr.Dataset, level: Level, klass: int, protocol: str, threshold: float = PAPER_THRESHOLD
) -> dict[str, int]:
    """Count seeds whose accuracy reaches `threshold` on all concepts: at some save, and from some save to the end."""
    above = np.all(accuracy_curves(ds, level.runs, [klass], protocol) >= threshold, axis=-1)  # [r, t]
    return {"momentary": int(above.any(axis=1).sum()), "persistent": int(above[:, -1].sum()), "seeds": len(above)}


def memorisation(ds: xr.Dataset, level: Level, klass: int, protocol: str, sigma: float) -> dict[str, Any]:
    """Describe the memorisation of a held-out class: on the mean over seeds, and the turning step of each seed."""
    steps, bits, trained = ds["step"].values, ds["bit"].values, ds["trained"].values
    runs = trajectory(ds, level.runs, klass, protocol, sigma)
    if len(runs) == 0:
        return {}
    one = curves.find_memorisation(steps, runs.mean(axis=0), bits, klass, trained)
    seeds = [curves.find_memorisation(steps, run, bits, klass, trained) for run in runs]
    turn = curves.find_turn(steps, runs.mean(axis=0))
    concepts = ds["concept"].values.tolist()
    low, high = curves.bootstrap_interval(np.array([seed.depth for seed in seeds]))
    return {
        "as_class": str(ds["klass"].values[one.nearest]), "memorised": one.memorised,
        "weak_concept": concepts[one.weak], "min_correct": one.weak_min, "at_step": one.weak_step,
        "correct_there": dict(zip(concepts, one.at_min, strict=True)),
        "closest_distance": one.distance, "closest_step": one.closest_step, "depth": one.depth,
        "depth_interval": [float(low), float(high)], "turning_step": one.turning_step,
        "turn": {"step": turn.step, "degrees": turn.degrees},
        "per_seed": {
            "as_class": [str(ds["klass"].values[seed.nearest]) for seed in seeds],
            "memorised": [seed.memorised for seed in seeds],
            "min_correct": [seed.weak_min for seed in seeds],
            "turning_step": [seed.turning_step for seed in seeds],
        },
    }  # fmt: skip


def _per_concept(ds: xr.Dataset, values: np.ndarray) -> dict[str, float]:
    return {str(name): float(value) for name, value in zip(ds["concept"].values, values, strict=True)}


def _times_block(ds: xr.Dataset, level: Level, classes: list[int], protocol: str) -> dict[str, Any]:
    steps = ds["step"].values
    accuracy = accuracy_curves(ds, level.runs, classes, protocol)
    joint = ds["joint_accuracy"].sel(protocol=protocol).isel(run=list(level.runs), klass=classes)
    by_name = {str(name): accuracy[..., i] for i, name in enumerate(ds["concept"].values)}
    by_name["joint"] = joint.transpose("klass", "run", "step").values.mean(axis=0)
    return {
        name: {kind: describe_times(times) for kind, times in learning_times(steps, curve).items()}
        for name, curve in by_name.items()
    }


def _class_block(ds: xr.Dataset, level: Level, klass: int, protocol: str, sigma: float) -> dict[str, Any]:
    last = ds.sel(protocol=protocol).isel(run=list(level.runs), klass=klass, step=-1)
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


def order_check(signal: np.ndarray, medians: np.ndarray) -> dict[str, Any]:
    """Ask whether times [levels] fall as the signal [levels] rises; NaN ("never") counts as the latest.

    ordered: no level is slower than a weaker one, and the strongest is learned and faster than the weakest; None where
    there is nothing to order: fewer than two levels, or all times alike ("never" included). spearman: rank correlation,
    -1 for perfectly ordered; NaN in the same cases.
    """
    times = np.where(np.isnan(medians), np.inf, medians)[np.argsort(signal, kind="stable")]
    if len(set(times)) < 2 or np.isnan(signal).any():
        return {"ordered": None, "spearman": float("nan"), "levels": len(times)}
    ordered = bool((times[1:] <= times[:-1]).all() and times[-1] < times[0])
    return {"ordered": ordered, "spearman": rank_correlation(np.sort(signal), times), "levels": len(times)}


def order_within(signal: np.ndarray, medians: np.ndarray, groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Apply `order_check` to levels [levels] within groups of them, whose members differ in one setting alone.

    ordered: in every group in which there is something to order (groups of them, ordered_groups are ordered); None if
    in none. spearman: mean over these groups.
    """
    checks = [order_check(signal[list(group)], medians[list(group)]) for group in groups]
    judged = [check for check in checks if check["ordered"] is not None]
    ordered = [check["ordered"] for check in judged]
    return {
        "ordered": all(ordered) if judged else None,
        "spearman": float(np.mean([check["spearman"] for check in judged])) if judged else float("nan"),
        "levels": len(signal), "groups": len(judged), "ordered_groups": sum(ordered),
    }  # fmt: skip


def _groups(found: Sequence[Level], concept: str) -> list[list[int]]:
    """Return positions of levels that differ in the separation of a concept alone; all levels if it does not vary."""
    axis = SEPARATION.get(concept)
    if axis not in found[0].varying:
        return [list(range(len(found)))]
    groups: dict[tuple[float, ...], list[int]] = {}
    for number, level in enumerate(found):
        groups.setdefault(tuple(v for name, v in level.varying.items() if name != axis), []).append(number)
    return list(groups.values())


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation of two series [n], in -1..1; NaN if one of them is constant."""
    ranks = stats.rankdata(x), stats.rankdata(y)  # infinite values have ranks too
    constant = any(len(set(rank)) == 1 for rank in ranks)
    return float("nan") if constant else float(np.corrcoef(*ranks)[0, 1])


def _order_block(ds: xr.Dataset, found: list[Level], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    held_out = ds["klass"].values[~ds["trained"].values].astype(str).tolist()
    result: dict[str, Any] = {}
    for index, concept in enumerate(map(str, ds["concept"].values)):
        signal, groups = np.array([level.signal[index] for level in found]), _groups(found, concept)
        places = {"training_classes": [block["training_classes"] for block in blocks]}
        places |= {name: [block["classes"][name] for block in blocks] for name in held_out}
        result[concept] = {
            place: {
                kind: order_within(
                    signal, np.array([part["learning_times"][concept][kind]["median"] for part in parts]), groups
                )
                for kind in ("paper_80", "notebooks_90")
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
    return {
        "study": ds.attrs.get("study", ""), "scale": ds.attrs.get("scale", ""), "protocol": protocol, "sigma": sigma,
        "definitions": DEFINITIONS,
        "runs": {"total": ds.sizes["run"], "diverged": sum(len(level.diverged) for level in found)},
        "probe_accuracy": ds.attrs.get("probe_accuracy", "{}"),
        "swept_concept": str(ds["concept"].values[swept_concept(found)]),
        "levels": blocks, "order": _order_block(ds, found, blocks),
        "wall_times": dict(wall_times or {}),
    }  # fmt: skip


def default_sigma(ds: xr.Dataset) -> float:
    """Return the published smoothing of trajectories in saves: 2 for up to two concepts, 1 for more."""
    return curves.SIGMA_TRAJECTORY if ds.sizes["concept"] <= 2 else 1.0
