"""Classes: their bits, words and order, and which are trained on."""

import itertools

import numpy as np
import pytest

from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data.classes import Classes, check_concepts, check_held_out
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


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (("111",), "'111': must be one of 00, 01, 10, 11 .bits of color, size"),
        (("11", "11"), "holds a class twice"),
        (("00", "01", "10", "11"), "leaves fewer than 2 classes"),
        (("10", "11"), "leaves one value of color only"),
        (("01", "11"), "leaves one value of size only"),
    ],
)
def test_held_out_classes_must_leave_both_values_of_every_concept(held_out, words):
    check_held_out(classes(("color", "size"), ("00", "11")))
    with pytest.raises(UserError, match=f"data.held_out = .*{words}"):
        check_held_out(classes(("color", "size"), held_out))


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        ({"a": ("x", "y")}, "2 to 6 concepts, not 1"),
        ({"a": ("x", "y"), "b": ("x ", "x")}, "'b' must have two different words"),
        ({"a": ("x", ""), "b": ("x", "y")}, "'a' must have two different words"),
        ({"a": "xy", "b": ("x", "y")}, "'a' must have two different words"),
    ],
)
def test_concepts_of_a_generator_have_two_words_each(concepts, words):
    with pytest.raises(UserError, match=f"data.source = 'f.py:G': .*{words}"):
        check_concepts(Classes(tuple(concepts), tuple(concepts.values())), "f.py:G")
