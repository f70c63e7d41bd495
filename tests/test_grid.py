"""The grid of runs: its order, and the stacked settings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.config import GridConfig
from cspace_jax.config.grid import AXES, grid_settings, stack
from cspace_jax.config.setting import Setting
from cspace_jax.rng import run_key

GRID = GridConfig(
    seeds=(0, 100, 200),
    sep_col=(0.2, 0.8),
    sep_size=(0.3, 0.4),
    sep_bg=(0.2,),
    learning_rate=(1e-3, 2e-3),
    data_noise=(1e-3, 1e-2),
)


def test_grid_is_the_product_of_its_axes_without_repetition():
    settings = grid_settings(GRID)
    assert len(settings) == GRID.num_runs == 48
    assert len({tuple(sorted(setting.items())) for setting in settings}) == 48


def test_first_axis_is_slowest_and_seeds_are_fastest():
    settings = grid_settings(GRID)
    assert [s["seed"] for s in settings[:4]] == [0, 100, 200, 0]
    assert [s["data_noise"] for s in settings[:7]] == [1e-3] * 3 + [1e-2] * 3 + [1e-3]
    assert [s["sep_col"] for s in settings] == [0.2] * 24 + [0.8] * 24
    order = [tuple(s["seed" if axis == "seeds" else axis] for axis in AXES) for s in settings]
    assert order == list(itertools.product(*(getattr(GRID, axis) for axis in AXES)))


def test_axes_cover_every_field_of_the_grid_and_of_a_setting():
    assert set(AXES) == set(GridConfig.__dataclass_fields__)
    assert {"seed" if axis == "seeds" else axis for axis in AXES} == set(Setting.__dataclass_fields__)


def test_stack_has_a_leading_run_axis_and_fixed_types():
    stacked = stack(grid_settings(GRID))
    assert {leaf.shape for leaf in jax.tree.leaves(stacked)} == {(48,)}
    assert stacked.seed.dtype == jnp.uint32
    others = [getattr(stacked, name) for name in Setting.__dataclass_fields__ if name != "seed"]
    assert {leaf.dtype for leaf in others} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(stacked.sep_size, np.float32([s["sep_size"] for s in grid_settings(GRID)]))


def test_types_do_not_depend_on_values_so_a_new_value_compiles_nothing():
    integers = stack([dict.fromkeys(Setting.__dataclass_fields__, 1)])
    floats = stack(grid_settings(GridConfig(seeds=(5,))))
    assert [x.dtype for x in jax.tree.leaves(integers)] == [x.dtype for x in jax.tree.leaves(floats)]


def test_largest_seed_survives_and_gives_its_own_key():
    stacked = stack(grid_settings(GridConfig(seeds=(0, 2**32 - 1))))
    assert int(stacked.seed[1]) == 2**32 - 1
    keys = jax.random.key_data(jax.vmap(run_key)(stacked.seed))
    assert not np.array_equal(keys[0], keys[1])


def test_one_run_of_the_stack_equals_the_run_stacked_alone():
    settings = grid_settings(GRID)
    fifth = jax.tree.map(lambda x: x[5], stack(settings))
    alone = jax.tree.map(lambda x: x[0], stack([settings[5]]))
    assert jax.tree.leaves(fifth) == jax.tree.leaves(alone)


def test_empty_grid_is_refused():
    with pytest.raises(ValueError, match="at least one run"):
        stack([])
