"""Export of a study as a plain dataset of PNG and CSV, and of the weights of a run.

Others read both without this package.
"""

import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from etils import epath
from jaxtyping import Array, Float, UInt8

from cspace_jax import rng
from cspace_jax.analysis import plain_dataset
from cspace_jax.analysis.plain_dataset import Images
from cspace_jax.config import Config, grid, to_dict
from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import SWEPT, Setting
from cspace_jax.data.generated import Generated
from cspace_jax.data.opened import source_of
from cspace_jax.data.source import Source
from cspace_jax.errors import UserError
from cspace_jax.paths import real_path, within
from cspace_jax.pipeline import collect
from cspace_jax.pipeline.progress import progress
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import results
from cspace_jax.storage.evaluations import read_evaluation
from cspace_jax.storage.files import PathLike, located, require_outside, writing
from cspace_jax.storage.pictures import png, upright
from cspace_jax.studies import loading
from cspace_jax.tree import take

Pixels = UInt8[np.ndarray, "n h w 3"]


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """A request for an export: its content and its target.

    Attributes:
      to: a folder that is made, or the .safetensors file of weights; "" = a name made of the workdir's, in the current
        folder.
      weights: "RUN" or "RUN:STEP", the weights that are written; "" = the whole study as a dataset.
    """

    to: str = ""
    weights: str = ""

    @property
    def model(self) -> tuple[int, int | None]:
        """The run and the step (None: the last) whose weights are requested.

        Raises:
          UserError: the text is neither RUN nor RUN:STEP.
        """
        run, colon, step = self.weights.partition(":")
        if not run.isdecimal() or (colon and not step.isdecimal()):
            fail("weights", self.weights, "must be RUN or RUN:STEP, whole numbers, for example --weights=0:2400")
        return int(run), int(step) if colon else None


def export(study: Study, request: ExportRequest | None) -> str:
    """Write what a request asks for, and return in words what was written.

    Raises:
      UserError: there is nothing to write, or it cannot be written; nothing is overwritten.
    """
    asked = request or ExportRequest()
    to = asked.to or _default_target(study, asked.weights)
    if asked.weights:
        require_outside(to, study.workdir.root, "to")
        return f"weights of run {asked.weights.replace(':', ' at step ')}: {study.model(*asked.model).save(to)}"
    return f"the study as a dataset: {write(study, to):,} pictures in {to}"


def write(study: Study, to: PathLike) -> int:
    """Write a study's kept samples, some examples of its images and its tables into a new folder.

    The folder appears when it is complete. Its README.md explains it.

    Returns:
      The number of pictures.

    Raises:
      UserError: the folder exists and is not empty or lies in the workdir, there are no results or samples, or it
        cannot be written.
    """
    folder = check_target(to)
    require_outside(folder, study.workdir.root, "to")
    ds = results.open_results(study.workdir.root)
    if not study.config.evaluate.keep_samples:
        fail("evaluate.keep_samples", 0, "no samples of this study were kept, there is nothing to export")
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.tmp"
    with writing(folder):
        partial.mkdir(parents=True, exist_ok=True)
        try:
            tables = _write_parts(study, ds, partial)
            _write_texts(study, study.as_evaluated(ds), tables, partial)
            if folder.exists():
                folder.rmdir()  # empty
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(os.fspath(partial), ignore_errors=True)
            raise
    return sum(map(len, tables.values()))


def check_target(to: PathLike) -> epath.Path:
    """Return the folder of an export, which is new or empty.

    Raises:
      UserError: something is in its place, it has no name, or it is not on this machine.
    """
    if not isinstance(to, str | os.PathLike):
        fail("to", to, "must be the path of a folder on this machine")
    text = os.fspath(to)
    if not text.strip("/ ") or "://" in text:
        fail("to", text, "must be the path of a folder on this machine, for example --to=dataset")
    folder = located(text.rstrip("/"))
    if folder.exists() and not folder.is_dir():
        fail("to", text, "is a file, must be a folder that is new or empty")
    if folder.exists() and any(folder.iterdir()):
        fail("to", text, "is not empty; nothing is overwritten, choose a new folder")
    return folder


def _write_texts(study: Study, whole: Config, tables: dict[str, pd.DataFrame], folder: epath.Path) -> None:
    """Write the tables, the configuration and the README of an export."""
    for file in (study.workdir.table, study.workdir.config):
        (folder / file.name).write_bytes(file.read_bytes())
    command = loading.command_of(whole)
    name = f"{whole.study}, {whole.scale} scale"
    text = plain_dataset.card(name, loading.question(whole.study), command, to_dict(whole), tables)
    (folder / "README.md").write_text(text)


def _write_parts(study: Study, ds: xr.Dataset, folder: epath.Path) -> dict[str, pd.DataFrame]:
    """Write the pictures of the results' runs and steps, and return their tables by kind."""
    parts = study.parts_in(ds)
    total = ds.sizes["run"] * ds.sizes["step"]
    found = {"samples": [], "examples": list(_examples(study, parts, folder / "examples"))}
    with progress(total, "export", "run") as bar:
        for part, first in zip(parts, study.first_runs, strict=False):
            own = ds.isel(run=slice(first, first + part.config.grid.num_runs))
            for rows in _samples(part, own, folder / "samples"):
                found["samples"].append(rows)
                bar.update()
    tables = {name: pd.concat(rows, ignore_index=True) for name, rows in found.items() if rows}
    for name, table in tables.items():
        table.to_csv(folder / name / "metadata.csv", index=False, lineterminator="\n")
    return tables


