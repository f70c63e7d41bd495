"""Learning times, memorisation, spread over seeds: the numbers of one level and class.

Works on plain NumPy views of the dataset for any number of concepts and any held-out classes. A diverged run is
counted and left out of everything else.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Real

from cspace_jax.analysis import censored, curves, intervals
from cspace_jax.analysis.levels import Level
from cspace_jax.config.definitions import LEARNED, STAYS_80, THRESHOLD
from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.config.schema import ElicitConfig, EvaluateConfig
from cspace_jax.storage import results

BATTERIES = "batteries"  # attribute: by protocol the fields of its battery, as JSON


def trajectory(
    ds: xr.Dataset, runs: Iterable[int], klass: int, protocol: str, sigma: float = 0.0
) -> Float[np.ndarray, "r t c"]:
    """Return the coordinates of a class in concept space [r, t, c] for the given runs, smoothed by `sigma` saves."""
    chosen = ds["prob"].sel(protocol=protocol).isel(run=list(runs), klass=klass)
    return curves.smooth(chosen.transpose("run", "step", "concept").values, sigma, axis=1)


def accuracy_curves(
    ds: xr.Dataset, runs: Iterable[int], classes: Iterable[int], protocol: str
) -> Float[np.ndarray, "r t c"]:
    """Return accuracy [r, t, c] of the given runs, averaged over the given classes."""
    chosen = ds["accuracy"].sel(protocol=protocol).isel(run=list(runs), klass=list(classes))
    return chosen.transpose("klass", "run", "step", "concept").values.mean(axis=0)


def curves_by_concept(
    ds: xr.Dataset, runs: Iterable[int], classes: Iterable[int], protocol: str
) -> dict[str, Float[np.ndarray, "r t"]]:
    """Return the accuracy [r, t] of the given runs by concept, and "joint" for all concepts at once.

    Averaged over the given classes.
    """
    runs, classes = list(runs), list(classes)
    accuracy = accuracy_curves(ds, runs, classes, protocol)
    joint = ds["joint_accuracy"].sel(protocol=protocol).isel(run=runs, klass=classes)
    by_name = {str(name): accuracy[..., i] for i, name in enumerate(ds["concept"].values)}
    return by_name | {"joint": joint.transpose("klass", "run", "step").values.mean(axis=0)}


def learning_times(
    steps: Real[np.ndarray, " t"], accuracy: Float[np.ndarray, "r t"]
) -> dict[str, Float[np.ndarray, " r"]]:
    """Return the learning time of every curve [r, t] by each definition of `LEARNED`: name -> [r]; NaN = never."""
    return {name: times_by(name, steps, accuracy) for name in LEARNED}


def times_by(
    definition: str, steps: Real[np.ndarray, " t"], scores: Float[np.ndarray, "r t"]
) -> Float[np.ndarray, " r"]:
    """Return the learning time of every curve [r, t] by one definition, a key of `LEARNED`."""
    return np.array([_TIMES[definition](steps, one) for one in scores])


_TIMES: dict[str, Callable[..., float]] = {
    "first_80": lambda steps, one: curves.crossing_time(steps, one, THRESHOLD, persistence=1),
    STAYS_80: lambda steps, one: curves.crossing_time(steps, one, THRESHOLD),
    "notebooks_90": curves.notebook_time,
}


def definition_of(ds: xr.Dataset) -> str:
    """Return which definition of "learned" figures and tables of a dataset show (`config.learned`)."""
    return str(results.config_of(ds).get("learned", STAYS_80))


def with_definition(ds: xr.Dataset, learned: str) -> xr.Dataset:
    """Return a dataset whose figures and tables show another definition of "learned", a key of `LEARNED`.

    Stored results hold the definition that was shown when they were written; all numbers they hold serve any.
    """
    config = results.config_of(ds) | {"learned": learned}
    return ds.assign_attrs(config=json.dumps(config, sort_keys=True))


def whole(scores: Float[np.ndarray, "*k r t"]) -> Bool[np.ndarray, "*k r"]:
    """Return which curves [..., r] of scores [..., r, t] are known at every save.

    A curve with a broken query (NaN) is missing, not "never".
    """
    return np.asarray(np.isfinite(scores).all(axis=-1))


def describe_times(times: Float[np.ndarray, " r"], steps: Real[np.ndarray, " t"] | None = None) -> dict[str, Any]:
    """Summarise times over seeds [r] as plain numbers; NaN = never.

    Told are the Kaplan-Meier median and its interval, and how many learned and the interval of that share.
    `no_interval` says why there is none. An open end of an interval is NaN. A time at `first_save`, the first of the
    saves [t] (NaN where they are not known), may have come earlier: it is an upper bound.
    """
    learned, seeds = int(np.isfinite(times).sum()), len(times)
    return {
        "median": censored.median(times), "interval": list(intervals.median_interval(times)),
        "no_interval": intervals.missing(seeds, intervals.LEAST_MEDIAN), "learned": learned, "seeds": seeds,
        "fraction": learned / seeds if seeds else float("nan"),
        "fraction_interval": list(intervals.count_interval(learned, seeds)), "per_seed": times.tolist(),
        "first_save": float("nan") if steps is None else float(steps[0]),
    }  # fmt: skip


def describe_mean(values: Float[np.ndarray, " r"], samples: int = 0) -> dict[str, Any]:
    """Summarise a number over seeds [r]: mean and 95 % interval.

    A probability says of how many `samples` it is a mean; 0 is for a number without bounds.
    """
    low, high = intervals.share_interval(values, samples) if samples else intervals.mean_interval(values)
    return {
        "mean": float(values.mean()) if len(values) else float("nan"), "interval": [float(low), float(high)],
        "no_interval": intervals.missing(len(values), intervals.LEAST_MEAN), "per_seed": values.tolist(),
    }  # fmt: skip


def describe_difference(values: Float[np.ndarray, " r"]) -> dict[str, Any]:
    """Summarise paired differences of seeds [r]: mean, median and the exact interval of the median.

    The mean has none: where few of the seeds gain, Student's interval of it covers far less than it says
    (`experiments/coverage.py`). The interval between two order statistics holds the median whatever the distribution.
    """
    known = np.isfinite(values).all() and len(values) > 0
    return {
        "mean": float(values.mean()) if len(values) else float("nan"),
        "median": float(np.median(values)) if len(values) else float("nan"),
        "interval": list(intervals.median_interval(values)) if known else [float("nan")] * 2,
        "no_interval": intervals.missing(len(values), intervals.LEAST_MEDIAN), "per_seed": values.tolist(),
    }  # fmt: skip


def samples_of(ds: xr.Dataset, battery: bool = False) -> int:
    """Return the number of samples of which a class's coordinate is the mean.

    That is the number of naive prompting, or with `battery` that of the battery.
    """
    if battery:  # all that are joined have as many
        return int(battery_field(ds, NAIVE, "samples") or ElicitConfig().samples)
    return int(results.config_of(ds).get("evaluate", {}).get("samples_per_class", EvaluateConfig().samples_per_class))


def battery_field(ds: xr.Dataset, protocol: str, name: str) -> Any:
    """Return the field `elicit.NAME` of the battery that a protocol was asked in; None where nothing says it.

    A workdir may hold several batteries. Results of older versions do not say theirs: there it is the configuration's.
    """
    own = json.loads(ds.attrs.get(BATTERIES, "{}")).get(protocol, {})
    return own.get(name, results.config_of(ds).get("elicit", {}).get(name))


def seed_spread(ds: xr.Dataset, level: Level, protocol: str) -> Float[np.ndarray, "t k c"]:
    """Return the standard deviation over seeds of the coordinates [t, k, c]; NaN for fewer than two seeds."""
    chosen = ds["prob"].sel(protocol=protocol).isel(run=list(level.runs))
    values = chosen.transpose("run", "step", "klass", "concept").values
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def product_check(ds: xr.Dataset, level: Level, klass: int, protocol: str) -> dict[str, float]:
    """Compare joint accuracy with the product of the concepts' accuracies over all seeds and saves.

    They are equal if the concepts of one sample fail independently (multiplicative emergence). Returns the largest
    absolute and the mean difference, joint minus product; NaN without runs.
    """
    chosen = ds[["joint_accuracy", "accuracy"]].sel(protocol=protocol).isel(run=list(level.runs), klass=klass)
    difference = chosen["joint_accuracy"].values - chosen["accuracy"].prod("concept").transpose("run", "step").values
    if difference.size == 0:
        return {"largest": float("nan"), "mean": float("nan")}
    return {"largest": float(np.abs(difference).max()), "mean": float(difference.mean())}


def reached(ds: xr.Dataset, level: Level, klass: int, protocol: str, threshold: float = THRESHOLD) -> dict[str, int]:
    """Count seeds whose accuracy is at least `threshold` on all concepts.

    momentary: at some save; persistent: at the last save; seeds: how many there are.
    """
    above = np.all(accuracy_curves(ds, level.runs, [klass], protocol) >= threshold, axis=-1)  # [r, t]
    return {"momentary": int(above.any(axis=1).sum()), "persistent": int(above[:, -1].sum()), "seeds": len(above)}


def memorisation(ds: xr.Dataset, level: Level, klass: int, protocol: str, sigma: float) -> dict[str, Any]:
    """Describe the memorisation of a held-out class, of the mean trajectory over seeds and of each seed (`per_seed`).

    `sigma` smooths trajectories, in saves. Returns {} without runs.
    """
    steps, bits, trained = ds["step"].values, ds["bit"].values, ds["trained"].values
    runs = trajectory(ds, level.runs, klass, protocol, sigma)
    if len(runs) == 0:
        return {}
    one = curves.find_memorisation(steps, runs.mean(axis=0), bits, klass, trained)
    seeds = [curves.find_memorisation(steps, run, bits, klass, trained) for run in runs]
    turn = curves.find_turn(steps, runs.mean(axis=0))
    concepts = ds["concept"].values.tolist()
    depth = describe_mean(np.array([seed.depth for seed in seeds]), samples_of(ds))
    return {
        "as_class": str(ds["klass"].values[one.nearest]), "memorised": one.memorised,
        "weak_concept": concepts[one.weak], "min_correct": one.weak_min, "at_step": one.weak_step,
        "correct_there": dict(zip(concepts, one.at_min, strict=True)),
        "closest_distance": one.distance, "closest_step": one.closest_step, "depth": depth["mean"],
        "depth_interval": depth["interval"], "turning_step": one.turning_step,
        "turn": {"step": turn.step, "degrees": turn.degrees},
        "per_seed": {
            "as_class": [str(ds["klass"].values[seed.nearest]) for seed in seeds],
            "memorised": [seed.memorised for seed in seeds],
            "min_correct": [seed.weak_min for seed in seeds],
            "turning_step": [seed.turning_step for seed in seeds],
            "depth": depth["per_seed"],
        },
    }  # fmt: skip


def memories(ds: xr.Dataset, klass: int) -> list[curves.Memorisation | None]:
    """Return how each run memorises a held-out class under naive prompting; None for a diverged run."""
    protocol = str(ds["protocol"].values[0])
    paths = trajectory(ds, range(ds.sizes["run"]), klass, protocol, default_sigma(ds))
    steps, bits, trained = ds["step"].values, ds["bit"].values, ds["trained"].values
    return [
        curves.find_memorisation(steps, path, bits, klass, trained) if np.isfinite(path).all() else None
        for path in paths
    ]


def default_sigma(ds: xr.Dataset) -> float:
    """Return the published smoothing of trajectories in saves: 2 for up to two concepts, 1 for more."""
    return curves.SIGMA_TRAJECTORY if ds.sizes["concept"] <= 2 else 1.0
