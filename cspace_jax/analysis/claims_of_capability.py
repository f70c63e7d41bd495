"""Claims about hidden capabilities: (d) to (f), (h) and (i) of docs/claims.md.

Protocols are scored by `capability_split`, naive prompting by `naive_split`: both choose among as many queries. All
levels of a study take part; the signs of a seed's differences are flipped at all its levels together.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from cspace_jax.analysis import curves, stability, testing
from cspace_jax.analysis.capability import emergence, score_curve
from cspace_jax.analysis.claims import CONTRADICTED, EVERY, NOT_SHOWN, SHOWN, Verdict, claim, judge, untold
from cspace_jax.analysis.claims_of_learning import counted
from cspace_jax.analysis.comparison import area
from cspace_jax.analysis.learning import (
    battery_field,
    default_sigma,
    definition_of,
    describe_difference,
    describe_mean,
    memories,
    samples_of,
    whole,
)
from cspace_jax.analysis.levels import levels, ok_runs, unseen
from cspace_jax.config.protocol_names import GUIDANCE, LATENT, LATENT_SHARED, NAIVE, OVERPROMPT, PATCH, RANDOM, SHUFFLED

LATENTS = (LATENT, LATENT_SHARED)
DRAWS = 0.5  # P(class) from which a protocol is said to draw the class
MARGIN = 0.1  # difference of P(class) up to which two protocols do the same
LEAST_EMERGED = 5  # seeds of which a spread can be compared
NO_SPREAD = "a ratio of variances of so few seeds has one only for a known distribution"


def scores_of(ds: xr.Dataset, name: str, kind: str = "capability_split") -> Float[np.ndarray, "k r t"]:
    """Return P(class asked for) of every unseen class and run under a protocol [k, r, t]."""
    return np.stack([score_curve(ds.isel(klass=klass), kind, name) for klass in unseen(ds)])


def naive_of(ds: xr.Dataset, name: str) -> Float[np.ndarray, "k r t"]:
    """Return P(class asked for) by unseen class and run under naive prompting [k, r, t].

    It is scored as the protocol `name` is (`naive_split`).
    """
    return scores_of(ds, name, "naive_split")


def controls_of(ds: xr.Dataset, name: str) -> list[str]:
    """Return the controls of a protocol that were measured."""
    return [name + kind for kind in (RANDOM, SHUFFLED) if name + kind in ds["protocol"].values]


def seed_means(ds: xr.Dataset, values: Float[np.ndarray, "*k r"]) -> Float[np.ndarray, " s"]:
    """Return the mean of each seed's classes and runs [s] that are known; seeds without one are left out."""
    values = np.where(ok_runs(ds), values, np.nan)
    seeds = ds["seed"].values
    known = [values[(seeds == seed) & np.isfinite(values)] for seed in dict.fromkeys(seeds.tolist())]
    return np.array([one.mean() for one in known if one.size])


def at_turn(ds: xr.Dataset, asked: Mapping[str, Float[np.ndarray, "k r t"]]) -> dict[str, Float[np.ndarray, "k r"]]:
    """Return the values of named curves [k, r, t] at the turning steps, [k, r] each.

    Every class and run has a turning step of its own; NaN stands where it does not turn.
    """
    steps = ds["step"].values
    turns = np.array([[one.turning_step if one else math.nan for one in memories(ds, klass)] for klass in unseen(ds)])
    places = (turns[..., None] == steps).argmax(-1)[..., None]
    return {
        name: np.where(np.isfinite(turns), np.take_along_axis(curve, places, axis=-1)[..., 0], np.nan)
        for name, curve in asked.items()
    }


