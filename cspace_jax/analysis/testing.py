"""Tests over few seeds: exact where the arrangements can be counted, drawn with a fixed seed where not.

A test that has nothing to tell from returns NaN, never a made-up p-value. "Never" (NaN) counts as later than any time.
"""

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

EXACT = 10_000  # arrangements that are counted one by one
# Largest one-sided p-value of a verdict: five seeds can reach it (1/32), and the rate of false alarms that 1,000
# shuffles measure stays below 5 % but for one such measurement in five hundred.
ALPHA = 0.033


class Outcome(NamedTuple):
    """A statistic and its p-values by rearrangement; NaN where there is nothing to tell from.

    Attributes:
      value: the statistic.
      greater: probability of one at least as large by chance.
      less: probability of one at least as small.
      least_greater: the smallest `greater` that any arrangement of these numbers has, ties counted.
      least_less: the smallest `less`.
      told: of tests over blocks, the seeds that tell something: which it is and its own value of the statistic. A block
        without a named seed goes by its place.
    """

    value: float
    greater: float
    less: float
    least_greater: float
    least_less: float
    told: tuple[tuple[Hashable, float], ...] = ()

    @property
    def two_sided(self) -> float:
        """Return the two-sided p-value: twice the smaller one, at most 1; NaN where there is nothing to tell from."""
        return min(2 * min(self.greater, self.less), 1.0)  # in this order: min(1.0, NaN) would be 1


UNTOLD = Outcome(math.nan, math.nan, math.nan, math.nan, math.nan)


def _tested(value: float, seen: float, arranged: Float[np.ndarray, " n"]) -> Outcome:
    slack = 1e-9 * max(1.0, abs(seen))

    def share(least: float = -math.inf, most: float = math.inf) -> float:
        return float(np.mean((arranged >= least - slack) & (arranged <= most + slack)))

    return Outcome(value, share(least=seen), share(most=seen), share(least=arranged.max()), share(most=arranged.min()))


def sign_flip(differences: Real[np.ndarray, " r"]) -> Outcome:
    """Test the mean of paired differences [r] by flipping their signs: exact up to 13 seeds.

    NaN differences are left out. Nothing is told without a seed, or where all differences are 0.
    """
    differences = np.asarray(differences, float)
    differences = differences[np.isfinite(differences)]
    if not np.any(differences):
        return UNTOLD
    seeds = len(differences)
    if 2**seeds <= EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=seeds)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (EXACT, seeds))
        signs[0] = 1  # the arrangement that was seen is one of them
    return _tested(float(differences.mean()), float(differences.sum()), signs @ differences)


