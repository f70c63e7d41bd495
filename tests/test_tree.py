"""Rows of trees of arrays."""

import numpy as np
import pytest

from cspace_jax.tree import take


@pytest.mark.parametrize("index", [1, slice(1, 3), np.array([2, 0]), np.array([True, False, True])])
def test_rows_are_taken_of_every_array(index):
    tree = {"a": np.arange(6).reshape(3, 2), "b": (np.arange(3),)}
    taken = take(tree, index)
    np.testing.assert_array_equal(taken["a"], tree["a"][index])
    np.testing.assert_array_equal(taken["b"][0], tree["b"][0][index])
