"""Turn the raw battery of protocols into capability: how well a protocol's queries can draw a class.

`capability` is the largest score over queries; `capability_split` is the same without the gain of the maximum. NumPy
only. Axis letters: r run, q query, k held-out class, s sample, c concept, p protocol. The score of a query is the
probability that the probe gives to the class asked for: the mean over samples of the product over concepts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Real

from cspace_jax.analysis import dataset
from cspace_jax.analysis.learning import (
    BATTERIES,
    default_sigma,
    definition_of,
    describe_mean,
    describe_times,
    memorisation,
    samples_of,
    times_by,
    whole,
)
from cspace_jax.analysis.levels import Level, levels, unseen
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.config.definitions import STAYS_80
from cspace_jax.config.protocol_names import NAIVE, REPEATED

VARIABLES = ("capability", "capability_split", "capability_product", "naive_split", "best_query")
CONCEPT = "capability_concept"  # the one variable with an axis of concepts


def correct(
    prob_samples: Float[np.ndarray, "*b q k s c"], bits: Int[np.ndarray, "k c"]
) -> Float[np.ndarray, "*b q k s c"]:
    """Return P(value of the class asked for) of every sample and concept [..., q, k, s, c], in 0..1.

    Args:
      prob_samples: P(bit = 1) [..., q, k, s, c].
      bits: of the classes [k, c].
    """
    truth = np.asarray(bits, bool)[:, None, :]
    return np.where(truth, prob_samples, 1 - np.asarray(prob_samples, np.float32))


def joint(single: Float[np.ndarray, "*b q k s c"]) -> tuple[Float[np.ndarray, "*b q k s"], Float[np.ndarray, "*b q k"]]:
    """Return P(class asked for) per sample [..., q, k, s], and the product of the concepts' means [..., q, k].

    single: `correct` [..., q, k, s, c].
    """
    return single.prod(-1), single.mean(-2).prod(-1)


def split_capability(scores: Float[np.ndarray, "*b q k s"]) -> Float[np.ndarray, "*b k"]:
    """Return capability without the gain of the maximum: the query is chosen on one half, scored on the other.

    The halves are the even and the odd samples; the result is the mean of both directions. It takes scores
    [..., q, k, s] in 0..1 with at least two samples, and returns [..., k]. Unlike the plain maximum its expectation is
    never above the best query's.
    """
    halves = scores[..., 0::2].mean(-1), scores[..., 1::2].mean(-1)
    best = [np.where(np.isnan(half), -np.inf, half).argmax(-2) for half in halves]
    return np.mean([_take(halves[1], best[0]), _take(halves[0], best[1])], axis=0)


def _take(values: Float[np.ndarray, "*b q k"], index: Int[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b k"]:
    return np.take_along_axis(values, index[..., None, :], axis=-2)[..., 0, :]


def measure(
    prob_samples: Float[np.ndarray, "r q k s c"], bits: Int[np.ndarray, "k c"], names: Sequence[str]
) -> dict[str, Real[np.ndarray, "r p k ..."]]:
    """Return each protocol's capability [r, p, k] and the samples of its best query.

    Args:
      prob_samples: [r, q, k, s, c].
      bits: of the held-out classes [k, c].
      names: protocol of every query [q]; protocols come in the order of their first query.

    Returns:
      capability: largest score over the protocol's queries.
      capability_split: the same without the gain of the maximum, `split_capability`.
      naive_split: naive prompting scored as this protocol is: chosen among as many repeats of the plain query, on one
        half of the samples, and scored on the other. A battery without `naive_repeats` has one plain query for all.
      capability_product: largest product of the concepts' means (the published measure).
      capability_concept: capability_split of one concept alone, P(its value in the class asked for): [r, p, k, c].
      best_query: number of the best query among the protocol's own.
      prob_samples: of the best query [r, p, k, s, c].
    """
    single = correct(prob_samples, bits)
    scores, products = joint(single)
    rows = [np.array([i for i, name in enumerate(names) if name == one]) for one in dict.fromkeys(names)]
    plain = [i for i, name in enumerate(names) if name == REPEATED] or [names.index(NAIVE)]
    measured: dict[str, list[Real[np.ndarray, "r k ..."]]] = {
        name: [] for name in (*VARIABLES, CONCEPT, "prob_samples")
    }
    for row in rows:
        means = scores[:, row].mean(-1)
        best = np.where(np.isnan(means), -np.inf, means).argmax(1)  # [r, k]; one broken query is not the run's
        measured["capability"].append(_take(means, best))
        measured["capability_split"].append(split_capability(scores[:, row]))
        measured["naive_split"].append(split_capability(scores[:, plain[: len(row)]]))
        measured["capability_product"].append(np.fmax.reduce(products[:, row], axis=1))
        each = [split_capability(single[:, row][..., concept]) for concept in range(single.shape[-1])]
        measured[CONCEPT].append(np.stack(each, axis=-1))
        measured["best_query"].append(best)
        chosen = np.take_along_axis(prob_samples[:, row], best[:, None, :, None, None], axis=1)
        measured["prob_samples"].append(chosen[:, 0])
    return {name: np.stack(values, axis=1) for name, values in measured.items()}


def extend(
    ds: xr.Dataset,
    battery: Mapping[int, Mapping[str, Float[np.ndarray, "r q k ..."]]],
    names: Sequence[str],
    queries: Sequence[str],
    fields: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Add the battery's protocols to a dataset of naive prompting.

    The coordinates of an elicited protocol are those of its best query; classes it was not asked for are NaN. Adds
    `VARIABLES` [run, step, protocol, klass] and `CONCEPT` [run, step, protocol, klass, concept], also for naive
    prompting, whose capability is that of the battery's own naive samples: the same starting noise as all others.
    `capability_init` [run, protocol, klass] is the network at initialisation, `query_prob`
    [run, step, query, klass, concept] holds the coordinates of every query.

    Args:
      ds: dataset whose only protocol is naive.
      battery: raw battery by step, step 0 included.
      names: protocol of every query, naive first.
      queries: values of every query, kept as the coordinate `query_value`.
      fields: by protocol what its battery was asked with (`elicit.FIELD`), kept as the attribute `batteries`
        (`learning.battery_field`); None = by the configuration.
    """
    held_out = np.array(unseen(ds))
    bits = ds["bit"].values[held_out]
    measured = {step: _of_step(raw, bits, names) for step, raw in battery.items()}  # each step is read once
    at = [measured[int(step)] for step in ds["step"].values]
    extended = ds.reindex(protocol=list(dict.fromkeys(names)))
    asked, classes = ("run", "step", "protocol", "klass"), ds.sizes["klass"]
    for name in VARIABLES:
        extended[name] = (asked, _spread(np.stack([one[name] for one in at], axis=1), held_out, classes, -1))
    single = np.stack([one[CONCEPT] for one in at], axis=1)
    extended[CONCEPT] = ((*asked, "concept"), _spread(single, held_out, classes, -2))
    start = _spread(measured[0]["capability"], held_out, classes, -1)
    extended["capability_init"] = (("run", "protocol", "klass"), start)
    extended = extended.assign(_coordinates(extended, at, held_out))
    every = np.stack([one["query_prob"] for one in at], axis=1)
    extended["query_prob"] = (("run", "step", "query", "klass", "concept"), _spread(every, held_out, classes, -2))
    extended = extended.assign_coords(query_protocol=("query", list(names)), query_value=("query", list(queries)))
    return extended.assign_attrs({BATTERIES: json.dumps(fields, sort_keys=True)}) if fields else extended


