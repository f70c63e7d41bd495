"""Claims about learning dynamics under naive prompting: (a) to (c), (g) and (j) of docs/claims.md."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.analysis import censored, curves, testing, underspecification
from cspace_jax.analysis.claims import Verdict, claim, judge, untold
from cspace_jax.analysis.learning import (
    accuracy_curves,
    default_sigma,
    definition_of,
    describe_times,
    memories,
    times_by,
    trajectory,
)
from cspace_jax.analysis.levels import Level, levels, swept_concept
from cspace_jax.analysis.ordering import level_groups


def by_seed(ds: xr.Dataset, found: Sequence[Level]) -> list[list[tuple[int, int]]]:
    """Return one block a seed: (position of the level in `found`, run) for its runs that did not diverge."""
    blocks: dict[int, list[tuple[int, int]]] = {}
    for place, level in enumerate(found):
        for run in level.runs:
            blocks.setdefault(int(ds["seed"].values[run]), []).append((place, run))
    return list(blocks.values())


def times_of(ds: xr.Dataset, classes: Sequence[int], concept: int) -> Float[np.ndarray, " r"]:
    """Return the learning time of a concept in every run [r], accuracy averaged over the classes."""
    protocol = str(ds["protocol"].values[0])
    accuracy = accuracy_curves(ds, range(ds.sizes["run"]), classes, protocol)[..., concept]
    return times_by(definition_of(ds), ds["step"].values, accuracy)


def _groups(ds: xr.Dataset) -> tuple[int, list[list[Level]]]:
    """Return the swept concept and groups of levels that differ in its signal alone, weak to strong."""
    found = [level for level in levels(ds) if level.runs]
    concept = swept_concept(found) if found else 0
    groups = level_groups(found, str(ds["concept"].values[concept])) if found else []
    chosen = [sorted((found[i] for i in group), key=lambda level: level.signal[concept]) for group in groups]
    return concept, [group for group in chosen if len({level.signal[concept] for level in group}) > 1]


def _seeds(ds: xr.Dataset, groups: Sequence[Sequence[Level]]) -> int:
    runs = [run for group in groups for level in group for run in level.runs]
    return len(set(ds["seed"].values[runs].tolist()))


NO_LEVELS = "one level of concept signal: it takes two"


@claim(
    "a", "the stronger a concept's signal, the sooner it is learned",
    "mean over seeds of the rank correlation of learning time with signal, seen and unseen classes",
)  # fmt: skip
def speed(ds: xr.Dataset) -> Verdict:
    """Ask whether learning times fall as the signal of the swept concept rises, levels permuted within seeds.

    Blocks are seeds on the mean of the training classes and on every held-out class; "never" is later than any time.
    """
    concept, groups = _groups(ds)
    if not groups:
        return untold(NO_LEVELS)
    held_out = np.flatnonzero(~ds["trained"].values).tolist()
    places = [np.flatnonzero(ds["trained"].values).tolist(), *([klass] for klass in held_out)]
    times = [times_of(ds, classes, concept) for classes in places]
    # A seed's places are permuted together: they are read from the same networks.
    scores = [
        np.array([_mean_rank(times, [run for _, run in block], place) for place in range(len(block))])
        for group in groups
        for block in by_seed(ds, group)
    ]
    last = float(ds["step"].values[-1])
    ends = [(group[0], group[-1]) for group in groups]
    details = {
        "concept": str(ds["concept"].values[concept]),
        "log_rank": [
            censored.log_rank(times[0][list(weak.runs)], times[0][list(strong.runs)], last) for weak, strong in ends
        ],
        "rank_correlation_seen": _rank_correlation(ds, times[0], groups),
        "rank_correlation_unseen": [_rank_correlation(ds, one, groups) for one in times[1:]],
    }
    return judge(testing.trend(scores), _seeds(ds, groups), "less", details=details)


def _mean_rank(times: list[Float[np.ndarray, " r"]], runs: list[int], place: int) -> float:
    return float(np.mean([testing.ranks(one[runs])[place] for one in times]))


def _rank_correlation(ds: xr.Dataset, times: Float[np.ndarray, " r"], groups: Sequence[Sequence[Level]]) -> float:
    return testing.trend([times[[run for _, run in block]] for group in groups for block in by_seed(ds, group)]).value


def signal_at(ds: xr.Dataset, run: int) -> Float[np.ndarray, " c"]:
    """Return the pixel signal of every concept [c] in a run."""
    return ds["signal"].values[run]


def expected_class(ds: xr.Dataset, run: int, klass: int) -> int:
    """Return the training class that shares the most signal with a class: the sum over the concepts they share."""
    bits, trained = ds["bit"].values, np.flatnonzero(ds["trained"].values)
    shared = (bits[trained] == bits[klass]) @ signal_at(ds, run)
    return int(trained[np.argmax(shared)])


@claim(
    "b", "the unseen class is first drawn as the seen class that shares the stronger concept",
    "share of runs that memorise it as that class",
)  # fmt: skip
def memorised_as(ds: xr.Dataset) -> Verdict:
    """Ask whether the memorised class is the expected one (`expected_class`), levels permuted within seeds.

    A run that memorises none is no match. Shown also takes half of the runs to match for every class that is expected.
    """
    found = [level for level in levels(ds) if level.runs]
    if len(found) < 2:
        return untold(NO_LEVELS)
    if not np.isfinite(ds["signal"].values).all():
        return untold("the concept signal was not measured")
    klass = int(np.flatnonzero(~ds["trained"].values)[-1])
    drawn = first_drawn(ds, klass)
    wanted = np.array([expected_class(ds, run, klass) for run in range(ds.sizes["run"])])
    runs = [[run for _, run in block] for block in by_seed(ds, found)]
    if all(len(set(wanted[block].tolist())) < 2 for block in runs):
        return untold("the same concept is the stronger one at every level")
    tested = testing.agreement([(drawn[block], wanted[block]) for block in runs])
    names = ds["klass"].values.astype(str)
    alive = [run for block in runs for run in block]
    weak = [
        f"{names[one]} in {int(matches.sum())} of {len(matches)}"
        for one in sorted(set(wanted[alive].tolist()))
        if (matches := drawn[alive][wanted[alive] == one] == one).mean() < 0.5
    ]
    needs = not weak, f"of the runs that should, too few memorise it as {', '.join(weak)}"
    details = {
        level.label: {
            "expected": str(names[wanted[level.runs[0]]]),
            "memorised_as": [str(names[one]) if one >= 0 else "none" for one in drawn[list(level.runs)]],
        }
        for level in found
    }
    return judge(tested, _seeds(ds, [found]), needs=needs, details=details)


def first_drawn(ds: xr.Dataset, klass: int) -> np.ndarray:
    """Return the class that each run memorises a held-out class as [r]; -1 where it memorises none."""
    return np.array([one.nearest if one is not None and one.memorised else -1 for one in memories(ds, klass)])


@claim(
    "c", "trajectories turn, and a concept is learned fastest at its turn",
    "mean share of saves that are farther from the step of the concept's largest rate than its turn is",
)  # fmt: skip
def turning(ds: xr.Dataset) -> Verdict:
    """Ask whether the turn lies nearer to the largest rate of the held-back concept than a save drawn at random.

    The rate is the change of P(correct value) per step of the trajectory smoothed as published; distances are those of
    the logarithms of steps; saves of the early phase are left out. Shown also takes at least half of the runs to turn.
    """
    return turned(ds, memories)


def turned(ds: xr.Dataset, remember: Callable[..., list[curves.Memorisation | None]]) -> Verdict:
    """Answer `turning` for the turns that `remember(ds, klass)` finds, those of `memories` or drawn ones."""
    klass = int(np.flatnonzero(~ds["trained"].values)[-1])
    paths = trajectory(ds, range(ds.sizes["run"]), klass, str(ds["protocol"].values[0]), default_sigma(ds))
    steps, start = ds["step"].values.astype(float), curves.late_saves(ds["step"].values)
    found = [(run, one) for run, one in enumerate(remember(ds, klass)) if one is not None]
    here, near, later = [], [], []
    for run, one in found:
        if np.isfinite(one.turning_step):
            path = paths[run][:, one.weak]
            fastest = fastest_step(steps, path if ds["bit"].values[klass, one.weak] else 1 - path)
            nearness = nearness_to(fastest, steps)[start:]
            here.append(float(nearness[int(np.flatnonzero(steps == one.turning_step)[0]) - start]))
            near.append(nearness)
            later.append(fastest / one.turning_step)
    details = {"turning_runs": len(here), "runs": len(found), "fastest_over_turn": later}
    if not here:
        return untold("no run memorises the class and turns", seeds=len(found), details=details)
    needs = (len(here) >= 0.5 * len(found), f"only {len(here)} of {len(found)} runs turn")
    seeds = len(set(ds["seed"].values[[run for run, _ in found]].tolist()))
    verdict = judge(testing.drawn(here, near), seeds, needs=needs, details=details)
    why = verdict.why or f"the rate is largest at {np.median(later):.1f} times the turning step (median)"
    return dataclasses.replace(verdict, why=why)


def fastest_step(steps: Float[np.ndarray, " t"], correct: Float[np.ndarray, " t"]) -> float:
    """Return the step, midway between two saves, at which a curve [t] rises fastest."""
    middle, rate = curves.speed(steps, correct[:, None])
    return float(middle[int(np.argmax(rate * np.sign(np.diff(correct))))])


def nearness_to(step: float, steps: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Return for every save the share of the other saves that are farther from a step, in log(step) [t]."""
    far = np.abs(np.log(steps) - np.log(step))
    return (len(far) - testing.ranks(far)) / max(len(far) - 1, 1)


