"""Measured trajectories and the toy models that are fitted to them."""

import pytest
import synthetic

from cspace_jax.plots import landscapes


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked()


def test_measured_trajectories_are_fitted_by_eq2(ds):
    fig, fits, shared = landscapes.measured(ds)
    assert [level.setting["mask"] for level, _ in fits] == [0.0, 0.25, 0.5, 1.0] and shared is None
    labels = {line.get_label() for line in fig.axes[1].lines}
    assert {"measured", "Eq. 2", "identity mapping"} <= labels


@pytest.fixture(scope="module")
def groups():
    return synthetic.masked_groups()


def test_all_groups_are_fitted(groups):
    _, fits, shared = landscapes.measured(groups)
    expected = [(0.4, 0.0), (0.4, 0.25), (0.4, 0.5), (0.4, 1.0), (0.2, 0.0), (0.2, 0.5)]
    assert [(level.setting["sep_size"], level.setting["mask"]) for level, _ in fits] == expected
    assert shared is None  # no signal varies here