def _samples(study: Study, ds: xr.Dataset, folder: epath.Path) -> Iterator[pd.DataFrame]:
    """Write the kept samples of every run and step of a study's part, and yield their rows.

    `ds` holds the part's results.
    """
    source, number = source_of(study.config.data), study.config.evaluate.keep_samples
    asked = _asked(source, study)[:, :, :number]
    klass, sample = np.indices(asked.shape[1:3]).reshape(2, -1)
    for wave in study.waves:
        for step in map(int, ds["step"].values):
            stored = read_evaluation(wave.eval_file(step), ("samples", "prob_samples"))
            for i, (row, setting) in enumerate(zip(wave.rows, wave.settings, strict=True)):
                run, status = int(ds["run"][row]), str(ds["status"].values[row])
                place = f"run_{run:05d}/step_{step:08d}"
                names = [f"{place}/{source.classes.names[k]}_{s:02d}.png" for k, s in zip(klass, sample, strict=True)]
                _write_pictures(folder, names, stored["samples"][i][klass, sample])
                prob = stored["prob_samples"][i, 0][klass, sample]
                images = Images(names, klass, asked[row][klass, sample], prob)
                facts = {
                    "run": run, "seed": setting["seed"], **plain_dataset.setting_facts(setting),
                    "status": status, "step": step, "protocol": NAIVE, "sample": sample,
                }  # fmt: skip
                yield plain_dataset.rows(images, source.classes, source.layout, facts)


def _asked(source: Source, study: Study) -> Float[np.ndarray, "r k s d"]:
    """Return the conditioning vectors of the runs' samples.

    They are drawn as `evaluation.prompts.naive_prompts` draws them.
    """

    def one(setting: Setting) -> Float[Array, "k s d"]:
        key = rng.stream(rng.run_key(setting.seed), "data")
        return source.prompts(setting, study.config.evaluate.samples_per_class, key)

    stacked = grid.stack(grid.grid_settings(study.config.grid))
    return np.asarray(jax.jit(lambda settings: jax.lax.map(one, settings))(stacked))


def _examples(study: Study, parts: list[Study], folder: epath.Path) -> Iterator[pd.DataFrame]:
    """Write some images of every class as they are trained on, for each level, and yield their rows."""
    source, key = source_of(study.config.data), rng.stream(rng.run_key(0), "signal")
    settings = [one for part in parts for one in grid.grid_settings(part.config.grid)]
    levels = {tuple(plain_dataset.setting_facts(one).items()): one for one in settings}
    varying = {name for name in SWEPT if len({dict(facts)[name] for facts in levels}) > 1}
    kept = collect.examples(study)
    if not isinstance(source, Generated):  # pictures, which are the same at every level
        levels = dict(list(levels.items())[:1]) if kept is not None else {}
    for facts, setting in levels.items():
        swept = take(grid.stack([setting]), 0)
        # Kept pictures are those of `collect.keep_examples`, at the class means.
        items = source.examples(swept, collect.EXAMPLES, key, at_mean=not isinstance(source, Generated))
        klass = np.asarray(items.klass)
        pixels = _drawn(source, items) if isinstance(source, Generated) else _flat(kept)
        label = "_".join(f"{name}_{value}" for name, value in facts if name in varying)
        names = [f"{label or 'all'}/{source.classes.names[k]}_{i:03d}.png" for i, k in enumerate(klass)]
        _write_pictures(folder, names, pixels)
        images = Images(names, klass, np.asarray(source.conditionings(items)))
        yield plain_dataset.rows(images, source.classes, source.layout, dict(facts))


def _drawn(source: Source, items: Any) -> Pixels:
    """Return the images of items, uint8."""
    return np.round(255 * np.asarray(jax.jit(source.images)((), items))).astype(np.uint8)


def _flat(kept: Any) -> Pixels:
    """Return kept images [k, n, ...] as one axis of images."""
    return kept.reshape(-1, *kept.shape[2:])


def _write_pictures(folder: epath.Path, names: list[str], pixels: Pixels) -> None:
    """Write images as PNG files under these names."""
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, upright(pixels), strict=True):
        (folder / name).write_bytes(png(image))


def _default_target(study: Study, weights: str) -> str:
    """Return the name of an export in the current folder where the user gives none.

    Raises:
      UserError: the current folder lies in the workdir.
    """
    root = study.workdir.root
    name = root.name if root.name not in ("", "..") else "study"
    target = f"{name}_run_{weights.replace(':', '_step_')}.safetensors" if weights else f"{name}_export"
    if within(root, target):
        raise UserError(
            f"to is not given: {target!r} in the current folder would lie in the workdir {real_path(root)!r}, give "
            f"another place with --to={'FILE.safetensors' if weights else 'FOLDER'}"
        )
    return target
