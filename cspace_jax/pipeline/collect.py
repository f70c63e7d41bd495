"""Merge what was measured at the checkpoints of all runs into the labelled dataset."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from cspace_jax import rng
from cspace_jax.analysis.dataset import build_dataset
from cspace_jax.analysis.embeddings import extend_embeddings
from cspace_jax.config import Config, grid, save_steps, to_dict
from cspace_jax.data import signal
from cspace_jax.data.concepts import classes
from cspace_jax.evaluation import embeddings
from cspace_jax.model import unet, vdm
from cspace_jax.pipeline.waves import waves
from cspace_jax.storage.evaluations import EMBEDDED, MEASURED, holds, read_evaluation
from cspace_jax.storage.workdir import Workdir


def collect(workdir: Workdir, config: Config, probe_accuracy: dict[str, float] | None = None) -> xr.Dataset:
    """Merge all evaluations of naive prompting, and what was measured of embeddings, into the labelled dataset."""
    steps = save_steps(config.save, config.optim.steps)
    evaluations = {step: _merge_runs(workdir, config, step, MEASURED) for step in steps}
    settings = grid.grid_settings(config.grid)
    signals = _signals(config)
    ds = build_dataset(
        evaluations,
        settings,
        classes(config.data.active),
        protocols=("naive",),
        signal=signals["means"],
        signal_range=signals["ranges"],
        config=to_dict(config),
        probe_accuracy=probe_accuracy,
    )
    files = [wave.eval_file(step) for wave in waves(workdir, config) for step in steps]
    if not all(holds(path, EMBEDDED) for path in files):
        return ds  # evaluated by a version that did not measure them
    measured = {step: _merge_runs(workdir, config, step, EMBEDDED) for step in steps}
    blocks = unet.block_features(vdm.make_vdm(config.network, config.diffusion, "xla").network)
    return extend_embeddings(ds, measured, blocks, embeddings.vector_names(config.data.active))


def samples(workdir: Workdir, config: Config) -> dict[int, np.ndarray]:
    """Return the kept sample images by step: uint8 [r, k, n, h, w, 3]."""
    steps = save_steps(config.save, config.optim.steps)
    return {step: _merge_runs(workdir, config, step, ("samples",))["samples"] for step in steps}


def _merge_runs(workdir: Workdir, config: Config, step: int, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    parts = [read_evaluation(wave.eval_file(step), keys) for wave in waves(workdir, config)]
    return {key: np.concatenate([part[key] for part in parts]) for key in keys}


def _signals(config: Config) -> dict[str, np.ndarray]:
    """Measure the concept signal [r, c] of every run at the class means and on the training ranges."""
    settings = grid.grid_settings(config.grid)
    stacked = grid.stack(settings)
    # Runs that differ in their seed or mask alone have the same distribution of images: one fixed key, one measurement.
    levels = {_images_of(s): i for i, s in enumerate(settings)}
    chosen = jax.tree.map(lambda leaf: leaf[np.array(list(levels.values()))], stacked)
    key = rng.stream(rng.run_key(0), "signal")

    def measure(setting: Any) -> dict[str, jax.Array]:
        return {
            "means": signal.pixel_signal(setting, config.data, key),
            "ranges": signal.range_signal(setting, config.data, key),
        }

    measured = jax.device_get(jax.jit(lambda s: jax.lax.map(measure, s))(chosen))
    rows = [list(levels).index(_images_of(s)) for s in settings]
    return {name: values[rows] for name, values in measured.items()}


def _images_of(setting: dict[str, Any]) -> tuple[float, ...]:
    return tuple(value for name, value in setting.items() if name not in ("seed", "mask"))
