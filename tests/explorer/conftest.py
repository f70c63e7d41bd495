"""A study of known truth in which one run diverged, and one with a battery of protocols."""

import pytest
import synthetic


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), diverged=(1,))


@pytest.fixture(scope="module")
def elicited():
    return synthetic.elicited()[0]
