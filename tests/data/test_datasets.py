"""Concept vectors of training and test images: their stated ranges and means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import data_key

from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data import datasets
from cspace_jax.data.concepts import class_ranges, classes, conditioning, mean_conditionings

sample_concepts = jax.jit(datasets.sample_concepts, static_argnames=("active", "at_mean"))


def drawn(active: tuple[str, ...], n: int = 400, at_mean: bool = False, narrow: bool = False, seps=(0.4, 0.4, 0.2)):
    bits = np.repeat(classes(active).bits, n, axis=0)
    return bits, sample_concepts(
        active, class_ranges(*seps, narrow=narrow), jnp.asarray(bits), data_key(), at_mean=at_mean
    )


def test_training_colors_and_sizes_fill_their_ranges():
    bits, cv = drawn(("color", "size"))
    ranges = class_ranges(0.4, 0.4, 0.2)
    color_offset = (cv.color - ranges.mean["color"][bits[:, 0]]) / ranges.spread["color"]
    size_offset = (cv.size - ranges.mean["size"][bits[:, 1]]) / ranges.spread["size"]
    for offset in (color_offset, size_offset):
        assert abs(offset).max() <= 1 + 1e-5
        assert abs(offset).max() > 0.98
        np.testing.assert_allclose(offset.std(), 1 / np.sqrt(3), rtol=0.05)
        np.testing.assert_allclose(offset.mean(), 0, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(color_offset.T), np.eye(3), atol=0.1)


def test_nuisances_of_the_two_concept_data():
    _, cv = drawn(("color", "size"))
    assert not cv.shape.any()
    for position in (cv.x, cv.y):
        assert abs(position).max() <= 0.5
        np.testing.assert_allclose(position.std(), 1 / np.sqrt(12), rtol=0.05)
    assert cv.bg_color.min() >= 0.8 - 1e-6 and cv.bg_color.max() <= 1 + 1e-6
    np.testing.assert_allclose(cv.bg_color.std(), 0.2 / np.sqrt(12), rtol=0.05)
    assert abs(np.corrcoef(cv.x, cv.y)[0, 1]) < 0.1


def test_size_range_is_floored_and_stays_uniform_above_the_floor():
    _, cv = drawn(("size",), n=4000, seps=(0.2, 0.6, 0.2))  # small: mean .15, half-width .225
    small = np.asarray(cv.size[4000:])
    assert small.min() >= 0.1
    np.testing.assert_allclose([small.min(), small.max(), small.mean()], [0.1, 0.375, 0.2375], atol=0.005)


def test_narrow_sizes_stay_in_a_third_of_the_range():
    bits, cv = drawn(("color", "size"), narrow=True)
    assert abs(cv.size - class_ranges(0.4, 0.4, 0.2).mean["size"][bits[:, 1]]).max() <= 0.4 / 8 + 1e-6


def test_six_concepts_in_training_and_at_their_means():
    bits, cv = drawn(CONCEPTS, n=40)
    at_mean = drawn(CONCEPTS, n=40, at_mean=True)[1]
    ranges = class_ranges(0.4, 0.4, 0.2)
    np.testing.assert_array_equal(cv.shape, bits[:, 0])
    np.testing.assert_allclose((cv.x - ranges.mean["x"][bits[:, 1]]).std(), 0.05, rtol=0.1)
    np.testing.assert_array_equal(at_mean.y, ranges.mean["y"][bits[:, 2]])
    assert abs(cv.bg_color - ranges.mean["bg_color"][bits[:, 5]]).max() <= 0.2 / 8 + 1e-6
    np.testing.assert_array_equal(conditioning(CONCEPTS, at_mean)[::40], mean_conditionings(CONCEPTS, ranges))


def test_test_samples_sit_at_the_class_means_with_random_positions():
    bits, cv = drawn(("color", "size"), at_mean=True)
    ranges = class_ranges(0.4, 0.4, 0.2)
    np.testing.assert_array_equal(cv.color, ranges.mean["color"][bits[:, 0]])
    np.testing.assert_array_equal(cv.size, ranges.mean["size"][bits[:, 1]])
    np.testing.assert_allclose(cv.bg_color, 0.9, atol=1e-6)
    assert cv.x.std() > 0.2


@pytest.mark.parametrize("at_mean", [False, True])
def test_inactive_color_and_size_are_a_fair_coin_between_the_classes(at_mean):
    _, cv = drawn(("shape",), n=1000, at_mean=at_mean)
    is_red, is_large = np.asarray(cv.color[:, 0] > 0.5), np.asarray(cv.size > 0.45)
    assert abs(is_red.mean() - 0.5) < 0.05 and abs(is_large.mean() - 0.5) < 0.05
    assert abs(np.corrcoef(is_red, is_large)[0, 1]) < 0.1
    assert cv.size.min() >= 0.1 and len(np.unique(cv.size)) > 1000
    assert abs(abs(cv.color[:, 0] - 0.5) - 0.2).max() <= 0.4 / 8 + 1e-6
