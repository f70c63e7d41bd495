"""Whether stronger signals are learned sooner: over all levels, and where the other settings are equal."""

import numpy as np
import pytest
import synthetic

from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.ordering import level_groups, order_check, order_within


def test_order_check_puts_never_last():
    signal = np.array([3.0, 1.0, 2.0])
    assert order_check(signal, np.array([10.0, np.nan, 20]))["ordered"]
    assert not order_check(signal, np.array([np.nan, 10.0, 20]))["ordered"]
    for alike in (5.0, np.nan):
        assert order_check(signal, np.full(3, alike))["ordered"] is None
    assert order_check(signal[:1], np.array([1.0]))["ordered"] is None
    assert order_check(np.full(3, 0.1) * 3 / 3, np.array([1.0, 2, 3]))["ordered"] is None


def test_levels_of_equal_signal_have_no_order():
    """Whatever the order of the table, of two equally strong levels none has to be the faster one."""
    signal = np.array([1.0, 2.0, 2.0 + 1e-15, 3.0])
    for medians in ([40.0, 20, 30, 10], [40.0, 30, 20, 10]):
        check = order_check(signal, np.array(medians))
        assert check["ordered"] is True and check["spearman"] == pytest.approx(-4.5 / np.sqrt(4.5 * 5))
    assert order_check(signal, np.array([25.0, 20, 30, 10]))["ordered"] is False


def test_levels_of_a_concept_without_a_known_axis_differ_in_signals_alone():
    ds = synthetic.dataset(levels=(0.1, 0.2, 0.3, 0.4), seeds=(0,))
    ds = ds.assign_coords(learning_rate=("run", [1e-3, 1e-3, 2e-3, 2e-3]))
    assert level_groups(levels(ds), "tone") == level_groups(levels(ds), "size") == [[0, 1], [2, 3]]


def test_order_is_asked_where_the_other_settings_are_equal():
    """Size's signal raises colour's a little and delays colour: the order is broken over all, not in rows."""
    signal = np.array([0.1, 0.2, 0.11, 0.21])  # colour x size, size varies slowest
    medians = np.array([40.0, 10.0, 60.0, 20.0])
    assert order_check(signal, medians)["ordered"] is False
    within = order_within(signal, medians, [[0, 1], [2, 3]])
    assert within["ordered"] is True and within["spearman"] == pytest.approx(-1)
    assert (within["groups"], within["ordered_groups"], within["levels"]) == (2, 2, 4)
    broken = order_within(signal, np.array([40.0, 10.0, np.nan, np.nan]), [[0, 1], [2, 3]])
    assert broken["ordered"] is True and broken["groups"] == 1  # never twice is no order
    assert order_within(signal, medians, [[0], [1], [2], [3]])["ordered"] is None


def test_levels_are_grouped_by_the_other_settings():
    axes = [(0.2, 0.1), (0.2, 0.3), (0.6, 0.1), (0.6, 0.3)]
    ds = synthetic.dataset(levels=(0.1, 0.2, 0.3, 0.4), seeds=(0,))
    names = ("sep_col", "sep_size")
    ds = ds.assign_coords({name: ("run", np.array([one[i] for one in axes])) for i, name in enumerate(names)})
    found = levels(ds)
    assert level_groups(found, "color") == [[0, 2], [1, 3]] and level_groups(found, "size") == [[0, 1], [2, 3]]
    assert level_groups(found, "shape") == [[0, 1, 2, 3]]
