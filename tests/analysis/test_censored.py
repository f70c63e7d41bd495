"""Times that may be never: their median, their survival curve and the log-rank test."""

import math

import numpy as np
import pytest

from cspace_jax.analysis import censored

NAN = np.nan


def test_the_median_orders_never_last():
    assert censored.median(np.array([100, NAN, 200, 300, NAN])) == 300
    assert np.isnan(censored.median(np.array([100, NAN, NAN])))
    assert np.isnan(censored.median(np.array([100, NAN])))
    assert np.isnan(censored.median(np.array([])))
    assert censored.median(np.array([1.0, 2, 3, 4])) == 2.5
    assert censored.median(np.array([5.0, 5, 5, NAN])) == 5


def test_survival_is_the_product_over_events():
    """By hand: 5 runs, events at 10 (one) and 20 (two), two censored at 50."""
    events, shares = censored.survival(np.array([20.0, 10, NAN, 20, NAN]), 50)
    assert events.tolist() == [10, 20]
    assert shares == pytest.approx([4 / 5, 4 / 5 * 2 / 4])
    assert censored.median(np.array([20.0, 10, NAN, 20, NAN]), 50) == 20


def test_log_rank_tells_clear_differences_and_has_nothing_to_say_of_few():
    early, late = np.array([100.0, 120, 130, 150, 160]), np.array([300.0, 350, NAN, NAN, NAN])
    assert censored.log_rank(early, late, 400) < 0.01
    assert censored.log_rank(early, early, 400) == pytest.approx(1.0)
    assert math.isnan(censored.log_rank(early[:2], late, 400))
    assert math.isnan(censored.log_rank(np.full(4, NAN), np.full(4, NAN), 400))