def _elicits(ds: xr.Dataset, name: str) -> Verdict:
    """Compare a protocol with naive prompting at the turn.

    Shown also takes it to beat each of its controls there, and P(class) to be `DRAWS` and more under the protocol and
    less under naive prompting.
    """
    asked = {name: scores_of(ds, name), NAIVE: naive_of(ds, name)}
    asked |= {control: scores_of(ds, control) for control in controls_of(ds, name)}
    found = at_turn(ds, asked)
    one = found.pop(name)
    differences = {other: seed_means(ds, one - values) for other, values in found.items()}
    if not differences[NAIVE].size:
        return untold("no run memorises the class and turns")
    tests = {other: testing.sign_flip(values) for other, values in differences.items()}
    one, found[NAIVE] = (np.where(np.isfinite(one - found[NAIVE]), values, np.nan) for values in (one, found[NAIVE]))
    drawn = seed_means(ds, one)
    details = {
        "protocol": name, "at_turn": describe_mean(drawn, samples_of(ds, battery=True)),
        "difference": {other: describe_difference(values) for other, values in differences.items()},
        "p": {other: one.greater for other, one in tests.items()},
    }  # fmt: skip
    weak = [other for other, one in tests.items() if other != NAIVE and not one.greater <= testing.ALPHA]
    if len(tests) == 1:
        return untold(f"{name} was measured without a control", details=details)
    naive = seed_means(ds, found[NAIVE]).mean()
    needs = not weak, f"it beats naive prompting and not {', '.join(weak)}"
    if not weak and not drawn.mean() >= DRAWS > naive:
        needs = False, f"there P(class) is {drawn.mean():.2f}, and {naive:.2f} under naive prompting"
    told = _told_by_median(details["difference"][NAIVE])
    used = _classes(ds, np.isfinite(one))
    return _of_turning(ds, judge(tests[NAIVE], len(drawn), needs=needs, details=details, classes=used, **told))


def _classes(ds: xr.Dataset, known: Bool[np.ndarray, "k r"]) -> tuple[int, ...]:
    """Return the unseen classes of which something is known in a run that takes part."""
    alive = ok_runs(ds)
    return tuple(klass for klass, part in zip(unseen(ds), known, strict=True) if (part & alive).any())


