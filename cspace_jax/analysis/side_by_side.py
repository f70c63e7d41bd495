"""Two studies side by side: learning times by level and class, paired by seed where both have the seed.

Levels are shared where every setting that varies in either study is equal; a setting that each study holds fixed, such
as another learning rate, is part of what is compared. Tests look at the steps that both studies have, so that a study
is not ahead for having been trained longer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Real

from cspace_jax.analysis import censored, comparison, joining, testing
from cspace_jax.analysis.intervals import LEAST_MEAN
from cspace_jax.analysis.learning import curves_by_concept, definition_of, describe_difference, describe_times, times_by
from cspace_jax.analysis.levels import Level, levels, setting_label, unseen
from cspace_jax.config.definitions import STAYS_80
from cspace_jax.config.setting import SWEPT

SEEN = "seen"  # stands for the mean over all classes that were trained on
FLIPS, LOG_RANK = "sign flips", "log-rank"
NO_STEP = "no shared steps"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A level that two studies share.

    Attributes:
      label: its settings that vary in either study.
      both: the level of the first study and that of the second.
    """

    label: str
    both: tuple[Level, Level]


def match(both: Sequence[xr.Dataset]) -> tuple[list[Pair], list[list[str]]]:
    """Return the shared levels of two studies, and the labels of each study's own ones.

    Shared levels stand in the order of the first study. A level whose runs all diverged is shared with none.
    """
    names = [name for name in SWEPT if any(len(set(ds[name].values.tolist())) > 1 for ds in both)]
    found = [{_place(level, names): level for level in levels(ds) if level.runs} for ds in both]
    shared = [place for place in found[0] if place in found[1]]
    pairs = [Pair(_label(found[0][place], names), (found[0][place], found[1][place])) for place in shared]
    return pairs, [[_label(level, names) for place, level in one.items() if place not in shared] for one in found]