def _of_step(
    raw: Mapping[str, Float[np.ndarray, "r q k ..."]], bits: Int[np.ndarray, "k c"], names: Sequence[str]
) -> dict[str, Real[np.ndarray, "r ..."]]:
    """Return what is kept of a step.

    That is `measure` without its samples, for all protocols; coordinates and mean colours of the best query of each
    protocol but naive prompting [r, p - 1, k, ...]; and "query_prob" [r, q, k, c].
    """
    found = measure(raw["prob_samples"], bits, names)
    place = dataset.measure(found.pop("prob_samples")[:, 1:], bits)
    colors = []
    for p, name in enumerate(dict.fromkeys(names)):
        row = [i for i, one in enumerate(names) if one == name]
        best = found["best_query"][:, p]
        colors.append(np.take_along_axis(raw["mean_rgb"][:, row], best[:, None, :, None], axis=1)[:, 0])
    return {**found, **place, "mean_rgb": np.stack(colors[1:], axis=1), "query_prob": raw["prob_samples"].mean(3)}


def _coordinates(
    ds: xr.Dataset, at: list[dict[str, Real[np.ndarray, "r ..."]]], held_out: Int[np.ndarray, " k"]
) -> dict[str, Any]:
    """Return the variables of concept space, and the colours, with those of elicited protocols at each step."""
    found = {}
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob", "mean_rgb"):
        values = ds[name].transpose("run", "step", "protocol", "klass", ...).values.copy()
        values[:, :, 1:, held_out] = np.stack([one[name] for one in at], axis=1)
        found[name] = (("run", "step", "protocol", "klass", *ds[name].dims[4:]), values)
    return found


