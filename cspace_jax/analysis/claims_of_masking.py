"""The claim about masked prompts, (g) of docs/claims.md: later at larger shares, in proportion or not, where never."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.analysis import censored, intervals, testing, underspecification
from cspace_jax.analysis.claims import LAST, Verdict, claim, untold
from cspace_jax.analysis.claims_of_learning import blocks_of, judged_trend, times_of, where
from cspace_jax.analysis.learning import definition_of, describe_times
from cspace_jax.analysis.levels import Level, held_out, setting_label

# Largest two-sided p-value of a departure from proportion. Smaller than that of verdicts: signs of seeds are not quite
# as likely up as down where times are skewed and many of them never come (`experiments/false_alarms.py` measures it).
DEPARTS = 0.02


@claim(
    "g", "the larger the masked share, the later it is learned, and at some share never",
    "mean over seeds of the rank correlation of the concept's learning time with the masked share", LAST,
)  # fmt: skip
def masking(ds: xr.Dataset) -> Verdict:
    """Ask whether the masked concept is learned later at larger shares, shares permuted within seeds.

    Groups of levels that differ in the share alone all take part. Shown also takes masks to prevent it in one of them:
    learned, by the median, at some share and at no larger one. The details are those of the first such group, of the
    first of all where there is none; `group` says which it is where there are several. Whether the delay grows in
    proportion (`proportion`) is said and is no condition.
    """
    if not underspecification.is_swept(ds):
        return untold("one masked share: it takes two")
    groups, klass = underspecification.mask_groups(ds), held_out(ds)
    concept, _ = underspecification.masked(ds)
    times = times_of(ds, [klass], concept)
    prevented = [_prevented_from(times, found) for found in groups]
    told = next((i for i, one in enumerate(prevented) if np.isfinite(one)), 0)
    named = setting_label(underspecification.group_setting(groups[told])) if len(groups) > 1 else ""
    blocks = blocks_of(ds, groups)
    at = [np.array([level.setting["mask"] for level in block.levels]) for block in blocks]
    delays = proportion([times[block.runs] for block in blocks], at, [block.seed for block in blocks],
                        float(ds["step"].values[-1]))  # fmt: skip
    details: dict[str, Any] = {
        "group": named,
        "prevented_from": prevented[told],
        "prevented_interval": prevented_interval(times, groups[told]),
        "by_share": {f"{level.setting['mask']:g}": _learned(times, level) for level in groups[told]},
        "proportion": delays,
    }
    tested = testing.trend([times[block.runs] for block in blocks], at, where(blocks))
    known = np.isfinite(prevented[told])
    why = _prevented(details) + f" at {named}" * bool(named) if known else "prevented at no share"
    found = judged_trend(tested, blocks, definition_of(ds), needs=(bool(known), why), details=details)
    return dataclasses.replace(found, why="; ".join((found.why or why, _in_words(delays))))


def _learned(times: Float[np.ndarray, " r"], level: Level) -> dict[str, Any]:
    described = describe_times(times[list(level.runs)])
    return {name: described[name] for name in ("median", "learned", "seeds")}


def _prevented_from(times: Float[np.ndarray, " r"], found: Sequence[Level]) -> float:
    """Return the smallest masked share from which on the median time is "never"; NaN if there is none.

    Some smaller share must have a median time.
    """
    learned = [bool(np.isfinite(censored.median(times[list(level.runs)]))) for level in found]
    last = max((i for i, one in enumerate(learned) if one), default=-1)
    return float(found[last + 1].setting["mask"]) if 0 <= last < len(found) - 1 else float("nan")


def prevented_interval(times: Float[np.ndarray, " r"], found: Sequence[Level]) -> list[float]:
    """Return the 95 % bounds [low, high] of the masked share at which learning comes to be prevented.

    Both are shares of the study: the share searched for lies above `low` and is at most `high`. `low` is the largest
    share up to which, at it and all smaller ones, the exact interval of the share of seeds that learn lies above one
    half. `high` is the smallest share from which on, at it and all larger ones, that interval lies below one half. If a
    larger share never helps learning, each bound errs in at most 2.5 % of studies. A bound is NaN where no share fits.
    """
    ends = []
    for level in found:
        own = times[list(level.runs)]
        ends.append(intervals.count_interval(int(np.isfinite(own).sum()), len(own)))
    masks = [level.setting["mask"] for level in found]
    above = next((i for i, (low, _) in enumerate(ends) if not low > 0.5), len(ends)) - 1
    rest = [i for i in range(above + 1, len(ends)) if all(high < 0.5 for _, high in ends[i:])]
    return [masks[above] if above >= 0 else math.nan, masks[rest[0]] if rest else math.nan]


def _prevented(details: dict[str, Any]) -> str:
    low, high = details["prevented_interval"]
    bounds = [f"above {low:g}"] * math.isfinite(low) + [f"at most {high:g}"] * math.isfinite(high)
    text = f"prevented (median never) from a share of {details['prevented_from']:g} on"
    return text + f" (95 %: {', '.join(bounds)})" * bool(bounds)


def delay_trend(times: Float[np.ndarray, " level"], shares: Float[np.ndarray, " level"], last: float) -> float:
    """Return Kendall's rank correlation of the delay per masked share with the share.

    It lies in -1..1, and 0 means in proportion.

    The delay is that from the time at the smallest share; times and shares are [level], `last` is the last step. Of a
    time that never comes it is known that it lies after the last step; pairs of shares that this leaves open count as
    ties (Kendall's tau a of censored numbers, as by Brown, Hollander and Korwar 1974). NaN where it never comes at the
    smallest share, or there are fewer than two others.
    """
    order = np.argsort(shares, kind="stable")
    times, shares = times[order], shares[order]
    if len(times) < 3 or not np.isfinite(times[0]):
        return math.nan
    open_end = ~np.isfinite(times[1:])
    pace = (np.where(open_end, last, times[1:]) - times[0]) / (shares[1:] - shares[0])
    signs = []
    for i, j in itertools.combinations(range(len(pace)), 2):
        if pace[i] < pace[j]:
            signs.append(0 if open_end[i] else 1)
        elif pace[i] > pace[j]:
            signs.append(0 if open_end[j] else -1)
        else:
            signs.append(int(open_end[j]) - int(open_end[i]))
    return float(np.mean(signs))


def proportion(
    times: Sequence[Float[np.ndarray, " _level"]],
    shares: Sequence[Float[np.ndarray, " _level"]],
    seeds: Sequence[int],
    last: float,
) -> dict[str, Any]:
    """Ask whether delays grow faster or slower than the masked share, in blocks of a seed's runs.

    Args:
      times: of each block the learning times [level] at its shares; NaN = never.
      shares: of each block its masked shares [level], all different.
      seeds: the seed of every block; its number is the mean over its blocks.
      last: step at which all runs are censored.

    Returns:
      `value`: mean over seeds of `delay_trend`, with its `interval`; `p`, `p_least`: two-sided, by flipping the seeds'
      signs, and the smallest that they can give; `per_seed`.
    """
    found = [delay_trend(own, at, last) for own, at in zip(times, shares, strict=True)]
    known = [(seed, one) for seed, one in zip(seeds, found, strict=True) if math.isfinite(one)]
    per_seed = np.array(
        [np.mean([one for other, one in known if other == seed]) for seed in dict.fromkeys(seed for seed, _ in known)]
    )
    tested = testing.sign_flip(per_seed)
    levels = max((len(own) - 1 for own in times), default=0)
    low, high = (
        intervals.correlation_interval(per_seed, levels) if len(per_seed) and levels > 1 else (math.nan, math.nan)
    )
    return {
        "value": float(per_seed.mean()) if len(per_seed) else math.nan, "interval": [float(low), float(high)],
        "p": tested.two_sided, "p_least": 2 * tested.least_greater, "per_seed": per_seed.tolist(),
    }  # fmt: skip


def departs(found: dict[str, Any]) -> bool:
    """Return whether a study's delays are not in proportion to the masked share, by the test of `proportion`."""
    return bool(found["p"] <= DEPARTS)


def _in_words(found: dict[str, Any]) -> str:
    """Return the result of `proportion` in words."""
    seeds = len(found["per_seed"])
    if not found["p_least"] <= DEPARTS:
        return f"whether in proportion cannot be told (n = {seeds})"
    low, high = found["interval"]
    numbers = f"Kendall's tau {found['value']:.2f} [{low:.2f}, {high:.2f}], p = {found['p']:.3f}, n = {seeds}"
    if departs(found):
        return f"the delay grows {'faster' if found['value'] > 0 else 'slower'} than the share ({numbers})"
    return f"no departure from a delay in proportion is shown ({numbers})"