@claim(
    "g", "the larger the masked share, the later it is learned, and at some share never",
    "mean over seeds of the rank correlation of the concept's learning time with the masked share",
)  # fmt: skip
def masking(ds: xr.Dataset) -> Verdict:
    """Ask whether the masked concept is learned later at larger shares, shares permuted within seeds.

    Groups of levels that differ in the share alone all take part; the details are those of the first.
    """
    if not underspecification.is_swept(ds):
        return untold("one masked share: it takes two")
    groups, klass = underspecification.mask_groups(ds), underspecification.held_out(ds)
    found = groups[0]
    concept, _ = underspecification.masked(ds)
    times = times_of(ds, [klass], concept)
    shares = underspecification.fractions(found)
    described = [describe_times(times[list(level.runs)]) for level in found]
    last_learned = max((i for i, one in enumerate(described) if not np.isnan(one["median"])), default=-1)
    never = list(shares[last_learned + 1 :])
    details: dict[str, Any] = {
        "prevented_from": float(min(never)) if never else float("nan"),
        "by_share": {
            f"{share:g}": {name: one[name] for name in ("median", "learned", "seeds")}
            for share, one in zip(shares, described, strict=True)
        },
    }
    tested = testing.trend([times[[run for _, run in block]] for group in groups for block in by_seed(ds, group)])
    why = f"prevented (median never) from a share of {min(never):g} on" if never else "prevented at no share"
    found_verdict = judge(tested, _seeds(ds, groups), details=details)
    return found_verdict if found_verdict.why else dataclasses.replace(found_verdict, why=why)


