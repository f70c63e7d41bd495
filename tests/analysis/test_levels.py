"""Levels of signal: which numbers differ by rounding alone, and labels that tell levels apart."""

import dataclasses

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis import claims_of_learning
from cspace_jax.analysis.levels import levels, normalise, signal_varies, swept_concept, told_apart

NAN = np.nan


def test_what_differs_by_the_rounding_of_float32_is_equal():
    signal = np.array([0.1, 0.3, 0.5, 0.5], np.float32)
    signal[3] = np.nextafter(signal[3], np.float32(1))
    assert signal[2] != signal[3]
    found = told_apart(signal)
    assert found[2] == found[3] and len(set(found.tolist())) == 3
    assert found == pytest.approx(np.array([0.2, 0.6, 1.0, 1.0]))
    edge = told_apart(np.array([1.0, 0.4999995 - 1e-9, 0.4999995 + 1e-9]))  # on both sides of where six digits round
    assert edge[1] == edge[2]
    assert len(set(told_apart(np.array([1.0, 1.0 + 1e-5])).tolist())) == 2


def test_logarithms_of_ratios_are_told_apart_absolutely():
    noise = np.array([-1e-8, 3e-8, 2e-7])
    assert told_apart(noise, scale=1.0).tolist() == [0.0, 0.0, 0.0]
    assert len(set(told_apart(noise).tolist())) == 3  # on their own scale they are different numbers
    assert told_apart(np.array([-1e-3, 0.5, 2.0]), scale=1.0) == pytest.approx(np.array([-1e-3, 0.5, 2.0]))


def test_unknown_and_missing_signals_stay_so():
    found = told_apart(np.array([[NAN, 1.0], [NAN, 2.0]]))
    assert np.isnan(found[:, 0]).all() and found[:, 1].tolist() == [0.5, 1.0]
    assert told_apart(np.array([])).size == 0 and told_apart(np.zeros(2)).tolist() == [0.0, 0.0]


def test_levels_that_three_digits_do_not_tell_apart_have_labels_of_their_own():
    close = synthetic.dataset(levels=(0.2001, 0.2002, 0.8), seeds=(0, 100))
    close["signal"].values[:2] = 0.01  # below that of size, the others above
    assert [one.label for one in levels(close)] == ["sep_col=0.2001", "sep_col=0.2002", "sep_col=0.8"]
    assert len(claims_of_learning.memorised_as(close).details) == 3
    usual = synthetic.dataset(levels=(0.12345, 0.8), seeds=(0,))
    assert [one.label for one in levels(usual)] == ["sep_col=0.123", "sep_col=0.8"]
    assert [one.label for one in levels(usual.isel(run=[0]))] == ["the one setting"]


def test_levels_group_runs_and_leave_diverged_ones_out(ds):
    found = levels(ds)
    assert [level.label for level in found] == ["sep_col=0.1", "sep_col=0.2", "sep_col=0.4", "sep_col=0.8"]
    assert found[1].runs == (3, 5) and found[1].diverged == (4,)
    np.testing.assert_allclose(np.linalg.norm([level.normalised for level in found], axis=1), 1)
    assert swept_concept(found) == 0


def test_a_grid_over_two_settings_has_a_level_for_each_pair():
    one = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 1))
    two = one.assign_coords(sep_size=("run", [0.2, 0.2, 0.4, 0.4]))
    assert [level.label for level in levels(two)] == ["sep_col=0.2, sep_size=0.2", "sep_col=0.8, sep_size=0.4"]


def test_the_swept_concept_is_one_whose_signal_is_known(ds):
    found = levels(ds)
    unknown = [dataclasses.replace(level, signal=(np.nan, 0.1 * i)) for i, level in enumerate(found)]
    assert swept_concept(unknown) == 1 and signal_varies(unknown, 1) and not signal_varies(unknown, 0)
    assert swept_concept([dataclasses.replace(level, signal=(np.nan, np.nan)) for level in found]) == 0


def test_normalized_signal_has_unit_length_and_zero_stays_zero():
    normalized = normalise(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(normalized, [[0.6, 0.8], [0.0, 0.0]], atol=1e-6)
