"""The schema: frozen, hashable, with the published numbers of images."""

import dataclasses

import pytest

from configs import changed
from cspace_jax.config import schema


def test_config_is_frozen_and_hashable():
    first, second = changed(), changed()
    assert hash(first) == hash(second) and first == second
    assert first != changed(optim__steps=900)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.optim.steps = 3


def test_image_counts_are_the_published_ones():
    two, three = changed().data, changed(data__active=("color", "size", "bg_color")).data
    assert (two.pool_images, two.train_images) == (6144, 5222)
    assert (three.pool_images, three.train_images) == (8192, 6963)


def test_trained_classes_have_at_most_one_bit_set_unless_others_are_named():
    assert schema.trained_of(2) == ["00", "01", "10"] and schema.trained_of(3) == ["000", "001", "010", "100"]
    assert schema.trained_of(2, ("00", "10")) == ["01", "11"]
