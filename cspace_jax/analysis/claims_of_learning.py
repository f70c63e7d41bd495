"""Claims about learning dynamics under naive prompting: (a) to (c), (g) and (j) of docs/claims.md."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.analysis import censored, curves, intervals, testing, underspecification
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
from cspace_jax.analysis.levels import Level, held_out, levels, setting_label, signal_varies, swept_concept, told_apart
from cspace_jax.analysis.ordering import level_groups, signal_groups
from cspace_jax.config.setting import SWEPT


@dataclasses.dataclass(frozen=True)
class Block:
    """The runs of a seed at levels that are compared with each other; none of them diverged."""

    seed: int
    levels: list[Level]
    runs: list[int]
    places: list[tuple[float, ...]]  # of each run its settings among those that vary within groups

    def signals(self, concept: int) -> Float[np.ndarray, " level"]:
        """Return the signal of a concept at its levels, equal where it differs by rounding alone."""
        return told_apart(np.array([level.signal[concept] for level in self.levels]))


def blocks_of(ds: xr.Dataset, groups: Sequence[Sequence[Level]]) -> list[Block]:
    """Return the blocks of groups of levels, one a group and seed."""
    found = []
    free = [name for name in SWEPT if any(len({level.setting[name] for level in group}) > 1 for group in groups)]
    for group in groups:
        blocks: dict[int, Block] = {}
        for level in group:
            for run in level.runs:
                seed = int(ds["seed"].values[run])
                block = blocks.setdefault(seed, Block(seed, [], [], []))
                block.levels.append(level)
                block.runs.append(run)
                block.places.append(tuple(level.setting[name] for name in free))
        found += blocks.values()
    return found


def where(blocks: Sequence[Block]) -> list[tuple[int, list[tuple[float, ...]]]]:
    """Return the seed and the places of blocks, by which all blocks of a seed are rearranged together."""
    return [(block.seed, block.places) for block in blocks]


def told_seeds(tested: testing.Outcome) -> Float[np.ndarray, " s"]:
    """Return each seed's own value of a statistic [s], the mean over its blocks, for the seeds that tell something."""
    return np.array([value for _, value in tested.told])


def _most_levels(blocks: Sequence[Block]) -> int:
    return max((len(block.runs) for block in blocks), default=0)


def times_of(ds: xr.Dataset, classes: Sequence[int], concept: int) -> Float[np.ndarray, " r"]:
    """Return the learning time of a concept in every run [r], accuracy averaged over the classes."""
    protocol = str(ds["protocol"].values[0])
    accuracy = accuracy_curves(ds, range(ds.sizes["run"]), classes, protocol)[..., concept]
    return times_by(definition_of(ds), ds["step"].values, accuracy)


def _groups(ds: xr.Dataset) -> tuple[int, list[list[Level]]]:
    """Return the swept concept and groups of levels that differ in its known signal alone, weak to strong."""
    found = [level for level in levels(ds) if level.runs]
    concept = swept_concept(found)
    groups = level_groups(found, str(ds["concept"].values[concept])) if found else []
    chosen = [sorted((found[i] for i in group), key=lambda level: level.signal[concept]) for group in groups]
    return concept, [group for group in chosen if signal_varies(group, concept)]


NO_LEVELS = "one level of concept signal: it takes two"
NO_SIGNAL = "the concept signal was not measured"


@claim(
    "a", "the stronger a concept's signal, the sooner it is learned",
    "mean over seeds of the rank correlation of learning time with signal, seen and unseen classes",
)  # fmt: skip
def speed(ds: xr.Dataset) -> Verdict:
    """Ask whether learning times fall as the signal of the swept concept rises, levels permuted within seeds.

    Runs of a seed are ranked by their times on the training classes and on every held-out class, and the ranks averaged
    over these places; "never" is later than any time. Of each place alone the correlation is in the details.
    """
    if np.isnan(ds["signal"].values).all():
        return untold(NO_SIGNAL)
    concept, groups = _groups(ds)
    if not groups:
        return untold(NO_LEVELS)
    unseen = np.flatnonzero(~ds["trained"].values).tolist()
    places = [np.flatnonzero(ds["trained"].values).tolist(), *([klass] for klass in unseen)]
    times = [times_of(ds, classes, concept) for classes in places]
    blocks = blocks_of(ds, groups)
    signals = [block.signals(concept) for block in blocks]
    # A seed's places are permuted together: they are read from the same networks.
    scores = [np.mean([testing.ranks(one[block.runs]) for one in times], axis=0) for block in blocks]
    last = float(ds["step"].values[-1])
    ends = [(group[0], group[-1]) for group in groups]
    values = [testing.trend([one[block.runs] for block in blocks], signals, where(blocks)).value for one in times]
    details = {
        "concept": str(ds["concept"].values[concept]),
        "log_rank": [
            censored.log_rank(times[0][list(weak.runs)], times[0][list(strong.runs)], last) for weak, strong in ends
        ],
        "rank_correlation_seen": values[0],
        "rank_correlation_unseen": values[1:],
    }
    return _judged(testing.trend(scores, signals, where(blocks)), blocks, definition_of(ds), "less", details=details)


