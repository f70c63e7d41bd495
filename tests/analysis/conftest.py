"""A study of known truth in which one run diverged, and its summary."""

import pytest
import synthetic

from cspace_jax.analysis.summary import summarise


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(diverged=(4,))


@pytest.fixture(scope="module")
def summary(ds):
    return summarise(ds, wall_times={"train": 12.5})
