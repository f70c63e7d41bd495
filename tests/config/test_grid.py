"""The grid of runs: its order, and the stacked settings."""

import itertools
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.config import GridConfig, grid
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


PROGRAM = """
import dataclasses, sys
from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.cli import flags
from cspace_jax.config import from_config_dict, grid, reference
from cspace_jax.storage import results
import numpy as np
from cspace_jax.data.concepts import classes

flags.parse_flags(sys.argv)
config = from_config_dict(flags.FLAGS.config)
settings = grid.grid_settings(config.grid)
print(len(settings), grid.stack(settings).warmth.tolist(), "grid.warmth" in reference.markdown())
found = {name: np.zeros((2, 1, 4, 1, 2)) for name in ("prob_samples",)}
found |= {"mean_rgb": np.zeros((2, 1, 4, 3)), "loss": np.zeros((2, 2, 4))}
found |= {name: np.zeros(2) for name in ("schedule_b", "schedule_w")}
ds = build_dataset(Measurements({1: found}, settings, classes(config.data.active)))
print(ds["warmth"].values.tolist(), "warmth" in results.to_table(ds).columns)
"""


@pytest.mark.system
def test_a_new_swept_number_is_one_field_of_the_setting(tmp_path):
    """With it come an axis, a limit, a flag, a coordinate and a row of the page of fields."""
    root = pathlib.Path(__file__).resolve().parents[2]
    shutil.copytree(root / "cspace_jax", tmp_path / "cspace_jax", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "cspace_jax" / "config" / "swept.py"
    field = '    warmth: ArrayLike = field(0.5, "a made-up number", above=0, at_most=2)\n'
    text, end = file.read_text(), "\n\n# The settings besides"
    assert text.count(end) == 1
    file.write_text(text.replace(end, field + end))

    def run(values):
        arguments = [f"--config={root / 'configs' / 'signal.py'}:smoke", "--config.grid.seeds=(0,)"]
        arguments += ["--config.grid.sep_col=(0.2,)", f"--config.grid.warmth={values}"]
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
        line = [sys.executable, "-c", PROGRAM, *arguments]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200)

    done = run("(0.5, 1.5)")
    assert done.stdout.splitlines() == ["2 [0.5, 1.5] True", "[0.5, 1.5] True"], done.stderr
    assert "grid.warmth[0] = 3.0: must be in (0, 2]" in run("(3.0,)").stderr


def test_every_added_grid_has_no_run_of_another():
    there = [GridConfig(seeds=(0, 1), sep_col=(0.2, 0.8)), GridConfig(seeds=(5,), sep_col=(0.5,))]
    wanted = GridConfig(seeds=(0, 5, 1), sep_col=(0.5, 0.8, float(np.float32(0.2))), mask=(0.0, 0.5))
    added = grid.missing(wanted, there)

    def runs(*grids):
        found = [grid._run(setting) for one in grids for setting in grid.grid_settings(one)]
        assert len(found) == len(set(found))
        return set(found)

    assert runs(*there, *added) == runs(*there) | runs(wanted)
    assert grid.missing(wanted, [*there, *added]) == []
    assert grid.missing(wanted, []) == [wanted]
    whole = grid.union([*there, wanted])
    assert (whole.seeds, whole.sep_col, whole.mask) == ((0, 1, 5), (0.2, 0.8, 0.5), (0.0, 0.5))
