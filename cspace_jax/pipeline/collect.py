"""Merging of the measurements at the checkpoints of all runs into the labelled dataset."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from cspace_jax import rng
from cspace_jax.analysis import capability, joining
from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.analysis.embeddings import extend_embeddings
from cspace_jax.config import Config, grid, to_dict
from cspace_jax.config.schema import DGP
from cspace_jax.config.setting import Setting
from cspace_jax.data.opened import source_of
from cspace_jax.data.source import Source
from cspace_jax.engine.placement import shared_pool
from cspace_jax.evaluation import embeddings
from cspace_jax.model import unet
from cspace_jax.pipeline import elicit, merged_batteries, replay
from cspace_jax.pipeline.probe import Probe, first_device
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.evaluations import ELICITED, EMBEDDED, EXCHANGED, MEASURED, holds, read_evaluation, write_npz
from cspace_jax.storage.workdir import step_files
from cspace_jax.training.run import TrainSpec

EXAMPLES = 8  # images of each class that are kept
STEPS_HELD = 16  # whose sample images are held in memory: as many as a figure shows, and more


def collect(study: Study, probe: Probe | None = None) -> xr.Dataset:
    """Merge all evaluations and all complete batteries into the labelled dataset.

    Its main axes are run, step, protocol, klass and concept. Of pictures it also holds `reading` [klass, concept], the
    probe's mean P(bit = 1) of the pictures that no run is trained on. It holds two stand-ins for the concept signal as
    well: `mean_distance` [concept] (`Source.mean_distances`) and `exchange` [run, step, concept]
    (`losses.exchange_batch`).

    Raises:
      UserError: an evaluation is missing or damaged.
    """
    ds = _embedded(study, naive(study, probe and probe.accuracy))
    if probe is not None and probe.reading is not None:
        ds["reading"] = (("klass", "concept"), probe.reading)
        if all(holds(wave.eval_file(step), EXCHANGED) for wave in study.waves for step in study.steps):
            rises = np.stack([_merge_runs(study, step, EXCHANGED)["exchange"] for step in study.steps], axis=1)
            ds["exchange"] = (("run", "step", "concept"), rises)
        ds["mean_distance"] = (("concept",), source_of(study.config.data).mean_distances())
    asked = merged_batteries.load(study)
    return ds if asked is None else capability.extend(ds, asked.raw, asked.names, asked.values, asked.fields)


def naive(study: Study, probe_accuracy: Mapping[str, float] | None) -> xr.Dataset:
    """Return the dataset of naive prompting, with the probe's held-out accuracy by concept if it is known.

    Raises:
      UserError: an evaluation is missing or damaged.
    """
    config = study.config
    signals = _signals(config)
    measurements = Measurements(
        _Merged(study),
        grid.grid_settings(config.grid),
        source_of(config.data).classes,
        signal=signals["means"],
        signal_range=signals["ranges"],
    )
    return build_dataset(measurements, to_dict(config), probe_accuracy)


def _embedded(study: Study, ds: xr.Dataset) -> xr.Dataset:
    """Add the measurements of embeddings, unless the evaluations are of an older version without them."""
    files = [wave.eval_file(step) for wave in study.waves for step in study.steps]
    if not all(holds(path, EMBEDDED) for path in files):
        return ds
    measured = {step: _merge_runs(study, step, EMBEDDED) for step in study.steps}
    blocks = unet.block_features(TrainSpec.from_config(study.config).vdm.network)
    return extend_embeddings(ds, measured, blocks, embeddings.vector_names(source_of(study.config.data).classes))


def added(study: Study) -> xr.Dataset | None:
    """Merge the steps that were trained again into a dataset like that of the saves.

    Values are NaN where a run has no such step, and those of protocols where it was not asked there. Without any such
    step the result is None. Runs keep their numbers; axes and attributes are those of `joining.stack`, naive prompting
    first. The dataset has one more variable, `exact` [run, step]: whether the repeated training equalled the first as
    far as known.

    Raises:
      UserError: a file is damaged.
    """
    runs = []
    for part, first in zip(study.parts, study.first_runs, strict=False):
        found = {first + run: _added_run(part, run) for run in range(part.config.grid.num_runs)}
        runs += [one.assign_coords(run=[run]) for run, one in found.items() if one is not None]
    if not runs:
        return None
    labels = [int(one["run"].values[0]) for one in runs]
    return joining.stack(runs).assign_coords(run=labels)


def _added_run(study: Study, run: int) -> xr.Dataset | None:
    """Return the dataset of one run's added steps, None if it has none.

    It has the protocols of the battery if the run was asked at any of the steps, NaN at the others.
    """
    config = study.config
    files = step_files(replay.folder(study, run))
    if not files:
        return None
    raw = {step: read_evaluation(path, (*MEASURED, "exact")) for step, path in files.items()}
    settings = grid.grid_settings(config.grid)[run : run + 1]
    ds = build_dataset(Measurements(raw, settings, source_of(config.data).classes), to_dict(config))
    ds["exact"] = (("run", "step"), np.array([[float(raw[step]["exact"][0]) for step in sorted(raw)]]))
    return _with_answers(study, run, ds) if config.elicit.protocols else ds


def _with_answers(study: Study, run: int, ds: xr.Dataset) -> xr.Dataset:
    """Add the answers of a run's added steps to their dataset, NaN where a step was not asked.

    A dataset of which no step was asked stays as it is.
    """
    files = {int(step): replay.answer_file(study, run, int(step)) for step in ds["step"].values}
    answered = {step: read_evaluation(path, ELICITED) for step, path in files.items() if path.exists()}
    if not answered:
        return ds
    initial = _initial_answers(study, run)
    unknown = {name: np.full_like(values, np.nan) for name, values in initial.items()}
    asked = dict.fromkeys(files, unknown) | answered | {0: initial}
    ds = capability.extend(ds, asked, *elicit.names_and_values(study.config))
    return ds.assign(best_query=ds["best_query"].where(ds["step"].isin(list(answered))))


def _initial_answers(study: Study, run: int) -> dict[str, np.ndarray]:
    """Return a run's answers at initialisation, [1, ...]."""
    wave = next(wave for wave in study.waves if run in wave.rows)
    stored = read_evaluation(elicit.answer_file(elicit.folder(study), wave, 0), ELICITED)
    row = wave.rows.index(run)
    return {name: values[row : row + 1] for name, values in stored.items()}