def _spread(
    values: Real[np.ndarray, "..."], held_out: Int[np.ndarray, " k"], classes: int, axis: int
) -> Float[np.ndarray, "..."]:
    """Return values of held-out classes along an axis of all classes, float32; NaN for the others."""
    shape = list(values.shape)
    shape[axis] = classes
    spread = np.full(shape, np.nan, np.float32)
    np.moveaxis(spread, axis, 0)[held_out] = np.moveaxis(values, axis, 0)
    return spread


def emergence(
    steps: Real[np.ndarray, " t"], scores: Float[np.ndarray, "r t"], definition: str = STAYS_80
) -> Float[np.ndarray, " r"]:
    """Return the step [r] at which each curve [r, t] is learned; NaN = never.

    `definition` is a key of `LEARNED`; by default a curve is learned once it stays at 0.8 or above.
    """
    return times_by(definition, steps, scores)


@summary_block("elicitation", when=lambda ds: "capability" in ds)
def summarise(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return the numbers of the battery by level, held-out class and protocol as plain dicts and lists.

    emergence: of `capability_split`, over seeds; emergence_max: of the plain maximum. gap_to_naive: steps from a
    protocol's emergence to that of naive prompting scored in the same way (`naive_split`), seeds in which both emerge.
    sooner_than_naive: seeds in which it emerges earlier, "never" counting as last. after_turn: emergence minus the
    turning point of the seed's trajectory under naive prompting. A seed with a broken query is left out of the
    numbers that it would take part in: `seeds` counts those of each, `compared` those of
    `sooner_than_naive`.
    """
    found = []
    sigma = default_sigma(ds)
    for level in levels(ds):
        classes = {
            str(ds["klass"].values[klass]): _class_block(ds, level, klass, sigma) for klass in unseen(ds) if level.runs
        }
        found.append({"label": level.label, "setting": level.setting, "classes": classes})
    return found


def _class_block(ds: xr.Dataset, level: Level, klass: int, sigma: float) -> dict[str, Any]:
    chosen = ds.isel(run=list(level.runs), klass=klass)
    definition = definition_of(ds)
    turns = memorisation(ds, level, klass, NAIVE, sigma)["per_seed"]["turning_step"]
    return {
        name: _protocol_block(chosen, name, definition, np.array(turns, float), samples_of(ds, battery=True))
        for name in map(str, ds["protocol"].values)
    }


def _protocol_block(
    chosen: xr.Dataset, name: str, definition: str, turns: Float[np.ndarray, " r"], samples: int
) -> dict[str, Any]:
    """Return the numbers of a protocol in the runs of one level and class; turns: their turning steps [r]."""
    steps = chosen["step"].values
    kinds = ("capability_split", "capability", "naive_split", "capability_product")
    split, plain, own, product = (score_curve(chosen, kind, name) for kind in kinds)
    known, paired = whole(split), whole(split) & whole(own)
    times, naive = (emergence(steps, one, definition) for one in (split, own))
    learned = times[known & np.isfinite(times)]
    final = describe_mean(split[known, -1], samples)
    sooner = np.nan_to_num(times, nan=np.inf) < np.nan_to_num(naive, nan=np.inf)
    return {
        "emergence": describe_times(times[known], steps),
        "emergence_max": describe_times(emergence(steps, plain[whole(plain)], definition), steps),
        "emergence_std": float(learned.std(ddof=1)) if len(learned) > 1 else float("nan"),
        "gap_to_naive": np.where(paired, naive - times, np.nan).tolist(),
        "sooner_than_naive": int(sooner[paired].sum()),
        "compared": int(paired.sum()),
        "after_turn": np.where(known, times - turns, np.nan).tolist(),
        "final": _mean(plain[whole(plain), -1]),
        "final_product": _mean(product[whole(product), -1]),
        "final_split": final["mean"],
        "final_split_interval": final["interval"],
        "best_split": float(split[known].mean(0).max()) if known.any() else float("nan"),
        "at_initialisation": float(chosen["capability_init"].sel(protocol=name).mean()),
    }


def _mean(values: Float[np.ndarray, " r"]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def score_curve(chosen: xr.Dataset, kind: str, name: str) -> Float[np.ndarray, "r t"]:
    """Return a variable of one protocol and class as curves [r, t].

    Results of an older version have no `naive_split`: there it is naive prompting's own score.

    Args:
      chosen: dataset with the axes run, step and protocol, of one class.
      kind: name of the variable, one of `VARIABLES`.
      name: the protocol.
    """
    if kind == "naive_split" and kind not in chosen:
        kind, name = "capability_split", NAIVE
    return chosen[kind].sel(protocol=name).transpose("run", "step").values
