"""A log goes into event files of TensorBoard or a run of Weights & Biases.

Their packages are imported when they are asked for.
"""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8

from cspace_jax import processes
from cspace_jax.config import grid, to_dict
from cspace_jax.config.reading import fail, one_of
from cspace_jax.errors import UserError
from cspace_jax.pipeline.logs import Log, Writer, labels, pictured
from cspace_jax.pipeline.modes import LOGGED, LOGS
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.files import PathLike, writing
from cspace_jax.text import one_line


class TensorBoard:
    """Write event files, a folder for each run, which `tensorboard --logdir` shows as runs.

    A run has one file, since viewers look for more in the last one alone. Each call opens it, appends and closes it, so
    that any number of runs takes no descriptor and no thread.
    Where that fails, as on a full disk, a line says so and the log ends there; the study goes on.
    """

    def __init__(self, folder: epath.Path):
        self._folder = folder
        self._files: dict[str, pathlib.Path] = {}
        self._ended = False

    def begin(self, label: str) -> None:
        """Remove the earlier event files of a run and start a new one."""
        if self._ended:  # what an earlier start wrote is better than nothing
            return
        run, host = label.partition(" ")[0], socket.gethostname()
        name = f"events.out.tfevents.{time.time():010.0f}.{host}"
        place = pathlib.Path(os.fspath(self._folder), label)
        with self._or_end():
            for old in [*self._folder.glob(f"{run}*/events.out.tfevents.*")]:  # an extension may have changed the label
                if old.parent.name.partition(" ")[0] == run:
                    old.unlink()
                    with contextlib.suppress(OSError):  # unless it holds something else
                        old.parent.rmdir()
            place.mkdir(parents=True, exist_ok=True)
        self._files[label] = place / name
        self._append(label, file_version="brain.Event:2")

    def scalars(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """Append numbers of a run at a step, name -> number."""
        from tensorboardX import summary

        found = [value for name, number in values.items() for value in summary.scalar(name, number).value]
        self._append(label, step=step, summary=summary.Summary(value=found))

    def picture(self, label: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        """Append a picture of a run at a step."""
        from tensorboardX import summary

        self._append(label, step=step, summary=summary.image(name, rows, dataformats="HWC"))

    def close(self) -> None:
        """Do nothing. Every call writes out what it takes."""

    def _append(self, label: str, **fields: Any) -> None:
        """Append an event with these fields to a file of records: length, data and their checksums."""
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import masked_crc32c

        data = Event(wall_time=time.time(), **fields).SerializeToString()
        size = struct.pack("<Q", len(data))
        sums = [struct.pack("<I", masked_crc32c(one)) for one in (size, data)]
        with self._or_end():
            if not self._ended:
                with open(self._files[label], "ab") as file:
                    file.write(b"".join((size, sums[0], data, sums[1])))

    @contextlib.contextmanager
    def _or_end(self) -> Iterator[None]:
        """End the log, with a line, if its files cannot be written."""
        try:
            with writing(self._folder):
                yield
        except UserError as error:
            if not self._ended:
                print(f"log = 'tensorboard': {error}; the study goes on without it", flush=True)
            self._ended = True


class WeightsAndBiases:
    """Write one run of Weights & Biases for a study, in WORKDIR/wandb.

    It is offline unless WANDB_MODE says otherwise. Of many processes each has one, in a group with the workdir's name.
    """

    def __init__(self, folder: epath.Path, config: Mapping[str, Any]):
        import wandb  # type: ignore[import-not-found]

        mode = os.environ.get("WANDB_MODE", "offline")
        self._picture = wandb.Image
        # Run, step and name of all that was logged; of numbers that are logged together the name that sorts first.
        self._written: set[tuple[str, int, str]] = set()
        named: dict[str, str] = {"name": folder.name}
        if processes.are_many():
            named = {"name": f"{folder.name} process {jax.process_index()}", "group": folder.name}
        try:
            self._run = wandb.init(
                project="cspace_jax", **named, dir=os.fspath(folder), config=dict(config), mode=mode,
                settings=wandb.Settings(console="off", quiet=True),
            )  # fmt: skip
        except wandb.Error as error:
            raise UserError(f"log = 'wandb': it cannot start ({one_line(error)})") from error
        self._run.define_metric("*", step_metric="step")

    def begin(self, label: str) -> None:
        """Do nothing. Every start of the command is a run of its own, which keeps what it has."""

    def scalars(self, label: str, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a run at a step, unless they were logged already."""
        if values and self._is_new(label, step, min(values)):
            self._run.log({**{f"{name}/{label}": value for name, value in values.items()}, "step": step})

    def picture(self, label: str, step: int, name: str, rows: UInt8[np.ndarray, "row column 3"]) -> None:
        """Log a picture of a run at a step, unless it was logged already."""
        if self._is_new(label, step, name):
            self._run.log({f"{name}/{label}": self._picture(rows), "step": step})

    def _is_new(self, label: str, step: int, name: str) -> bool:
        """Return whether a name is logged of a run at a step for the first time, and note it."""
        key = (label, step, name)
        is_new = key not in self._written
        self._written.add(key)
        return is_new

    def close(self) -> None:
        """Finish the run of Weights & Biases."""
        self._run.finish()


def check(name: str | None, mode: str, workdir: PathLike) -> None:
    """Raise UserError unless a log of this name can be written in this mode. It imports nothing.

    The name None stands for no log.
    """
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
    """Open the log of this name in the study's workdir while the body lasts, and yield the study with it.

    The name None stands for no log.

    Raises:
      UserError: the log cannot start.
    """
    if name is None:
        yield study
        return
    settings = [one for part in study.parts for one in grid.grid_settings(part.config.grid)]
    log = Log(_open(name, study), tuple(labels(settings)), pictured(settings))
    if len(log.pictured) < len(settings):
        print(f"log: samples are shown of {len(log.pictured)} of {len(settings)} runs, one of a level", flush=True)
    try:
        yield dataclasses.replace(study, log=log)
    finally:
        log.close()


def _open(name: str, study: Study) -> Writer:
    """Return the writer of a log."""
    if name == "tensorboard":
        return TensorBoard(study.workdir.tensorboard)
    return WeightsAndBiases(study.workdir.root, to_dict(study.config))