class Samples(Mapping[int, np.ndarray]):
    """Map each step to the kept sample images of a dataset's runs.

    An array is uint8 [r, k, n, h, w, 3]; axis h is x. The mapping is empty where no samples were kept, or some of them
    are gone; the files are looked into when that is first asked. The samples of a step are read when they are asked
    for, since all of a large grid take more than the memory. Runs and steps that were added to the study since the
    dataset was written are left out.
    """

    def __init__(self, study: Study, ds: xr.Dataset):
        self._parts, self._asked = study.parts_in(ds), [int(step) for step in ds["step"].values]
        self._kept = study.config.evaluate.keep_samples > 0
        self._read = functools.lru_cache(STEPS_HELD)(self._read_step)

    @functools.cached_property
    def missing(self) -> str:
        """The reason why there are no samples, such as evaluations that were removed to free the disk.

        It is "" where all samples are there.

        Raises:
          UserError: an evaluation is damaged.
        """
        if not self._kept:
            return "no sample images are stored"
        files = [wave.eval_file(step) for part in self._parts for wave in part.waves for step in self._asked]
        gone = [file for file in files if not file.exists()]
        if gone:
            return f"{len(gone)} of {len(files)} evaluations are gone, the first {gone[0]}"
        without = next((file for file in files if not holds(file, ("samples",))), None)
        return f"no sample images are stored in {without}" if without else ""

    @property
    def _steps(self) -> list[int]:
        """Return the steps that have samples."""
        return [] if self.missing else self._asked

    def _read_step(self, step: int) -> np.ndarray:
        """Read the samples of a step, of all runs."""
        return np.concatenate([_merge_runs(part, step, ("samples",))["samples"] for part in self._parts])

    def __getitem__(self, step: int) -> np.ndarray:
        if step not in self._steps:
            raise KeyError(step)
        return self._read(step)

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)


def keep_examples(study: Study) -> None:
    """Write some images of each class into the workdir, once.

    Rendered images are not written, as they can be drawn at any time.

    Raises:
      UserError: the file cannot be written.
    """
    source, file = source_of(study.config.data), study.workdir.examples
    if study.config.data.source == DGP or file.exists():
        return
    key = rng.stream(rng.run_key(0), "signal")
    items = source.examples(grid.example_setting(study.config.grid), EXAMPLES, key)
    images = np.asarray(jax.jit(source.images)(shared_pool(source.pool).at(first_device()), items))
    shown = np.round(255 * images).astype(np.uint8)
    write_npz(file, {"images": shown.reshape(source.classes.num, -1, *shown.shape[1:])})


def examples(study: Study) -> np.ndarray | None:
    """Return the kept images of each class, uint8 [k, n, h, w, 3], or None where none are kept.

    Raises:
      UserError: the file is damaged.
    """
    file = study.workdir.examples
    return read_evaluation(file, ("images",))["images"] if file.exists() else None


class _Merged(Mapping[int, dict[str, np.ndarray]]):
    """Map each step to the measurements of naive prompting, read when they are asked for."""

    def __init__(self, study: Study):
        self._study = study

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return _merge_runs(self._study, step, MEASURED)

    def __iter__(self) -> Iterator[int]:
        return iter(self._study.steps)

    def __len__(self) -> int:
        return len(self._study.steps)


def _merge_runs(study: Study, step: int, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the named arrays of a step, each [r, ...] over all waves."""
    parts = [read_evaluation(wave.eval_file(step), keys) for wave in study.waves]
    return {key: np.concatenate([part[key] for part in parts]) for key in keys}


def _signals(config: Config) -> dict[str, np.ndarray]:
    """Measure the concept signal [r, c] of every run at the class means and on the training ranges."""
    settings = grid.grid_settings(config.grid)
    # Runs that differ in their seed or mask alone have the same distribution of images: one fixed key, one measurement.
    levels = {_images_of(s): i for i, s in enumerate(settings)}
    measured = [_signals_of(source_of(config.data), grid.stack([settings[i]])) for i in levels.values()]
    rows = [measured[list(levels).index(_images_of(s))] for s in settings]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _signals_of(source: Source, stacked: Setting) -> dict[str, np.ndarray]:
    """Measure the concept signal [1, c] of one run.

    One program for a single run serves any number of levels.
    """
    return jax.device_get(_measure(source, stacked, rng.stream(rng.run_key(0), "signal")))


@functools.partial(jax.jit, static_argnums=0)
def _measure(source: Source, stacked: Setting, key: jax.Array) -> dict[str, jax.Array]:
    """Return the signals of stacked settings, each [r, c]."""
    return jax.lax.map(lambda one: source.signals(one, key), stacked)


def _images_of(setting: dict[str, Any]) -> tuple[float, ...]:
    """Return the values of a setting that decide its images."""
    return tuple(value for name, value in setting.items() if name not in ("seed", "mask"))