@claim(
    "j", "the order in which concepts are learned follows from Eq. 1 with a tied to the two signals",
    "mean over seeds of the rank correlation of the ratio of two concepts' learning times with that of their signals",
)  # fmt: skip
def order(ds: xr.Dataset) -> Verdict:
    """Ask whether the ratio of two concepts' learning times on seen classes falls as the ratio of their signals rises.

    Where only one of the two is learned the ratio is that of the last step and never beyond it: such runs rank first or
    last. Levels are permuted within seeds. Shown also takes half of the runs to learn the stronger concept first, for
    every concept that is the stronger one at some level.
    """
    found = [level for level in levels(ds) if level.runs]
    if len(found) < 2:
        return untold(NO_LEVELS)
    if ds.sizes["concept"] < 2 or not np.isfinite(ds["signal"].values).all():
        return untold("the signals of two concepts were not measured")
    trained = np.flatnonzero(ds["trained"].values).tolist()
    times = np.stack([times_of(ds, trained, concept) for concept in (0, 1)])
    late = [np.where(np.isnan(one), np.inf, one) for one in times]
    both = np.isinf(late[0]) & np.isinf(late[1])
    ratio = np.where(both, 0.0, np.log(np.where(both, 1, late[0])) - np.log(np.where(both, 1, late[1])))
    ordered = sorted(found, key=lambda level: level.signal[0] / level.signal[1])
    ratios = [level.signal[0] / level.signal[1] for level in ordered]
    if len(set(np.round(ratios, 12))) < 2:
        return untold("the ratio of the two signals is the same at every level")
    tested = testing.trend([ratio[[run for _, run in block]] for block in by_seed(ds, ordered)])
    runs = np.array([run for level in ordered for run in level.runs])
    stronger = np.log(ds["signal"].values[runs, 0]) - np.log(ds["signal"].values[runs, 1])
    right = np.sign(ratio[runs]) == -np.sign(stronger)
    names = ds["concept"].values.astype(str)
    details: dict[str, Any] = {"stronger_first": int(right.sum()), "runs": len(runs)}
    weak = []
    for name, there in zip(names[:2], (stronger > 0, stronger < 0), strict=True):
        details[f"{name}_first"] = {"learned_first": int(right[there].sum()), "stronger_in": int(there.sum())}
        if there.any() and right[there].mean() < 0.5:
            weak.append(f"{name} in {right[there].sum()} of {there.sum()}")
    needs = not weak, f"too few runs learn the stronger concept first: {', '.join(weak)}"
    return judge(tested, _seeds(ds, [found]), "less", needs=needs, details=details)
