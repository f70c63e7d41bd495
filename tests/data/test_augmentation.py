"""Augmentation against oracles in NumPy and colorsys, and what it must never do."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.data import augmentation

NONE = (0.0, 0.0, 0.0, 0.0)
ALL = (0.3, 0.3, 0.3, 0.2)
augment = jax.jit(augmentation.augment, static_argnums=(2, 3))


def picture(seed=0):
    image = np.random.default_rng(seed).random((6, 5, 3)).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = 0.4, (1, 0, 0), (0.2, 0.7, 0.7)  # grey, pure, two equal channels
    return jnp.asarray(image)


def greys(image):
    return np.asarray(image) @ np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize("by", [-0.3, 0.0, 0.25])
def test_each_change_equals_its_oracle(by):
    image = picture()
    pixels = np.asarray(image).reshape(-1, 3)
    center = {"contrast": greys(image).mean(), "saturation": greys(image)[..., None]}
    np.testing.assert_allclose(augmentation.brightness(image, by), np.clip(image * (1 + by), 0, 1), atol=1e-6)
    for name, middle in center.items():
        oracle = np.clip((1 + by) * image - by * middle, 0, 1)
        np.testing.assert_allclose(getattr(augmentation, name)(image, by), oracle, atol=1e-5)
    hsv = [colorsys.rgb_to_hsv(*map(float, pixel)) for pixel in pixels]
    turned = np.array([colorsys.hsv_to_rgb((h + by) % 1.0, s, v) for h, s, v in hsv]).reshape(image.shape)
    np.testing.assert_allclose(augmentation.hue(image, by), turned, atol=1e-5)


def test_all_together_come_in_the_documented_order_with_factors_in_range():
    image, key = picture(), jax.random.key(3)
    keys = jax.random.split(key, 5)[1:]
    by = [float(a * jax.random.uniform(k, minval=-1, maxval=1)) for a, k in zip(ALL, keys, strict=True)]
    assert all(abs(one) <= most for one, most in zip(by, ALL, strict=True))
    expected = jnp.asarray(image)
    for name, one in zip(("brightness", "contrast", "saturation", "hue"), by, strict=True):
        expected = getattr(augmentation, name)(expected, one)
    np.testing.assert_allclose(augment(image, key, ALL, False), expected, atol=1e-5)


def test_nothing_is_changed_without_jitter_and_half_are_mirrored_along_x():
    image = picture()
    keys = jax.random.split(jax.random.key(0), 400)
    np.testing.assert_array_equal(augment(image, keys[0], NONE, False), image)
    flipped = np.asarray(jax.vmap(lambda k: augment(image, k, NONE, True))(keys))
    mirrored = (flipped == image[::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == image).all((1, 2, 3))).all() and 150 < mirrored.sum() < 250


def test_other_keys_give_other_variants_in_range():
    variants = jax.vmap(lambda k: augment(picture(), k, ALL, True))(jax.random.split(jax.random.key(1), 32))
    assert len(np.unique(np.asarray(variants).reshape(32, -1), axis=0)) == 32
    assert variants.min() >= 0 and variants.max() <= 1
