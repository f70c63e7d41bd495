"""The data-generating process against golden images, SciPy, a NumPy oracle and its stated ranges."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cspace_jax import rng
from cspace_jax.config import DataConfig
from cspace_jax.config.schema import CONCEPTS
from cspace_jax.config.setting import Setting
from cspace_jax.data import datasets, rendering
from cspace_jax.data.concepts import ConceptVector, class_ranges, classes, conditioning, mean_conditionings
from cspace_jax.data.renderer import Renderer

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "dgp.npz")
SMALL = DataConfig(image_size=12, images_per_class=40)
THREE = DataConfig(active=("color", "size", "bg_color"), image_size=12, images_per_class=40)

make_dataset = jax.jit(lambda data, setting, key: Renderer(data).split(setting, key), static_argnums=0)
held_out_set = jax.jit(lambda data, setting, key: Renderer(data).test(setting, key), static_argnums=0)
generation_conditionings = jax.jit(
    lambda data, setting, per_class, key: Renderer(data).prompts(setting, per_class, key), static_argnums=(0, 2)
)
sample_concepts = jax.jit(datasets.sample_concepts, static_argnames=("active", "at_mean"))
images = jax.jit(datasets.images, static_argnames="data")
add_noise = jax.jit(rendering.add_noise)
render = jax.jit(rendering.render, static_argnames=("image_size", "blur", "triangles"))
hard_mask = jax.jit(rendering.hard_mask, static_argnames="image_size")


def data_key(seed: int = 0) -> jax.Array:
    return rng.stream(rng.run_key(seed), "data")


def golden_vector() -> ConceptVector:
    fields = {name: jnp.asarray(GOLDEN[name], jnp.int32 if name == "shape" else jnp.float32) for name in CONCEPTS}
    return ConceptVector(**fields)


def drawn(active: tuple[str, ...], n: int = 400, at_mean: bool = False, narrow: bool = False, seps=(0.4, 0.4, 0.2)):
    bits = np.repeat(classes(active).bits, n, axis=0)
    return bits, sample_concepts(
        active, class_ranges(*seps, narrow=narrow), jnp.asarray(bits), data_key(), at_mean=at_mean
    )


def assert_trees_equal(a, b, **tolerance):
    a, b = (
        jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, t)
        for t in (a, b)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


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


def test_split_sizes_are_the_published_ones():
    for active, sizes in ((("color", "size"), (5222, 922)), (("color", "size", "bg_color"), (6963, 1229))):
        shapes = jax.eval_shape(lambda a=active: Renderer(DataConfig(active=a)).split(Setting(), data_key()))
        assert tuple(part.klass.shape[0] for part in shapes) == sizes


def test_split_is_random_disjoint_and_complete():
    train, validation = make_dataset(SMALL, Setting(), data_key())
    sizes = np.concatenate([train.cv.size, validation.cv.size])
    assert (len(train.klass), len(validation.klass)) == (102, 18)
    assert len(np.unique(sizes)) == 120
    np.testing.assert_array_equal(np.bincount(np.concatenate([train.klass, validation.klass])), [40, 40, 40])
    assert (np.bincount(validation.klass, minlength=3) > 0).all()
    assert not (np.diff(train.klass) >= 0).all()


@pytest.mark.parametrize("data", [SMALL, THREE, DataConfig(active=("shape",), images_per_class=40)])
def test_only_training_classes_are_trained_on_and_only_held_out_ones_tested(data):
    found = classes(data.active)
    train, _ = make_dataset(data, Setting(), data_key())
    test = held_out_set(data, Setting(), data_key())
    assert set(np.unique(train.klass)) == set(found.train_ids)
    np.testing.assert_array_equal(test.klass, np.repeat(found.held_out_ids, data.test_images_per_class))


def test_without_held_out_classes_the_test_set_is_empty():
    test = held_out_set(DataConfig(active=("color",), image_size=12), Setting(), data_key())
    assert images(SMALL, test).shape == (0, 12, 12, 3)


def test_generation_conditionings_are_random_for_trained_and_exact_for_held_out_classes():
    conditionings = generation_conditionings(THREE, Setting(), 6, data_key())
    assert conditionings.shape == (8, 6, 11)
    means = mean_conditionings(THREE.active, class_ranges(0.2, 0.4, 0.2))
    for k in range(8):
        is_exact = np.array_equal(conditionings[k], np.broadcast_to(means[k], (6, 11)))
        assert is_exact == (k in classes(THREE.active).held_out_ids)
        assert abs(conditionings[k] - means[k]).max() <= 0.15 + 1e-6
    assert not conditionings[:, :, :4].any()


def test_training_data_and_generation_conditionings_are_drawn_apart():
    train, validation = make_dataset(SMALL, Setting(), data_key())
    pool = np.concatenate([train.cv.size, validation.cv.size])
    assert not np.isin(generation_conditionings(SMALL, Setting(), 40, data_key())[:3, :, 7], pool).any()
    assert not np.isin(held_out_set(SMALL, Setting(), data_key()).cv.x, train.cv.x).any()


def test_an_image_is_the_same_each_time_and_in_every_batch():
    train, _ = make_dataset(SMALL, Setting(), data_key())
    first = images(SMALL, train.take(jnp.array([3, 7, 11])))
    again = images(SMALL, train.take(jnp.array([50, 11, 3, 0])))
    np.testing.assert_array_equal(first[jnp.array([2, 0])], again[1:3])


def test_noise_has_its_standard_deviation_and_is_clipped():
    keys = jax.random.split(data_key(), 8)
    noise = add_noise(jnp.full((8, 16, 16, 3), 0.5), keys) - 0.5
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 1e-3], atol=3e-5)
    assert not np.array_equal(noise[0], noise[1])
    clipped = add_noise(jnp.ones((8, 16, 16, 3)), keys, scale=0.1)
    assert clipped.max() == 1.0 and (clipped == 1).mean() == pytest.approx(0.5, abs=0.02)


def test_a_run_of_a_grid_has_the_data_of_the_run_alone():
    seps = jnp.array([0.2, 0.8, 0.2])
    grid = Setting(seed=jnp.array([0, 0, 100], jnp.uint32), sep_col=seps, sep_size=jnp.full(3, 0.4))

    def pipeline(setting: Setting):
        key = data_key(setting.seed)
        train, validation = make_dataset(SMALL, setting, key)
        test = held_out_set(SMALL, setting, key)
        return train, validation, images(SMALL, test), generation_conditionings(SMALL, setting, 4, key)

    grid = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (3,)), grid)
    together = jax.jit(jax.vmap(pipeline))(grid)
    for run in range(3):
        alone = jax.jit(pipeline)(jax.tree.map(lambda leaf, r=run: leaf[r], grid))
        assert_trees_equal(jax.tree.map(lambda leaf, r=run: leaf[r], together), alone, atol=1e-6)


def test_seeds_differ_and_signal_levels_share_their_draws():
    first, _ = make_dataset(SMALL, Setting(sep_col=0.2), data_key(0))
    other_seed, _ = make_dataset(SMALL, Setting(sep_col=0.2), data_key(100))
    other_signal, _ = make_dataset(SMALL, Setting(sep_col=0.8), data_key(0))
    assert not np.isin(first.cv.x, other_seed.cv.x).any()
    np.testing.assert_array_equal(first.cv.x, other_signal.cv.x)
    assert not np.array_equal(first.cv.color, other_signal.cv.color)
