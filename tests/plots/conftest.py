"""A study of known truth in which one run diverged, samples of it, and a battery of protocols."""

import pytest
import synthetic


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(diverged=(4,))


@pytest.fixture(scope="module")
def samples(ds):
    return synthetic.sample_images(ds)


@pytest.fixture(scope="module")
def elicited():
    return synthetic.elicited()
