"""Where a log goes: event files of TensorBoard, or a run of Weights & Biases. Imports their packages when asked."""

import contextlib
import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from cspace_jax.config import grid, to_dict
from cspace_jax.config.reading import fail, one_of
from cspace_jax.errors import UserError
from cspace_jax.pipeline.logs import Log, Writer, labels
from cspace_jax.pipeline.modes import LOGGED, LOGS
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.files import PathLike, writing


class TensorBoard:
    """Event files in a folder, a folder of its own for each run: what `tensorboard --logdir` shows as runs."""

    def __init__(self, folder: epath.Path):
        self._folder = folder
        self._open: dict[tuple[str, str], Any] = {}

    def begin(self, label: str, part: str) -> None:
        import tensorboardX

        run = label.partition(" ")[0]
        if (label, part) in self._open:  # a training that goes on with smaller microbatches
            self._open.pop((label, part)).close()
        with writing(self._folder):
            for old in self._folder.glob(f"{run}*/*.{part}"):  # an extension may have changed the label
                old.unlink()
            place = os.fspath(self._folder / label)
            self._open[label, part] = tensorboardX.SummaryWriter(place, flush_secs=10, filename_suffix=f".{part}")

    def scalars(self, label: str, part: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._open[label, part].add_scalar(name, value, step)

    def picture(self, label: str, part: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        self._open[label, part].add_image(name, rows, step, dataformats="HWC")

    def close(self) -> None:
        for one in self._open.values():
            one.close()


class WeightsAndBiases:
    """One run of Weights & Biases for a study, in WORKDIR/wandb; offline unless WANDB_MODE says otherwise."""

    def __init__(self, folder: epath.Path, config: Mapping[str, Any]):
        import wandb  # type: ignore[import-not-found]

        mode = os.environ.get("WANDB_MODE", "offline")
        self._picture = wandb.Image
        try:
            self._run = wandb.init(
                project="cspace_jax", name=folder.name, dir=os.fspath(folder), config=dict(config), mode=mode,
                settings=wandb.Settings(console="off", quiet=True),
            )  # fmt: skip
        except wandb.Error as error:
            raise UserError(f"log = 'wandb': it cannot start ({' '.join(str(error).split())})") from error
        self._run.define_metric("*", step_metric="step")

    def begin(self, label: str, part: str) -> None:
        """Do nothing: every start of the command is a run of its own."""

    def scalars(self, label: str, part: str, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**{f"{name}/{label}": value for name, value in values.items()}, "step": step})

    def picture(self, label: str, part: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        self._run.log({f"{name}/{label}": self._picture(rows), "step": step})

    def close(self) -> None:
        self._run.finish()


def check(name: str | None, mode: str, workdir: PathLike) -> None:
    """Raise UserError unless a log of this name (None: none) can be written in this mode; imports nothing."""
    if name is None:
        return
    one_of("log", name, LOGS)
    if mode not in LOGGED:
        fail("log", name, f"only goes with --mode={', '.join(LOGGED)}")
    if "://" in os.fspath(workdir):
        fail("log", name, "needs a workdir on this machine")
    if importlib.util.find_spec(LOGS[name]) is None:
        fail("log", name, f"needs the package {LOGS[name]}: pip install 'cspace_jax[{name}]'")


@contextlib.contextmanager
def logging(study: Study, name: str | None) -> Iterator[Study]:
    """Return the study with the log of this name (None: none) open, in its workdir."""
    if name is None:
        yield study
        return
    settings = [one for part in study.parts for one in grid.grid_settings(part.config.grid)]
    log = Log(_open(name, study), tuple(labels(settings)))
    try:
        yield dataclasses.replace(study, log=log)
    finally:
        log.close()


def _open(name: str, study: Study) -> Writer:
    folder = study.workdir.root
    return (
        TensorBoard(folder / "tensorboard")
        if name == "tensorboard"
        else WeightsAndBiases(folder, to_dict(study.config))
    )