def sign_of_times(times: Real[np.ndarray, " r"], other: Real[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Return the sign [r] of each pair of times: 1 where `times` comes first, -1 where `other` does.

    0 where they are equal or both never come.
    """
    one, two = (np.where(np.isnan(part), np.inf, part) for part in (times, other))
    return np.asarray(np.sign((one < two).astype(float) - (one > two)))


def sign_test(times: Real[np.ndarray, " r"], other: Real[np.ndarray, " r"]) -> float:
    """Return the two-sided p-value of times that come before others, seed by seed (sign test, ties left out).

    Censored times have an order and no difference, so only signs are used.
    """
    from scipy import stats  # takes half a second to load

    signs = sign_of_times(times, other)
    count = int((signs != 0).sum())
    return float(stats.binomtest(int((signs > 0).sum()), count).pvalue) if count else float("nan")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method, in the given order.

    NaN stays NaN and is not counted.
    """
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    corrected, largest = [float("nan")] * len(p_values), 0.0
    for place, i in enumerate(sorted(known, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(known) - place) * p_values[i]))
        corrected[i] = largest
    return corrected


Where = Sequence[tuple[Hashable, Sequence[Hashable]]]
Block = tuple[Shaped[np.ndarray, " _level"], Shaped[np.ndarray, " _level"]]  # what was found, and what is expected


def trend(
    blocks: Iterable[Real[np.ndarray, " _level"]],
    at: Iterable[Real[np.ndarray, " _level"]] | None = None,
    where: Where | None = None,
) -> Outcome:
    """Ask whether a number falls or rises from level to level, in blocks whose numbers share a seed.

    Args:
      blocks: of each block the numbers at the levels it has, in the order of the levels; NaN counts as the largest.
      at: of each block the levels themselves, equal where two of them do not differ; None = they are all different.
      where: of each block its seed and the place of every number. A seed's blocks are rearranged together: places are
        exchanged in all of its blocks at once, and only with places that the same of its blocks have. None = each block
        has a seed of its own.

    Returns:
      The mean over seeds of Spearman's rank correlation with the level, in -1..1, each seed's the mean over its blocks,
      tested by permuting the numbers within each seed: exact up to 10,000 permutations, else 10,000 drawn ones. Only
      blocks with two different numbers and two different levels take part (`told` are the seeds that have some).
    """
    blocks = list(blocks)
    pairs = zip(blocks, map(np.arange, map(len, blocks)) if at is None else at, strict=True)
    ranked = [(ranks(block), ranks(levels)) for block, levels in pairs]
    told = {i: pair for i, pair in enumerate(ranked) if all(len(set(one.tolist())) > 1 for one in pair)}
    return _over_seeds(told, where, _scores)


def agreement(blocks: Iterable[Block], where: Where | None = None) -> Outcome:
    """Ask whether findings match expectations level by level, in blocks that share a seed.

    Args:
      blocks: of each block what was found and what is expected [level]; any values that can be equal.
      where: as of `trend`.

    Returns:
      The mean over seeds of the share of matches, each seed's the mean over its blocks, tested by permuting what was
      found within each seed. Blocks that expect one thing alone count and have the same share however they are
      permuted; seeds that have no others take no part (`told` are those that do).
    """
    pairs = dict(enumerate(blocks))
    told = {i: pair for i, pair in pairs.items() if len(set(pair[1].tolist())) > 1}
    fixed = {i: float(np.mean(pair[0] == pair[1])) for i, pair in pairs.items() if i not in told and len(pair[1])}
    return _over_seeds(told, where, lambda found, expected, orders: (found[orders] == expected).mean(axis=1), fixed)


def _over_seeds(
    told: Mapping[int, Block],
    where: Where | None,
    score: Callable[..., Float[np.ndarray, " n"]],
    fixed: Mapping[int, float] | None = None,
) -> Outcome:
    """Test the mean over seeds of a score of blocks.

    `score(found, expected, orders)` returns the scores [n] of a block's n arrangements. Blocks of `fixed` have one
    score however they are arranged.
    """
    members: dict[Hashable, list[int]] = {}
    for i in told:
        members.setdefault(i if where is None else where[i][0], []).append(i)
    scores: dict[Hashable, Float[np.ndarray, " n"]] = {}
    for seed, blocks in members.items():
        orders = _joint_orders([range(len(told[i][0])) if where is None else where[i][1] for i in blocks])
        if len(orders[0]) > 1:  # else nothing can be exchanged
            pairs = zip(blocks, orders, strict=True)
            own = [score(*told[i], arranged) for i, arranged in pairs]
            beside = [np.full(len(own[0]), one) for i, one in (fixed or {}).items() if where and where[i][0] == seed]
            scores[seed] = np.mean([*own, *beside], axis=0)
    if not scores:
        return UNTOLD
    seen = sum(float(one[0]) for one in scores.values())
    by_seed = tuple((seed, float(one[0])) for seed, one in scores.items())
    return _tested(seen / len(scores), seen, _sums(list(scores.values())))._replace(told=by_seed)


def _joint_orders(places: Sequence[Sequence[Hashable]]) -> list[Int[np.ndarray, "n level"]]:
    """Return the arrangements of each of a seed's blocks, the n-th of all made by one exchange of places.

    Args:
      places: of each block the place of every number. Only places that the same blocks have are exchanged.
    """
    every = list(dict.fromkeys(place for block in places for place in block))
    kinds = [tuple(place in block for block in places) for place in every]
    orders = _orders([kinds.index(kind) for kind in kinds])
    arranged = []
    for block in places:
        numbers = np.array([every.index(place) for place in block])
        position = np.zeros(len(every), int)
        position[numbers] = np.arange(len(block))
        arranged.append(position[orders[:, numbers]])
    return arranged


def drawn(
    values: Sequence[float], chances: Sequence[Real[np.ndarray, " _n"]], seeds: Sequence[Hashable] | None = None
) -> Outcome:
    """Test the mean of values against one drawn from each value's own chances [n], all equally likely.

    With `seeds`, the seed of every value, it is the mean over seeds of each seed's mean (`told` are the seeds).
    """
    seeds = list(range(len(values))) if seeds is None else list(seeds)
    every = list(dict.fromkeys(seeds))
    weights = [1 / seeds.count(seed) for seed in seeds]
    scores = [w * np.concatenate([[v], c]) for w, v, c in zip(weights, values, chances, strict=True)]
    told = {seed: sum(float(one[0]) for one, of in zip(scores, seeds, strict=True) if of == seed) for seed in every}
    seen = sum(float(one[0]) for one in scores)
    return _tested(seen / len(every), seen, _sums(scores))._replace(told=tuple(told.items()))


def _sums(scores: Sequence[Float[np.ndarray, " _n"]]) -> Float[np.ndarray, " m"]:
    """Return the sums of one score a block over all their combinations; the first is the one seen.

    Of more than 10,000 combinations, 10,000 are drawn.
    """
    if math.prod(len(one) for one in scores) <= EXACT:
        sums = np.array([0.0])
        for one in scores:
            sums = (sums[:, None] + one).ravel()
        return sums
    rng = np.random.default_rng(0)
    sums = np.sum([rng.choice(one, EXACT) for one in scores], axis=0)
    sums[0] = sum(float(one[0]) for one in scores)
    return sums


def ranks(values: Real[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return ranks from 1, ties in the middle; NaN is the largest."""
    from scipy import stats

    return np.asarray(stats.rankdata(np.where(np.isnan(values), np.inf, values)))


def _scores(
    ranked: Float[np.ndarray, " level"], places: Float[np.ndarray, " level"], orders: Int[np.ndarray, "n level"]
) -> Float[np.ndarray, " n"]:
    """Return the correlation of every arrangement of ranks with those of their levels."""
    centred, places = ranked - ranked.mean(), places - places.mean()
    return (centred[orders] @ places) / np.sqrt((centred @ centred) * (places @ places))


def _orders(kinds: Sequence[int]) -> Int[np.ndarray, "n level"]:
    """Return all orders that exchange levels of one kind alone; the given order comes first.

    Of more than 10,000 orders, 10,000 are drawn.
    """
    groups = [np.flatnonzero(np.array(kinds) == kind) for kind in dict.fromkeys(kinds)]
    given = np.arange(len(kinds))
    if math.prod(math.factorial(len(group)) for group in groups) <= EXACT:
        orders = given[None]
        for group in groups:
            permuted = np.array(list(itertools.permutations(group)))
            count = len(orders)
            orders = np.repeat(orders, len(permuted), axis=0)
            orders[:, group] = np.tile(permuted, (count, 1))
        return orders
    rng, orders = np.random.default_rng(1), np.tile(given, (EXACT, 1))
    for one in orders[1:]:
        for group in groups:
            one[group] = rng.permutation(group)
    return orders


def swapped(one: Float[np.ndarray, " r"], other: Float[np.ndarray, " r"], statistic: Callable[..., float]) -> Outcome:
    """Test a statistic of two paired samples [r] by exchanging the two in every seed: exact up to 13 seeds.

    `statistic(one, other)` is large when the claim holds.
    """
    seen = statistic(one, other)
    if math.isnan(seen):
        return UNTOLD
    found = [statistic(np.where(flips, other, one), np.where(flips, one, other)) for flips in _flips(len(one))]
    values = np.array(found)
    return _tested(seen, seen, values[~np.isnan(values)])


def _flips(seeds: int) -> Iterator[Bool[np.ndarray, " r"]]:
    if 2**seeds <= EXACT:
        yield from (np.array(one) for one in itertools.product((False, True), repeat=seeds))
        return
    rng = np.random.default_rng(0)
    yield np.zeros(seeds, bool)
    yield from (rng.random(seeds) < 0.5 for _ in range(EXACT - 1))