def _judged(
    tested: testing.Outcome, blocks: Sequence[Block], definition: str, alternative: str = "greater", **more: Any
) -> Verdict:
    """Judge a trend over levels, with the interval over seeds of the mean rank correlation."""
    values = told_seeds(tested)
    low, high = map(float, intervals.correlation_interval(values, _most_levels(blocks)))
    return judge(tested, len(values), alternative, interval=(low, high), definition=definition, **more)


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
    "mean over seeds of the share of runs that memorise it as that class",
)  # fmt: skip
def memorised_as(ds: xr.Dataset) -> Verdict:
    """Ask whether the memorised class is the expected one (`expected_class`), levels permuted within seeds.

    A run that memorises none is no match. Shown also takes half of the runs to match for every class that is expected.
    """
    found = [level for level in levels(ds) if level.runs]
    if len(found) < 2:
        return untold(NO_LEVELS)
    if not np.isfinite(ds["signal"].values).all():
        return untold(NO_SIGNAL)
    klass = held_out(ds)
    drawn = first_drawn(ds, klass)
    wanted = np.array([expected_class(ds, run, klass) for run in range(ds.sizes["run"])])
    blocks = blocks_of(ds, [[found[i] for i in group] for group in signal_groups(found)])
    if all(len(set(wanted[block.runs].tolist())) < 2 for block in blocks):
        return untold("the same concept is the stronger one at every level")
    tested = testing.agreement([(drawn[block.runs], wanted[block.runs]) for block in blocks], where(blocks))
    names = ds["klass"].values.astype(str)
    weak = _rarely_matched(names, drawn, wanted, [run for block in blocks for run in block.runs])
    needs = not weak, f"of the runs that should, too few memorise it as {', '.join(weak)}"
    details = {
        level.label: {
            "expected": str(names[wanted[level.runs[0]]]),
            "memorised_as": [str(names[one]) if one >= 0 else "none" for one in drawn[list(level.runs)]],
        }
        for level in found
    }
    values = told_seeds(tested)
    low, high = map(float, intervals.share_interval(values, _most_levels(blocks)))
    return judge(tested, len(values), needs=needs, interval=(low, high), details=details)


def _rarely_matched(names: np.ndarray, drawn: np.ndarray, wanted: np.ndarray, runs: list[int]) -> list[str]:
    """Return the expected classes that fewer than half of their runs memorise, in words."""
    weak = []
    for one in sorted(set(wanted[runs].tolist())):
        matches = drawn[runs][wanted[runs] == one] == one
        if matches.mean() < 0.5:
            weak.append(f"{names[one]} in {int(matches.sum())} of {len(matches)}")
    return weak


def first_drawn(ds: xr.Dataset, klass: int) -> np.ndarray:
    """Return the class that each run memorises a held-out class as [r]; -1 where it memorises none."""
    return np.array([one.nearest if one is not None and one.memorised else -1 for one in memories(ds, klass)])


@claim(
    "c", "trajectories turn, and a concept is learned fastest at its turn",
    "mean over seeds of the share of saves that are farther from the step of the concept's largest rate than its turn",
)  # fmt: skip
def turning(ds: xr.Dataset) -> Verdict:
    """Ask whether the turn lies nearer to the largest rate of the held-back concept than a save drawn at random.

    The rate is the change of P(correct value) per step of the trajectory smoothed as published; distances are those of
    the logarithms of steps; saves of the early phase are left out. Shown also takes at least half of the runs to turn.
    """
    return turned(ds, memories)