def _place(level: Level, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{level.setting[name]:.6g}" for name in names)  # settings are stored as float32 or from text


def _label(level: Level, names: Sequence[str]) -> str:
    return setting_label({name: level.setting[name] for name in names}) or "the one setting"


def definition(both: Sequence[xr.Dataset]) -> str:
    """Return the definition of learned that both studies show, `STAYS_80` where they show different ones."""
    found = {definition_of(ds) for ds in both}
    return found.pop() if len(found) == 1 else STAYS_80


def compare(named: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """Return two studies side by side as plain dicts and lists.

    Every row has a level, a class ("seen": the mean over the classes trained on) and a concept ("joint": all at once):

    * first, second: learning times as in the summary, each over the whole of its own study;
    * difference: accuracy averaged over the logarithm of the shared steps, second minus first: of each shared seed,
      mean and median over them, with the interval of the median; where no step is shared NaN, and why;
    * test, p: exact sign flips of that difference over shared seeds; with fewer than three of them the log-rank test of
      the learning times over all seeds; p_holm: corrected for all rows (Holm);
    * sooner, later: shared seeds in which the second study learns sooner or later; p_times: sign test of these.

    Args:
      named: the first and the second study's dataset by name.

    Raises:
      UserError: the concepts or classes differ.
    """
    joining.require_same_classes(named)
    both = list(named.values())
    pairs, alone = match(both)
    kind, last = definition(both), min(int(ds["step"].values[-1]) for ds in both)
    rows = [row for pair in pairs for row in _rows(both, pair, kind, last)]
    corrected = testing.holm([row["p"] for row in rows])
    return {
        "studies": list(named), "learned": kind, "tested_to_step": last,
        "rows": [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)],
        "levels_of_one": dict(zip(named, alone, strict=True)),
    }  # fmt: skip


def _rows(both: Sequence[xr.Dataset], pair: Pair, kind: str, last: int) -> list[dict[str, Any]]:
    places = {SEEN: np.flatnonzero(both[0]["trained"].values).tolist()}
    places |= {str(both[0]["klass"].values[k]): [k] for k in unseen(both[0])}
    rows = []
    for klass, classes in places.items():
        sides = [_sides(ds, level, classes) for ds, level in zip(both, pair.both, strict=True)]
        for concept in sides[0]:
            row = _row([one[concept] for one in sides], kind, last)
            rows.append({"level": pair.label, "klass": klass, "concept": concept, **row})
    return rows


def _sides(ds: xr.Dataset, level: Level, classes: Sequence[int]) -> dict[str, "Side"]:
    """Return the curves of a level by concept, averaged over classes."""
    steps, seeds = ds["step"].values, ds["seed"].values[list(level.runs)]
    curves = curves_by_concept(ds, level.runs, classes, str(ds["protocol"].values[0]))
    return {concept: Side(steps, scores, seeds) for concept, scores in curves.items()}


@dataclasses.dataclass(frozen=True)
class Side:
    """Curves [r, t] of one study at its steps [t], one a seed [r]."""

    steps: Int[np.ndarray, " t"]
    scores: Float[np.ndarray, "r t"]
    seeds: Int[np.ndarray, " r"]

    def until(self, last: int) -> "Side":
        """Return the curves up to a step."""
        kept = self.steps <= last
        return Side(self.steps[kept], self.scores[:, kept], self.seeds)

    def times(self, kind: str) -> Float[np.ndarray, " r"]:
        """Return the learning times by a definition, NaN where no step is left."""
        return times_by(kind, self.steps, self.scores) if len(self.steps) else np.full(len(self.seeds), np.nan)

    def of(self, seeds: Sequence[int]) -> "Side":
        """Return the curves of some seeds, in their order."""
        rows = [self.seeds.tolist().index(seed) for seed in seeds]
        return Side(self.steps, self.scores[rows], self.seeds[rows])


def _row(sides: Sequence[Side], kind: str, last: int) -> dict[str, Any]:
    """Return the entries of a row other than its names; see `compare`."""
    full = [describe_times(times_by(kind, side.steps, side.scores), side.steps) for side in sides]
    cut = [side.until(last) for side in sides]
    shared = sorted(set(sides[0].seeds.tolist()) & set(sides[1].seeds.tolist()))
    paired = [side.of(shared) for side in cut]
    difference = _areas(paired)
    times = [side.times(kind) for side in paired]
    signs = testing.sign_of_times(times[1], times[0])
    if len(shared) >= LEAST_MEAN:
        test, p = FLIPS, testing.sign_flip(difference).two_sided
    else:
        one, other = (side.times(kind) for side in cut)
        test, p = LOG_RANK, censored.log_rank(one, other, last)
    described = describe_difference(difference)
    if shared and np.isnan(difference).all():
        described |= {"no_interval": NO_STEP}
    return {
        "first": full[0], "second": full[1], "shared_seeds": len(shared), "difference": described,
        "test": test, "p": p, "sooner": int((signs > 0).sum()), "later": int((signs < 0).sum()),
        "p_times": testing.sign_test(times[1], times[0]),
    }  # fmt: skip


def _areas(sides: Sequence[Side]) -> Float[np.ndarray, " r"]:
    """Return the height of each seed's second curve above its first [r], averaged over the log of shared steps.

    NaN where no step is shared.
    """
    if not all(len(side.steps) for side in sides):
        return np.full(len(sides[0].seeds), np.nan)
    low, high = max(side.steps[0] for side in sides), min(side.steps[-1] for side in sides)
    steps = np.unique(np.concatenate([side.steps for side in sides]))
    steps = steps[(steps >= low) & (steps <= high)]
    if not len(steps):
        return np.full(len(sides[0].seeds), np.nan)
    first, second = (comparison.area(steps, _at(side, steps)) for side in sides)
    return second - first


def _at(side: Side, steps: Real[np.ndarray, " s"]) -> Float[np.ndarray, "r s"]:
    """Return the curves [r, s] at other steps, linearly interpolated between saves."""
    found = [np.interp(steps, side.steps, one) for one in side.scores]
    return np.array(found).reshape(len(side.scores), len(steps))
