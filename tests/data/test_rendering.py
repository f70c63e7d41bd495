"""Rendering against golden images, SciPy and a NumPy oracle."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import data_key
from scipy import ndimage

from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data import rendering
from cspace_jax.data.concepts import ConceptVector, conditioning

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "dgp.npz")
add_noise = jax.jit(rendering.add_noise)
render = jax.jit(rendering.render, static_argnames=("image_size", "blur", "triangles"))
hard_mask = jax.jit(rendering.hard_mask, static_argnames="image_size")


def golden_vector() -> ConceptVector:
    fields = {name: jnp.asarray(GOLDEN[name], jnp.int32 if name == "shape" else jnp.float32) for name in CONCEPTS}
    return ConceptVector(**fields)


def test_images_equal_the_reference():
    np.testing.assert_allclose(render(golden_vector(), 32, 1.0), GOLDEN["image_HWC"], atol=1e-6)


def test_conditionings_equal_the_reference():
    np.testing.assert_array_equal(conditioning(CONCEPTS, golden_vector()), GOLDEN["conditioning"])


def oracle_mask(shape: int, x: float, y: float, r: float, size: int) -> np.ndarray:
    """Test every pixel by the geometry in words: inside the circle, or inside the polygon with these three corners."""
    axis = np.linspace(-1, 1, size)
    px, py = np.meshgrid(axis, axis, indexing="ij")
    if shape == 0:
        return np.hypot(px - x, py - y) < r
    side = np.sqrt(4 * np.pi / np.sqrt(3)) * r
    low = y - side * np.sqrt(3) / 6
    corners = [(x - side / 2, low), (x + side / 2, low), (x, low + side)]  # base and height L, counter-clockwise
    inside = np.ones_like(px, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= (bx - ax) * (py - ay) - (by - ay) * (px - ax) > 0
    return inside


@pytest.mark.parametrize("size", [8, 16, 33])
def test_masks_equal_the_oracle(size):
    cv = golden_vector()
    expected = [oracle_mask(*vector, size) for vector in zip(cv.shape, cv.x, cv.y, cv.size, strict=True)]
    np.testing.assert_array_equal(hard_mask(cv, size), np.stack(expected))


def test_triangle_area_is_half_its_side_squared():
    one = jax.tree.map(lambda leaf: leaf[:1], golden_vector())
    cv = one.replace(shape=jnp.array([1]), x=jnp.zeros(1), y=jnp.zeros(1), size=jnp.array([0.4]))
    area = float(hard_mask(cv, 801).mean() * 4)
    assert area == pytest.approx(2 * np.pi / np.sqrt(3) * 0.4**2, rel=0.01)


def test_circles_only_rendering_skips_triangles():
    cv = golden_vector()
    circles = render(cv.replace(shape=jnp.zeros_like(cv.shape)), 16, 1.0)
    np.testing.assert_array_equal(render(cv, 16, 1.0, triangles=False), circles)


def test_first_image_axis_is_x():
    cv = jax.tree.map(lambda leaf: leaf[0], golden_vector()).replace(x=0.5, y=-0.5, size=0.2, shape=0)
    mask = np.asarray(hard_mask(jax.tree.map(jnp.asarray, cv), 32))
    rows, columns = np.nonzero(mask)
    assert rows.mean() > 20 and columns.mean() < 11


@pytest.mark.parametrize(("size", "sigma"), [(32, 1.0), (16, 0.5), (16, 1.0), (8, 2.0), (5, 1.7)])
def test_blur_equals_scipy(size, sigma):
    mask = np.random.default_rng(0).integers(0, 2, (3, size, size)).astype(np.float32)
    expected = np.stack([ndimage.gaussian_filter(one, sigma) for one in mask])
    np.testing.assert_allclose(rendering.blur_mask(jnp.asarray(mask), sigma), expected, atol=1e-6)


def test_blur_of_zero_and_of_a_constant_change_nothing():
    mask = jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, 8)), jnp.float32)
    np.testing.assert_array_equal(rendering.blur_mask(mask, 0.0), mask)
    np.testing.assert_array_equal(rendering.blur_matrix(8, 0.0), np.eye(8))
    np.testing.assert_allclose(rendering.blur_mask(jnp.ones((8, 8)), 1.0), 1.0, atol=1e-6)


def test_leading_axes_of_render_are_free():
    cv = golden_vector()
    grid = jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), cv)
    together, flat = render(grid, 16, 1.0), render(cv, 16, 1.0)
    np.testing.assert_allclose(together.reshape(flat.shape), flat, atol=1e-6)


def test_noise_has_its_standard_deviation_and_is_clipped():
    keys = jax.random.split(data_key(), 8)
    noise = add_noise(jnp.full((8, 16, 16, 3), 0.5), keys) - 0.5
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1e-3], atol=3e-5)
    assert not np.array_equal(noise[0], noise[1])
    clipped = add_noise(jnp.ones((8, 16, 16, 3)), keys, scale=0.1)
    assert clipped.max() == 1.0 and (clipped == 1).mean() == pytest.approx(0.5, abs=0.02)
