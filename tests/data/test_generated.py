"""Training, validation and test sets that are drawn for a run, and its prompts: sizes, classes, randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import data_key

from cspace_jax.config import DataConfig
from cspace_jax.config.setting import Setting
from cspace_jax.data import datasets
from cspace_jax.data.concepts import class_ranges, classes, mean_conditionings
from cspace_jax.data.renderer import Renderer

SMALL = DataConfig(image_size=12, images_per_class=40)
THREE = DataConfig(active=("color", "size", "bg_color"), image_size=12, images_per_class=40)

make_dataset = jax.jit(lambda data, setting, key: Renderer(data).split(setting, key), static_argnums=0)
held_out_set = jax.jit(lambda data, setting, key: Renderer(data).test(setting, key), static_argnums=0)
generation_conditionings = jax.jit(
    lambda data, setting, per_class, key: Renderer(data).prompts(setting, per_class, key), static_argnums=(0, 2)
)
images = jax.jit(datasets.images, static_argnames="data")


def assert_trees_equal(a, b, **tolerance):
    a, b = (
        jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, t)
        for t in (a, b)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


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