def _told_by_median(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a verdict whose interval is that of the median difference."""
    low, high = described["interval"]
    return {"interval": (low, high), "median": described["median"], "no_interval": described["no_interval"]}


def _of_turning(ds: xr.Dataset, found: Verdict) -> Verdict:
    """Return a verdict that also says how many of the seeds turn, so that it can be asked of them."""
    every = len(seed_means(ds, np.zeros((1, ds.sizes["run"]))))
    return dataclasses.replace(found, why="; ".join(filter(None, (found.why, f"{found.seeds} of {every} seeds turn"))))


def _first_of(ds: xr.Dataset, names: Sequence[str]) -> str:
    return next((name for name in names if name in ds["protocol"].values), "")


@claim(
    "d", "at the turn an intervention draws the unseen class and naive prompting does not",
    "P(class) under the latent intervention minus naive prompting at the turning step, mean over seeds", EVERY,
)  # fmt: skip
def intervention(ds: xr.Dataset) -> Verdict:
    """Ask whether the latent intervention draws the class at the turn, against naive prompting and its controls."""
    name = _first_of(ds, LATENTS) if "capability" in ds else ""
    return _elicits(ds, name) if name else untold("no latent intervention was measured (elicit.protocols)")


@claim(
    "f", "overprompting does what the intervention does",
    "P(class) under overprompting minus naive prompting at the turning step, mean over seeds", EVERY,
)  # fmt: skip
def overprompting(ds: xr.Dataset) -> Verdict:
    """Ask whether overprompting draws the class at the turn, against naive prompting and its controls.

    Shown also takes it to be less than `MARGIN` behind the latent intervention. That is a test of its own
    (`not_behind`), so that too few seeds to tell the two apart do not make them alike.
    """
    there = "capability" in ds and OVERPROMPT in ds["protocol"].values
    found = _elicits(ds, OVERPROMPT) if there else untold("no overprompting was measured (elicit.protocols)")
    name = _first_of(ds, LATENTS)
    if not (there and found.details):
        return found
    if not name:
        why = "no latent intervention was measured that it could be compared with"
        return untold(why, seeds=found.seeds, details=found.details) if found.verdict == SHOWN else found
    at = at_turn(ds, {OVERPROMPT: scores_of(ds, OVERPROMPT), name: scores_of(ds, name)})
    behind = seed_means(ds, at[OVERPROMPT] - at[name])
    p = not_behind(behind).greater
    found.details["minus_intervention"] = {"protocol": name, **describe_difference(behind), "p_not_behind": p}
    if found.verdict == SHOWN and not p <= testing.ALPHA:
        why = f"that it is less than {MARGIN:g} behind {name} is not shown (p = {p:.3f}, {behind.mean():+.2f})"
        return _of_turning(ds, dataclasses.replace(found, verdict=NOT_SHOWN, why=why))
    return found


def not_behind(behind: Float[np.ndarray, " s"]) -> testing.Outcome:
    """Test that a protocol is less than `MARGIN` behind another one (`greater`), from differences of seeds [s]."""
    return testing.sign_flip(behind + MARGIN)


def spread_ratio(late: Float[np.ndarray, " r"], early: Float[np.ndarray, " r"]) -> float:
    """Return log(variance of late [r] / variance of early [r]) over seeds; NaN where one of them does not vary."""
    variances = late.var(ddof=1), early.var(ddof=1)
    return math.log(variances[0] / variances[1]) if min(variances) > 0 else math.nan


@claim(
    "e", "the capability emerges at nearly the same step whatever the seed, naive learning spreads",
    "log of the ratio of the variances over seeds of log(step), naive prompting over the intervention",
    EVERY,
)  # fmt: skip
def same_step(ds: xr.Dataset) -> Verdict:
    """Ask whether naive learning spreads more, over seeds in which both emerge; the two exchanged within seeds.

    Log steps are centred within each level and class and over seeds before they are exchanged, so that only the spread
    over seeds is compared; a level at which both emerge in one run alone has none. "Never" is not a step: a run in
    which one of them never emerges has no part in the spreads, and stands against what leaving it out would favour.
    Shown takes the intervention to emerge in every run, contradicted naive prompting.
    """
    name = _first_of(ds, (*LATENTS, OVERPROMPT)) if "capability" in ds else ""
    if not name:
        return untold("no intervention and no overprompting were measured (elicit.protocols)")
    steps, definition, scores = ds["step"].values, definition_of(ds), (naive_of(ds, name), scores_of(ds, name))
    asked = ok_runs(ds) & whole(scores[0]) & whole(scores[1])
    times = [np.stack([np.log(emergence(steps, part, definition)) for part in one]) for one in scores]  # [k, r]
    emerged = [np.isfinite(one) & asked for one in times]
    centred = [within_levels(ds, np.where(emerged[0] & emerged[1], one, np.nan)) for one in times]  # [k, r]
    pair = [_centred(ds, one) for one in centred]
    never = [int((asked & ~one).sum()) for one in emerged]
    details = {"protocol": name, "emerged": len(pair[0]), "std_naive": _std(pair[0]), "std": _std(pair[1]),
               "asked": int(asked.sum()), "never_naive": never[0], "never": never[1]}  # fmt: skip
    if len(pair[0]) < LEAST_EMERGED:
        why = f"both emerge in {len(pair[0])} seed{'s' * (len(pair[0]) != 1)}; a spread takes {LEAST_EMERGED}"
        return untold(why, seeds=len(pair[0]), details=details)
    needs = [(not count, f"{who} never emerges in {count} of {asked.sum()} {counted(ds)}")
             for who, count in zip(("naive prompting", name), never, strict=True)]  # fmt: skip
    tested = testing.swapped(pair[0], pair[1], spread_ratio)
    more = {"no_interval": NO_SPREAD, "definition": definition, "classes": _classes(ds, np.isfinite(centred[0]))}
    found = judge(tested, len(pair[0]), needs=needs[1], details=details, **more)
    if found.verdict == CONTRADICTED and never[0]:
        return dataclasses.replace(found, verdict=NOT_SHOWN, why=needs[0][1])
    return found


def _std(values: Float[np.ndarray, " s"]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def within_levels(ds: xr.Dataset, values: Float[np.ndarray, "k r"]) -> Float[np.ndarray, "k r"]:
    """Return the known values of each class and run [k, r] minus the mean of their class and level.

    NaN stands where a value is the only known one of its class and level.
    """
    found = np.full(values.shape, np.nan)
    for level in levels(ds):
        for klass, row in enumerate(values):
            known = [run for run in level.runs if np.isfinite(row[run])]
            if len(known) > 1:
                found[klass, known] = row[known] - row[known].mean()
    return found


def _centred(ds: xr.Dataset, values: Float[np.ndarray, "k r"]) -> Float[np.ndarray, " s"]:
    found = seed_means(ds, values)
    return found - found.mean() if found.size else found


def guided(ds: xr.Dataset, weight: float) -> Float[np.ndarray, "k r t c"] | None:
    """Return P(correct value) by unseen class, run, save and concept [k, r, t, c] at a guidance weight.

    None: guidance was not asked at this weight.
    """
    if "query_protocol" not in ds.coords:
        return None
    asked = ds["query_protocol"].values == GUIDANCE
    rows = [i for i in np.flatnonzero(asked) if float(ds["query_value"].values[i]) == weight]
    if not rows:
        return None
    prob = ds["query_prob"].isel(query=rows[0], klass=unseen(ds)).transpose("klass", "run", "step", "concept").values
    return np.where(ds["bit"].values[unseen(ds)][:, None, None] == 1, prob, 1 - prob)


@claim(
    "h", "without the prompt (guidance weight 0) trajectories do not turn to the unseen class",
    "P(class) at the last save at the smallest weight of 1 and more minus at weight 0, mean over seeds", EVERY,
)  # fmt: skip
def guidance(ds: xr.Dataset) -> Verdict:
    """Ask whether weight 0 ends farther from the class.

    Shown also takes it to end below one half, by the same test. P(class) is the product of the concepts' means over
    samples, as published: single samples are kept of protocols alone, not of every query.
    """
    weights = [float(v) for v, name in queries_of(ds) if name == GUIDANCE]
    at = min((weight for weight in weights if weight >= 1), default=None)
    without, within = guided(ds, 0.0), guided(ds, at) if at is not None else None
    if without is None or within is None:
        return untold("guidance was not asked at weight 0 and at one of 1 and more")
    ends = [one[:, :, -1].prod(-1) for one in (without, within)]
    paired = np.isfinite(ends[0]) & np.isfinite(ends[1])  # a run with a broken query at one weight is missing at both
    last = [seed_means(ds, np.where(paired, one, np.nan)) for one in ends]
    described = describe_mean(last[0], samples_of(ds, battery=True))
    paths = curves.smooth(without, default_sigma(ds), axis=2)
    turned = seed_means(ds, np.where(paired, paths[:, :, -1].min(-1) >= 0.5, np.nan))
    details = {"weight": at, "at_0": described, "seeds_past_half_at_0": int((turned > 0).sum())}
    below = testing.sign_flip(0.5 - last[0]).greater <= testing.ALPHA
    needs = below, "P(class) at weight 0 is not clearly below one half"
    told = _told_by_median(describe_difference(last[1] - last[0]))
    return judge(testing.sign_flip(last[1] - last[0]), len(last[0]), needs=needs, details=details, **told)


def queries_of(ds: xr.Dataset) -> list[tuple[Any, str]]:
    """Return the value and the protocol of every query of the battery; [] where none was asked."""
    if "query_protocol" not in ds.coords:
        return []
    return list(zip(ds["query_value"].values, map(str, ds["query_protocol"].values), strict=True))


@claim(
    "i", "conditioning projections of the last checkpoint elicit the class earlier",
    "P(class) under patching minus naive prompting, averaged over log(step), mean over seeds", EVERY,
)  # fmt: skip
def patching(ds: xr.Dataset) -> Verdict:
    """Ask whether patching elicits the class earlier than naive prompting, over the saves before the patch's own.

    At that save patched and naive prompting are the same network. The paper claims it of seeds whose learning is
    stable: how many are is said (`analysis/stability.py`).
    """
    if "capability" not in ds or PATCH not in ds["protocol"].values:
        return untold("patching was not measured (elicit.protocols)")
    steps = ds["step"].values
    before = steps < (battery_field(ds, PATCH, "patch_step") or steps[-1])
    if before.sum() < 2:
        return untold("fewer than two saves before the patch's own")
    parts = zip(scores_of(ds, PATCH), naive_of(ds, PATCH), strict=True)
    areas = [[area(steps[before], one[:, before]) for one in part] for part in parts]  # [k][patch, naive]
    difference = seed_means(ds, np.stack([patched - naive for patched, naive in areas]))
    described = describe_difference(difference)
    asked = [(level, klass) for klass in unseen(ds) for level in levels(ds) if level.runs]
    stable = [one["stable"] for level, klass in asked for one in stability.seeds(ds, level, klass)]
    details = {"per_seed": described, "stable": sum(stable), "asked": len(stable)}
    found = judge(testing.sign_flip(difference), len(difference), details=details, **_told_by_median(described))
    return dataclasses.replace(found, why=found.why or f"{sum(stable)} of {len(stable)} {counted(ds)} learn stably")