def turned(ds: xr.Dataset, remember: Callable[..., list[curves.Memorisation | None]]) -> Verdict:
    """Answer `turning` for the turns that `remember(ds, klass)` finds, those of `memories` or drawn ones."""
    klass = held_out(ds)
    paths = trajectory(ds, range(ds.sizes["run"]), klass, str(ds["protocol"].values[0]), default_sigma(ds))
    steps, start = ds["step"].values.astype(float), curves.late_saves(ds["step"].values)
    found = [(run, one) for run, one in enumerate(remember(ds, klass)) if one is not None]
    here, near, later, seeds = [], [], [], []
    for run, one in found:
        if np.isfinite(one.turning_step):
            seeds.append(int(ds["seed"].values[run]))
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
    tested = testing.drawn(here, near, seeds)
    by_seed = told_seeds(tested)
    low, high = map(float, intervals.share_interval(by_seed, len(near[0])))
    verdict = judge(tested, len(by_seed), needs=needs, interval=(low, high), details=details)
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

    Groups of levels that differ in the share alone all take part. Shown also takes masks to prevent it in one of them:
    learned, by the median, at some share and at no larger one. The details are those of the first such group, of the
    first of all where there is none; `group` says which it is where there are several.
    """
    if not underspecification.is_swept(ds):
        return untold("one masked share: it takes two")
    groups, klass = underspecification.mask_groups(ds), held_out(ds)
    concept, _ = underspecification.masked(ds)
    times = times_of(ds, [klass], concept)
    prevented = [_prevented_from(times, found) for found in groups]
    told = next((i for i, one in enumerate(prevented) if np.isfinite(one)), 0)
    named = setting_label(underspecification.group_setting(groups[told])) if len(groups) > 1 else ""
    details: dict[str, Any] = {
        "group": named,
        "prevented_from": prevented[told],
        "by_share": {f"{level.setting['mask']:g}": _learned(times, level) for level in groups[told]},
    }
    blocks = blocks_of(ds, groups)
    at = [np.array([level.setting["mask"] for level in block.levels]) for block in blocks]
    tested = testing.trend([times[block.runs] for block in blocks], at, where(blocks))
    known = np.isfinite(prevented[told])
    why = f"prevented (median never) from a share of {prevented[told]:g} on" + f" at {named}" * bool(named)
    if not known:
        why = "prevented at no share"
    found = _judged(tested, blocks, definition_of(ds), needs=(bool(known), why), details=details)
    return found if found.why else dataclasses.replace(found, why=why)


def _learned(times: Float[np.ndarray, " r"], level: Level) -> dict[str, Any]:
    described = describe_times(times[list(level.runs)])
    return {name: described[name] for name in ("median", "learned", "seeds")}


def _prevented_from(times: Float[np.ndarray, " r"], found: Sequence[Level]) -> float:
    """Return the smallest masked share from which on the median is never, above one at which it is not; NaN if none."""
    learned = [bool(np.isfinite(censored.median(times[list(level.runs)]))) for level in found]
    last = max((i for i, one in enumerate(learned) if one), default=-1)
    return float(found[last + 1].setting["mask"]) if 0 <= last < len(found) - 1 else float("nan")


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
    if ds.sizes["concept"] < 2 or not np.isfinite(ds["signal"].values[:, :2]).all():
        return untold("the signals of two concepts were not measured")
    if any((told_apart(one) <= 0).any() for one in ds["signal"].values[:, :2].T):
        return untold("a concept without a signal at some level: its ratio to the other is not known")
    trained = np.flatnonzero(ds["trained"].values).tolist()
    ratio = time_ratios(times_of(ds, trained, 0), times_of(ds, trained, 1))
    strength = np.log(ds["signal"].values[:, :2].astype(float))
    signals = told_apart(strength[:, 0] - strength[:, 1], scale=1.0)  # [r]
    blocks = blocks_of(ds, [[found[i] for i in group] for group in signal_groups(found)])
    if all(len(set(signals[block.runs].tolist())) < 2 for block in blocks):
        return untold("the ratio of the two signals is the same at every level")
    parts = [[one[block.runs] for block in blocks] for one in (ratio, signals)]
    tested = testing.trend(parts[0], parts[1], where(blocks))
    runs = np.array([run for block in blocks for run in block.runs])
    right = (np.sign(ratio[runs]) == -np.sign(signals[runs])) & (signals[runs] != 0)
    names = ds["concept"].values.astype(str)
    details: dict[str, Any] = {"stronger_first": int(right.sum()), "runs": len(runs)}
    weak = []
    for name, there in zip(names[:2], (signals[runs] > 0, signals[runs] < 0), strict=True):
        details[f"{name}_first"] = {"learned_first": int(right[there].sum()), "stronger_in": int(there.sum())}
        if there.any() and right[there].mean() < 0.5:
            weak.append(f"{name} in {right[there].sum()} of {there.sum()}")
    needs = not weak, f"too few runs learn the stronger concept first: {', '.join(weak)}"
    return _judged(tested, blocks, definition_of(ds), "less", needs=needs, details=details)


def time_ratios(one: Float[np.ndarray, " r"], other: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Return the log of the ratio of two learning times [r]; infinite where one never comes, 0 where none does."""
    late = [np.where(np.isnan(times), np.inf, times) for times in (one, other)]
    both = np.isinf(late[0]) & np.isinf(late[1])
    return np.where(both, 0.0, np.log(np.where(both, 1, late[0])) - np.log(np.where(both, 1, late[1])))
