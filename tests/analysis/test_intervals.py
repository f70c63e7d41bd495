"""Intervals over seeds: closed forms, what does not exist, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from cspace_jax.analysis import intervals


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(2.0, 3.0, (7, 4))
    low, high = intervals.mean_interval(values)
    for column in range(4):
        one = values[:, column]
        expected = stats.t.interval(0.95, 6, one.mean(), stats.sem(one))
        assert (low[column], high[column]) == pytest.approx(expected)


def test_the_interval_of_a_median_is_the_tightest_exact_one():
    """By counting: P(the median lies between order statistics k and n + 1 - k) is a sum of binomial weights."""
    for seeds in (6, 7, 9, 10, 20):
        low, high = intervals.median_interval(np.arange(1.0, seeds + 1))
        inside = [stats.binom.cdf(seeds - k, seeds, 0.5) - stats.binom.cdf(k - 1, seeds, 0.5) for k in range(1, seeds)]
        k = max(k for k in range(1, seeds // 2 + 1) if inside[k - 1] >= 0.95)
        assert (low, high) == (k, seeds + 1 - k)


def test_never_makes_an_end_open_and_few_seeds_have_no_interval():
    low, high = intervals.median_interval(np.array([100.0, 200, 300, 400, 500, np.nan]))
    assert low == 100 and np.isnan(high)
    assert np.isnan(intervals.median_interval(np.full(9, np.nan))).all()
    assert np.isnan(intervals.median_interval(np.arange(5.0))).all()
    assert np.isnan(intervals.share_interval(np.full((2, 3), 0.5), 16)).all()
    assert np.isnan(intervals.mean_interval(np.full((2, 3), 0.5))).all()
    assert intervals.missing(2, intervals.LEAST_MEAN) == "n = 2: no 95 % interval"
    assert not intervals.missing(6, intervals.LEAST_MEDIAN)


def test_shares_stay_within_0_and_1_and_hold_their_mean():
    values = np.random.default_rng(1).binomial(16, np.linspace(0, 1, 11)[None], (5, 11)) / 16
    low, high = intervals.share_interval(values, 16)
    assert (low >= 0).all() and (high <= 1).all() and (low < high).all()
    mean = np.clip(values.mean(axis=0), 1 / 160, 1 - 1 / 160)  # half of one of 80 samples
    assert ((low <= mean) & (mean <= high)).all()
    mirrored = intervals.share_interval(1 - values, 16)
    np.testing.assert_allclose(mirrored, (1 - high, 1 - low), atol=1e-12)


def test_that_all_seeds_learned_says_as_much_as_their_number():
    """Ten of ten leave room for 31 % that never learn (Clopper and Pearson), three of three for 71 %."""
    for seeds, share in ((10, 0.025 ** (1 / 10)), (3, 0.025 ** (1 / 3))):
        low, _ = intervals.share_interval(np.full(seeds, 0.95), 20)
        assert low == pytest.approx(0.95 * share)
        assert intervals.count_interval(seeds, seeds) == pytest.approx((share, 1.0))
    assert np.isnan(intervals.count_interval(0, 0)).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("kind", ["normal", "skewed", "learned or not"])
def test_shares_are_covered_as_often_as_said(kind, seeds):
    rng = np.random.default_rng(0)
    size = (seeds, 3000)
    learned = rng.random(size) < 0.7
    drawn = {
        "normal": (rng.normal(0.6, 0.1, size), 0.6),
        "skewed": (rng.beta(1.5, 8, size), 1.5 / 9.5),
        "learned or not": (np.where(learned, rng.beta(30, 2, size), rng.beta(2, 10, size)), 0.7 * 30 / 32 + 0.3 / 6),
    }
    values, mean = drawn[kind]
    low, high = intervals.share_interval(rng.binomial(16, np.clip(values, 0, 1)) / 16, 16)
    assert np.mean((low <= mean) & (mean <= high)) >= 0.93


def test_medians_of_censored_times_are_covered_as_often_as_said():
    rng = np.random.default_rng(0)
    times = rng.exponential(1.0, (2000, 7))
    times[times > 1.2] = np.nan
    ends = np.array([intervals.median_interval(one) for one in times])
    covered = (ends[:, 0] <= np.log(2)) & ~(ends[:, 1] < np.log(2))
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize(
    ("seeds", "levels", "slope"), [(3, 3, 0.3), (5, 3, 0.3), (10, 3, 1.0), (10, 4, 0.1), (5, 2, 0.3)]
)
def test_intervals_of_rank_correlations_cover(seeds, levels, slope):
    """Learning times that fall with the level, log-normal over seeds: the mean of 40,000 seeds lies inside."""
    rng, places = np.random.default_rng(0), np.arange(levels) - (levels - 1) / 2

    def correlations(number):
        times = rng.normal(-slope * np.arange(levels), 0.4, (number, levels))
        centred = times.argsort(axis=1).argsort(axis=1) - (levels - 1) / 2
        return centred @ places / (places @ places)

    truth = correlations(40_000).mean()
    found = [intervals.correlation_interval(correlations(seeds), levels) for _ in range(500)]
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.93
    assert all(-1 <= low <= high <= 1 for low, high in found)
    assert np.isnan(intervals.correlation_interval(correlations(2), levels)).all()
