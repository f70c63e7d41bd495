"""The smallest studies that still use every part of the program, shared by the tests so that each compiles once."""

import dataclasses
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from cspace_jax.config import Config, grid
from cspace_jax.config.plan import Plan
from cspace_jax.config.schema import (
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    GridConfig,
    NetworkConfig,
    OptimConfig,
    ProbeConfig,
    SaveConfig,
)
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.model import unet
from cspace_jax.pipeline.collect import collect
from cspace_jax.pipeline.probe import Probe
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import results
from cspace_jax.storage.metrics import read_metrics
from cspace_jax.storage.workdir import Workdir

NARROW = {"channels": (4,), "attention": False, "groups": 2}  # the network that compiles fastest
NETWORK = NetworkConfig(channels=(4, 8), blocks=1, groups=2, heads=2, dropout=0.1)
DATA = DataConfig(image_size=8, blur=0.5, images_per_class=8, test_images_per_class=2)  # 20 train, 4 validate
PROBE = ProbeConfig(
    channels=(4, 8),
    groups=2,
    heads=2,
    out_channels=4,
    steps=2,
    batch_size=8,
    images_per_class=2,
    test_images_per_class=2,
    min_accuracy=0.0,
)


def study(**groups: Any) -> Config:
    """Return a study of 2 signal levels x 2 seeds and 6 steps; `groups` are changes, such as optim={"ema": 0.9}."""
    base = Config(
        study="tiny",
        scale="smoke",
        grid=GridConfig(seeds=(0, 7), sep_col=(0.2, 0.8)),
        data=DATA,
        network=NETWORK,
        optim=OptimConfig(batch_size=4, steps=6, log_every=2),
        save=SaveConfig(steps=(2, 5, 6)),
        evaluate=EvaluateConfig(samples_per_class=2, sampling_steps=2, keep_samples=1),
        probe=PROBE,
        engine=EngineConfig(steps_per_call=10, state_seconds=0.0),
        figures=(),
    )
    return changed(base, **groups)


def changed(config: Config, **groups: Any) -> Config:
    """Return a study with changes to its groups, such as engine={"wave": 2}."""
    new = {name: dataclasses.replace(getattr(config, name), **changes) for name, changes in groups.items()}
    return dataclasses.replace(config, **new)


# Optimising a program takes longer than running it once on these sizes.
COMPILE_FAST = {"xla_backend_optimization_level": 0}
init_params = jax.jit(unet.init_params, static_argnums=0, compiler_options=COMPILE_FAST)


def settings(config: Config, runs: slice = slice(None)) -> Any:
    """Return the stacked settings of some runs of a study."""
    return grid.stack(grid.grid_settings(config.grid)[runs])


def raw(tree: Any) -> Any:
    """Return a tree of NumPy arrays, random keys as their data."""

    def one(leaf: Any) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(one, tree)


def gathered(groups: Any) -> Any:
    """Return groups of runs as one tree stacked over all of them, typed keys included, on the first group's device."""
    if len(groups) == 1:
        return groups[0]
    (first,) = jax.tree.leaves(groups[0])[0].devices()
    local = [jax.device_put(group, first) for group in groups]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *local)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Fail unless two trees of arrays are equal bit for bit; a NaN equals itself."""

    def one(path: Any, a: np.ndarray, b: np.ndarray) -> None:
        same = a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        assert same, f"{jax.tree_util.keystr(path)}: largest difference {np.abs(a - b).max()}"

    jax.tree_util.tree_map_with_path(one, raw(actual), raw(expected))


def assert_close(actual: Any, expected: Any, **tolerance: float) -> None:
    """Fail unless two trees of arrays are close; `tolerance` goes to `numpy.testing.assert_allclose`."""

    def one(path: Any, a: np.ndarray, b: np.ndarray) -> None:
        np.testing.assert_allclose(a, b, **tolerance, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(one, raw(actual), raw(expected))


def in_workdir(workdir: Workdir, config: Config) -> Study:
    """Return a study in a workdir, executed as on a CPU."""
    return Study(config, workdir, Plan.resolve(config, "cpu"))


def collected(workdir: Workdir, config: Config) -> Any:
    """Collect a study, write its results and return them."""
    ds = collect(in_workdir(workdir, config))
    results.write_results(ds, workdir)
    return ds


def probe_of(config):
    spec = probe_network.ProbeSpec.from_config(config)
    draw = jax.jit(probe_network.init_params, static_argnums=0, compiler_options=COMPILE_FAST)
    # As drawn it reads the same from every image: its last convolution starts at zero.
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * noise.standard_normal(leaf.shape).astype(np.float32),
        draw(spec, jax.random.key(0), 1.0),
    )
    return Probe(spec, params, {})


def copy_of(workdir, tmp_path):
    shutil.copytree(workdir.root, tmp_path / "copy")
    return Workdir(epath.Path(tmp_path / "copy"))


def logged(workdir):
    """The metrics without the speed, each run and step once."""
    rows = read_metrics(workdir.metrics)
    keys = [(row["run"], row["step"]) for row in rows]
    assert len(keys) == len(set(keys)), "a step was logged twice"
    return {key: {k: v for k, v in row.items() if k != "steps_per_second"} for key, row in zip(keys, rows, strict=True)}
