"""Intervals over seeds that cover what they say, measured by `experiments/coverage.py`.

An interval of 95 % that does not exist for so few seeds is NaN, NaN: there is none of a mean below `LEAST_MEAN` seeds,
and none of a median below `LEAST_MEDIAN`.
"""

import functools

import numpy as np
from jaxtyping import Float, Real
from scipy import special

LEVEL = 0.95
LEAST_MEAN = 3
LEAST_MEDIAN = 6  # 1 - 2 (1/2)^n is below .95 for fewer


def missing(seeds: int, least: int) -> str:
    """Return why there is no interval over so few seeds, "" if there is one."""
    return f"n = {seeds}: no 95 % interval" if seeds < least else ""


def mean_interval(
    values: Real[np.ndarray, "r *shape"],
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return Student's 95 % interval, low and high, of the mean over seeds (axis 0).

    It is for a number without bounds, such as a colour. With fewer than three seeds it is NaN.
    """
    values = np.asarray(values, float)
    if len(values) < LEAST_MEAN:
        return _none(values.shape[1:])
    half = _quantile(len(values)) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return np.asarray(values.mean(axis=0) - half), np.asarray(values.mean(axis=0) + half)


def share_interval(
    values: Float[np.ndarray, "r *shape"], samples: int
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return the 95 % interval of the mean over seeds (axis 0) of a probability or accuracy, within 0..1.

    Student's interval of the mean on the logit scale (delta method). The mean is kept half a sample of all seeds away
    from 0 and 1, and the variance between seeds is at least that of `samples` draws. Seeds that split into learned and
    not make this too narrow, so it is joined with the means that follow from the exact interval of the share of seeds
    above one half (Clopper and Pearson), at the two sides' own means. Where all seeds lie on one side, and their mean
    beyond 0.75 or 0.25, the side that none of them shows is taken to lie at the other end.

    Args:
      values: one a seed, from 0 to 1.
      samples: how many samples each value is an average of.
    """
    values = np.asarray(values, float)
    seeds = len(values)
    if seeds < LEAST_MEAN:
        return _none(values.shape[1:])
    edge = 0.5 / (samples * seeds)
    mean = np.clip(values.mean(axis=0), edge, 1 - edge)
    slope = mean * (1 - mean)
    variance = np.maximum(values.var(axis=0, ddof=1), slope / samples)
    half = _quantile(seeds) * np.sqrt(variance / seeds) / slope
    low, high = special.expit(special.logit(mean) - half), special.expit(special.logit(mean) + half)
    least, most = _split(values)
    return np.asarray(np.minimum(low, least)), np.asarray(np.maximum(high, most))


def correlation_interval(
    values: Float[np.ndarray, "r *shape"], levels: int
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return the 95 % interval of the mean over seeds (axis 0) of rank correlations, within -1..1.

    `levels` is the number of levels that are ranked. A correlation r is taken for a share (1 + r) / 2 of the pairs of
    levels (`share_interval`).
    """
    low, high = share_interval((1 + np.asarray(values, float)) / 2, levels * (levels - 1) // 2)
    return np.asarray(2 * low - 1), np.asarray(2 * high - 1)


def _split(
    values: Float[np.ndarray, "r *shape"],
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    """Return the least and the largest mean that the interval of the share of seeds above one half allows.

    They are inf and -inf where that tells nothing.
    """
    upper = values > 0.5
    count = upper.sum(axis=0)
    shares = np.array([count_interval(k, len(values)) for k in range(len(values) + 1)])[count]  # [*shape, 2]
    above = np.where(upper, values, 0).sum(axis=0) / np.maximum(count, 1)
    below = np.where(upper, 0, values).sum(axis=0) / np.maximum(len(values) - count, 1)  # 0 where none is
    above = np.where(count == 0, 1.0, above)
    told = ((count > 0) & (count < len(values))) | (np.abs(values.mean(axis=0) - 0.5) > 0.25)
    ends = [shares[..., i] * above + (1 - shares[..., i]) * below for i in (0, 1)]
    return np.asarray(np.where(told, ends[0], np.inf)), np.asarray(np.where(told, ends[1], -np.inf))


@functools.cache  # curves ask for few pairs many times, and each takes 10 ms
def count_interval(count: int, seeds: int) -> tuple[float, float]:
    """Return Clopper and Pearson's exact 95 % interval of a share that `count` of `seeds` showed.

    It is NaN, NaN without a seed.
    """
    from scipy import stats  # takes half a second to load

    if seeds < 1:
        return float("nan"), float("nan")
    found = stats.binomtest(count, seeds).proportion_ci(LEVEL, "exact")
    return float(found.low), float(found.high)


def median_interval(times: Real[np.ndarray, " r"]) -> tuple[float, float]:
    """Return the exact 95 % interval of the median over seeds of times [r]; NaN = open or none.

    Its ends are two order statistics. With fewer than six seeds there is none.

    "Never" (NaN) is later than any number, so an upper end that falls on it is open. All runs of a study are censored
    at the same last step; there the order statistics are the quantiles of Kaplan and Meier's curve.
    """
    ordered = np.sort(np.where(np.isnan(times), np.inf, np.asarray(times, float)))
    if len(ordered) < LEAST_MEDIAN:
        return float("nan"), float("nan")
    rank = _rank(len(ordered))
    ends = ordered[rank], ordered[-1 - rank]
    low, high = (float(end) if np.isfinite(end) else float("nan") for end in ends)
    return low, high


def _rank(seeds: int) -> int:
    """Return the largest k whose order statistics k and n - 1 - k hold the median with 95 %.

    n is the number of seeds; order statistics are counted from 0.
    """
    from scipy import stats

    tails = stats.binom.cdf(np.arange(seeds), seeds, 0.5)  # P(fewer than k + 1 values lie below the median)
    return int(np.flatnonzero(tails <= (1 - LEVEL) / 2)[-1])


def _quantile(seeds: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, seeds - 1))


def _none(shape: tuple[int, ...]) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    return np.full(shape, np.nan), np.full(shape, np.nan)
