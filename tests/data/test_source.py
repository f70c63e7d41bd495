"""Where concepts stand in a conditioning vector, and images that are taken of a set."""

import jax.numpy as jnp
import numpy as np

from cspace_jax.data.source import Items, Layout, repeat


def test_concepts_are_laid_out_one_after_another():
    layout = Layout.of({"tone": 3, "size": 1, "shape": 2})
    assert layout.entries == (("tone", 0, 3), ("size", 3, 4), ("shape", 4, 6)) and layout.dim == 6
    vector = np.arange(6)
    assert {name: vector[at].tolist() for name, at in layout.slices.items()} == {
        "tone": [0, 1, 2], "size": [3], "shape": [4, 5]
    }  # fmt: skip


def test_images_are_taken_with_all_that_is_known_of_them():
    items = Items(klass=jnp.array([0, 1, 3]), masked=jnp.array([True, False, False]))
    some = items.take(jnp.array([2, 0, 2]))
    assert some.klass.tolist() == [3, 0, 3] and some.masked.tolist() == [False, True, False]
    assert Items(klass=jnp.array([0, 1])).take(jnp.array([1])).masked is None


def test_classes_are_repeated_one_by_one():
    assert np.asarray(repeat((0, 2), 3)).tolist() == [0, 0, 0, 2, 2, 2]
