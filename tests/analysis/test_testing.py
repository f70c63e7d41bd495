"""Tests over seeds and censored times: closed forms, SciPy as oracle, false alarms by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from cspace_jax.analysis import testing

NAN = np.nan


def test_sign_flips_against_scipy():
    values = np.random.default_rng(3).normal(0.4, 1.0, 9)
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    found = testing.sign_flip(values)
    assert found.two_sided == pytest.approx(expected) and found.value == pytest.approx(values.mean())
    assert testing.sign_flip(np.arange(1.0, 7))[:5] == pytest.approx((3.5, 1 / 2**6, 1.0, 1 / 2**6, 1 / 2**6))
    for nothing in (np.zeros(5), np.array([])):
        assert testing.sign_flip(nothing) is testing.UNTOLD
    many = testing.sign_flip(np.full(30, 1.0))
    assert many.greater == pytest.approx(1 / testing.EXACT)  # never 0, however clear


def test_times_are_compared_by_their_order_alone():
    one, other = np.array([100, NAN, 300, 50, NAN]), np.array([200, 100, 300, NAN, NAN])
    assert testing.sign_of_times(one, other).tolist() == [1, -1, 0, 1, 0]
    assert testing.sign_test(one, other) == pytest.approx(stats.binomtest(2, 3).pvalue)
    assert math.isnan(testing.sign_test(np.full(4, NAN), np.full(4, NAN)))


def test_holm_by_hand():
    assert testing.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert testing.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = testing.holm([NAN, 0.02])
    assert math.isnan(corrected[0]) and corrected[1] == 0.02


def test_the_trend_of_ordered_blocks_is_exact():
    """Four seeds, three levels, all in order: 2 of 6^4 arrangements are as clear."""
    assert testing.trend([np.array([3.0, 2, 1])] * 4)[:5] == pytest.approx((-1.0, 1.0, *[1 / 6**4] * 3))
    found = testing.trend([np.array([NAN, 2.0, 1]), np.array([NAN, NAN, NAN]), np.array([5.0])])
    assert found[:5] == pytest.approx((-1.0, 1.0, *[1 / 6] * 3))  # "never" is the largest; two blocks tell nothing
    assert found.told == ((0, pytest.approx(-1.0)),)
    assert found.two_sided == pytest.approx(2 / 6)
    assert testing.trend([np.full(3, NAN)]) is testing.UNTOLD


def test_levels_that_are_equal_have_equal_ranks():
    """Two levels of one signal and a stronger one: in one of three arrangements the largest number stands there."""
    numbers = [np.array([1.0, 2, 3])] * 2
    tied = testing.trend(numbers, [np.array([0.5, 0.5, 2.0])] * 2)
    assert tied.value == pytest.approx(stats.spearmanr([1, 2, 3], [1, 1, 2]).statistic)
    assert tied.greater == pytest.approx(1 / 3**2) and len(tied.told) == 2
    assert tied[:5] == pytest.approx(testing.trend([np.array([2.0, 1, 3])] * 2, [np.array([0.5, 0.5, 2.0])] * 2)[:5])
    assert testing.trend(numbers, [np.full(3, 0.5)] * 2) is testing.UNTOLD


def test_ties_make_the_smallest_p_value_larger():
    """Two seeds, three levels, two of them "never" in each: 3 of 6 orders differ, so 1/9 is the least."""
    found = testing.trend([np.array([NAN, NAN, 2.0]), np.array([NAN, NAN, 1.0])])
    assert found.less == found.least_less == pytest.approx(1 / 9) and found.least_greater == pytest.approx(1 / 9)
    assert testing.sign_flip(np.array([1.0, 2.0, 0.0])).least_greater == pytest.approx(1 / 4)  # a zero tells nothing


def test_agreement_with_what_is_expected_by_counting():
    """One seed, three levels, all as expected: only 2 of the 6 arrangements of two equal ones and another are."""
    found = testing.agreement([(np.array([1, 1, 2]), np.array([1, 1, 2]))])
    assert found[:5] == pytest.approx((1.0, 2 / 6, 1.0, 2 / 6, 4 / 6))  # one match at least, in four of the six
    expected = (0, 1, *[1 / 2**5] * 3)
    wrong, nothing = (np.array([2, 1]), np.array([1, 2])), (np.array([2, 1]), np.array([1, 1]))
    five = testing.agreement([nothing, *[wrong] * 5])
    assert five[:5] == pytest.approx(expected) and [place for place, _ in five.told] == [1, 2, 3, 4, 5]
    assert testing.agreement([nothing]) is testing.UNTOLD


def test_the_blocks_of_a_seed_are_rearranged_together():
    """Two seeds with three blocks each: arrangements multiply over seeds alone."""
    block, where = np.array([1.0, 2, 3]), [(seed, "xyz") for seed in (5, 7) for _ in range(3)]
    found = testing.trend([block] * 6, where=where)
    assert found[:5] == pytest.approx((1.0, 1 / 6**2, 1.0, 1 / 6**2, 1 / 6**2))
    assert found.told == ((5, pytest.approx(1.0)), (7, pytest.approx(1.0)))
    matched = testing.agreement([(block, block)] * 6, where)
    assert matched.greater == pytest.approx(1 / 6**2) and matched.value == 1 and len(matched.told) == 2


def test_every_seed_counts_once_whatever_its_blocks():
    up, down = np.array([1.0, 2, 3]), np.array([3.0, 2, 1])
    found = testing.trend([up, up, up, down], where=[(0, "xyz"), (0, "xyz"), (0, "xyz"), (1, "xyz")])
    assert found.value == pytest.approx(0.0)
    assert found.greater == pytest.approx(testing.trend([up, down]).greater)
    shares = testing.agreement([(up, up), (up, up), (up, down)], [(0, "xyz"), (0, "xyz"), (1, "xyz")])
    assert shares.value == pytest.approx((1 + 1 / 3) / 2)


def test_only_places_of_the_same_blocks_are_exchanged():
    """Places 0 and 2 are in both blocks, 1 and 3 in one alone: 2 * 2 arrangements, of which one is as clear."""
    both = testing.trend([np.array([1.0, 2, 3, 4]), np.array([1.0, 2])], where=[(0, (0, 1, 2, 3)), (0, (0, 2))])
    assert both.value == pytest.approx(1.0) and both.greater == pytest.approx(1 / 4)
    one_each = testing.trend([np.array([1.0, 2]), np.array([1.0, 2])], where=[(0, (0, 1)), (0, (1, 2))])
    assert one_each is testing.UNTOLD
    # An exchange of places moves the same places of every block, in whatever order they stand.
    mirrored = testing.trend([np.array([1.0, 2]), np.array([2.0, 1])], where=[(0, (0, 1)), (0, (1, 0))])
    assert mirrored[:2] == pytest.approx((0.0, 1.0))


def test_drawn_values_count_by_their_seeds():
    """A seed with two values and one with a single one: each seed's mean counts once."""
    chances = [np.array([0.0, 1.0])] * 3
    found = testing.drawn([1.0, 1.0, 0.0], chances, [4, 4, 9])
    assert found.value == pytest.approx(0.5) and found.told == ((4, pytest.approx(1.0)), (9, 0.0))
    assert testing.drawn([1.0, 1.0, 0.0], chances).value == pytest.approx(2 / 3)


def test_exchanging_pairs_by_hand():
    one, other = np.array([5.0, 6, 7]), np.array([1.0, 2, 3])
    found = testing.swapped(one, other, lambda a, b: float(a.mean() - b.mean()))
    assert found[:5] == pytest.approx((4.0, *[1 / 8, 1.0], *[1 / 8] * 2))
    assert testing.swapped(one, other, lambda a, b: NAN) is testing.UNTOLD


@pytest.mark.parametrize("seeds", [5, 8])
def test_false_alarms_are_at_most_what_is_said(seeds):
    rng = np.random.default_rng(0)
    trends = [testing.trend(rng.exponential(1.0, (seeds, 3))).greater <= 0.05 for _ in range(300)]
    flips = [testing.sign_flip(rng.normal(0, 1, seeds)).two_sided <= 0.05 for _ in range(300)]
    for found in (trends, flips):
        assert np.mean(found) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 300)


def test_nothing_to_tell_from_has_no_two_sided_p_value():
    assert math.isnan(testing.sign_flip(np.zeros(6)).two_sided)
    assert testing.sign_flip(np.array([1.0, -1.0, 1.0, -1.0])).two_sided == 1
