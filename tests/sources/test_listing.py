"""A listing's own split."""

import numpy as np

from cspace_jax.sources.listing import own_split


def test_the_own_split_never_changes():
    held = own_split([f"{i:06d}.jpg" for i in range(1, 2001)])
    assert np.flatnonzero(held[:40]).tolist() == [7, 10, 11, 19, 23, 28, 35, 36]
    assert 150 < held.sum() < 250
