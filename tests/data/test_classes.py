"""Classes: their bits, words and order, and which are trained on."""

import itertools

import numpy as np
import pytest

from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data.concepts import classes
from cspace_jax.errors import UserError

SUBSETS = [c for size in range(1, 7) for c in itertools.combinations(CONCEPTS, size)]


def test_two_concept_classes_have_color_before_size():
    found = classes(("color", "size"))
    assert found.names == ("00", "01", "10", "11")
    assert [found.describe(k) for k in range(4)] == ["red large", "red small", "blue large", "blue small"]
    assert found.train_ids == (0, 1, 2)
    assert found.held_out_ids == (3,)


def test_three_concept_classes_hold_out_every_pair_of_set_bits():
    found = classes(("color", "size", "bg_color"))
    assert found.train_ids == (0, 1, 2, 4)
    assert [found.names[k] for k in found.held_out_ids] == ["011", "101", "110", "111"]
    assert found.describe(5) == "blue large dark"


@pytest.mark.parametrize("active", SUBSETS)
def test_class_index_is_row_major_for_every_subset(active):
    found = classes(active)
    np.testing.assert_array_equal(found.bits @ (2 ** np.arange(len(active))[::-1]), np.arange(found.num))
    assert len(found.train_ids) == len(active) + 1
    assert sorted(found.train_ids + found.held_out_ids) == list(range(found.num))


@pytest.mark.parametrize("active", [(), ("size", "color"), ("color", "hue"), ("color", "color")])
def test_bad_active_concepts_are_a_user_error(active):
    with pytest.raises(UserError, match="data.active"):
        classes(active)
