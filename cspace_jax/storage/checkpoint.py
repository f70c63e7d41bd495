"""A checkpoint of a grid holds the state stacked over runs, one Orbax folder per save step.

The only file that knows how Orbax stores; `orbax_calls` keeps it quiet and in this process. A checkpoint holds a flat
dict from leaf name to array, the random keys as their raw data, and one CRC-32 per run, over its wave, its step, the
index of small leaves and all bytes: the storage format itself does not notice a flipped bit inside array data, nor the
place of another checkpoint.
Flat names keep the files independent of container classes, and make a misfit nameable; small leaves lie together
(`packing`). Nothing of a checkpoint says where its arrays were: any number of devices reads what any number wrote.
"""

import contextlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Sharding
from jaxtyping import Bool
from orbax.checkpoint import v1 as ocp

from cspace_jax.errors import UserError
from cspace_jax.storage import device_arrays, leaves, orbax_calls, packing
from cspace_jax.storage.damage import Damaged, damaged, reading
from cspace_jax.storage.files import PathLike, located, reason, sync_folder, writing
from cspace_jax.storage.workdir import place_of

PyTree = Any
_MARKS = ("commit_success.txt", "_CHECKPOINT_METADATA", "orbax.checkpoint")  # files of a complete checkpoint
_WAVE = re.compile(r"/(checkpoints/wave_\d+)/[^/]+/\d+$")  # of a checkpoint, in its workdir
_HOST_BYTES, _HOST_NUMBERS = np.empty((), np.uint8), np.empty((), np.uint32)  # kinds of arrays that are asked for
_GROUP_BYTES = 1 << 30  # most bytes of the arrays read at once, or one array, while one run is cut out of a checkpoint


class CheckpointWriter:
    """Write checkpoints in the background. As a context manager it waits for the last one.

    One save is in flight at a time. A failed save raises UserError at the next `save`, `wait` or `close`.

    Args:
      path: folder of the checkpoints, made when missing.
    """

    def __init__(self, path: PathLike):
        self._folder = _absolute(path)
        self._pending: Any = None
        self._step = -1
        self._bytes = 0

    def save(self, step: int, state: PyTree) -> None:
        """Start to save `state`. The call returns once its arrays are on the host (or owned by the writer).

        The state may be donated afterwards. A checkpoint of the same step is replaced.

        Args:
          step: training step, at least 0; the folder's name.
          state: tree of NumPy arrays, or of arrays which this process can address, [r, ...]; typed keys are allowed.
        """
        self.wait()
        self._step = step
        arrays = leaves.on_host(state)
        contents = packing.Contents.of(arrays)
        crc = leaves.checksum(arrays, _marks(self._folder / str(step), contents)[0])
        stored = {"leaves": packing.pack(arrays, contents), "crc32": crc, "index": contents.index_bytes}
        self._bytes = sum(array.nbytes for array in arrays.values())
        orbax_calls.quiet_in_the_background()
        with self._report_failure():
            self._folder.mkdir(parents=True, exist_ok=True)
            _discard(self._folder / str(step))
            self._pending = ocp.save_async(self._folder / str(step), stored)

    def wait(self) -> None:
        """Wait until the save in flight is complete on disk. UserError is raised if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._report_failure():
                pending.result()
                sync_folder(self._folder)

    close = wait

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        # An error of the body is the one to report, not what it did to the last save.
        with contextlib.suppress(*((UserError,) if exc_type else ())):
            self.wait()

    @contextlib.contextmanager
    def _report_failure(self) -> Iterator[None]:
        with orbax_calls.quiet(), orbax_calls.alone():
            try:
                yield
                return
            except Exception as e:
                known = reason(e)
                why = f"{known}; it needs about {self._bytes / 1e6:.3g} MB" if known else orbax_calls.line(e)
            orbax_calls.settle()
        raise UserError(f"checkpoint {self._folder / str(self._step)}: cannot be written ({why})")


def steps(path: PathLike) -> list[int]:
    """Return the steps of the complete checkpoints in `path`, ascending. A save cut short does not count."""
    folder = _absolute(path)
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and _is_complete(p))


def _is_complete(directory: epath.Path) -> bool:
    """Return whether a save was completed. In doubt Orbax is asked, which looks for the same files in 10 ms."""
    return all((directory / name).exists() for name in _MARKS) or ocp.is_orbax_checkpoint(directory)


def remove(path: PathLike, step: int) -> None:
    """Remove the checkpoint of a step, if there is one. UserError is raised if the disk refuses it."""
    directory = _absolute(path) / str(step)
    with writing(directory):
        _discard(directory)


def is_intact(path: PathLike, step: int) -> bool:
    """Return whether a step's checkpoint can be read and its checksums agree; UserError if it is missing."""
    try:
        checksums(path, step)
    except Damaged:
        return False
    return True


def checksums(path: PathLike, step: int) -> np.ndarray:
    """Read a whole checkpoint and return the checksum of each run, uint32 [r].

    Raises:
      UserError: the step is missing or damaged.
    """
    directory = _complete(path, step)
    contents = _described(directory)
    arrays, crc = _load(directory, contents, contents.forms)
    _verify(directory, contents, arrays, crc)
    return crc


def put_aside(path: PathLike, step: int) -> epath.Path:
    """Rename the checkpoint of a step, and return its new place. UserError is raised if the disk refuses it."""
    directory = _absolute(path) / str(step)
    names = (directory.with_name(f"{step}.damaged{'' if i == 0 else i}") for i in itertools.count())
    target = next(name for name in names if not name.exists())
    with writing(target):
        directory.rename(target)
        sync_folder(target.parent)
    return target


def latest_step(path: PathLike) -> int | None:
    """Return the last complete step in `path`, or None."""
    return max(steps(path), default=None)


def restore(path: PathLike, step: int, abstract_state: PyTree) -> PyTree:
    """Restore the whole stacked state, bit for bit, whatever device it was saved from.

    Args:
      path: folder of the checkpoints.
      step: one of `steps(path)`.
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct` [r, ...]; a leaf that carries a sharding is put there,
        any other on the default device.

    Returns:
      The tree, of new arrays that may be donated.

    Raises:
      UserError: the step is missing, damaged or made for another tree.
    """
    arrays = _restored(path, step, abstract_state)
    shardings = tuple(getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(abstract_state))
    return device_arrays.to_device(abstract_state, arrays, shardings)


def restore_groups(
    path: PathLike, step: int, abstract_state: PyTree, groups: Sequence[tuple[slice, Sharding]]
) -> list[PyTree]:
    """Restore a stacked state in groups of runs, each on its own devices. No device holds another's runs.

    Args:
      path: folder of the checkpoints.
      step: one of `steps(path)`.
      abstract_state: as in `restore`, of all runs; its shardings do not matter.
      groups: rows of the leading axis and where they go, as `Engine.groups`.

    Returns:
      A tree for each group, of new arrays that may be donated.

    Raises:
      UserError: as `restore`.
    """
    arrays = _restored(path, step, abstract_state)
    places = len(jax.tree.leaves(abstract_state))

    def put(rows: slice, place: Sharding) -> PyTree:
        part = {name: array[rows] for name, array in arrays.items()}
        return device_arrays.to_device(abstract_state, part, (place,) * places)

    return [put(rows, place) for rows, place in groups]


def equal_runs(path: PathLike, step: int, state: PyTree) -> Bool[np.ndarray, " r"]:
    """Return which runs of a stacked state [r, ...] equal those of a checkpoint, by their checksums.

    Raises:
      UserError: the step is missing or damaged.
    """
    directory, arrays = _complete(path, step), leaves.on_host(state)
    contents = _expected(directory, arrays)
    try:
        _, crc = _load(directory, contents, ())
    except Damaged:  # or it has other leaves than the state
        contents = _described(directory)
        _, crc = _load(directory, contents, ())
    return leaves.as_stored(arrays, _marks(directory, contents), crc)


def restore_run(path: PathLike, step: int, abstract_state: PyTree, run: int) -> PyTree:
    """Restore one run's slice of a stacked state onto the default device, such as a GPU's run on a CPU.

    Reads 1 GiB of the checkpoint at a time, or one array, so that a grid larger than memory can be opened.

    Args:
      path: folder of the checkpoints.
      step: one of `steps(path)`.
      abstract_state: as in `restore`; the length of its leading axis and its shardings do not matter.
      run: row of the leading axis, from 0.

    Returns:
      The tree of one run, without the leading axis.

    Raises:
      UserError: as `restore`, or no such run.
    """
    wanted = leaves.named(abstract_state)
    directory = _complete(path, step)
    contents = _described(directory)
    _check_fit(directory, contents, wanted, skip_axes=1)
    arrays: dict[str, np.ndarray] = {}
    crc = np.zeros(0, np.uint32)
    for names in _groups(contents, wanted):
        part, crc = _load(directory, contents, names, run)
        if not 0 <= run < len(crc):
            raise UserError(f"checkpoint {directory}: has no run {run}, only runs 0 to {len(crc) - 1}")
        arrays |= part
    _verify(directory, contents, arrays, crc[run : run + 1])
    row = {name: arrays[name].reshape(arrays[name].shape[1:]) for name in wanted}
    return device_arrays.to_device(abstract_state, row, (None,) * len(wanted))


def _restored(path: PathLike, step: int, abstract_state: PyTree) -> dict[str, np.ndarray]:
    """Return the checked arrays of a whole stacked state on the host, name -> array in the tree's order."""
    directory = _complete(path, step)
    wanted = leaves.named(abstract_state)
    # Most often it fits. Its description, which leaks memory, is read only to say what is wrong.
    with contextlib.suppress(Damaged):
        expected = _expected(directory, {name: leaves.form(leaf) for name, leaf in wanted.items()})
        arrays, crc = _load(directory, expected, wanted)
        if not leaves.misfit(arrays, wanted) and leaves.as_stored(arrays, _marks(directory, expected), crc).all():
            return arrays
    contents = _described(directory)
    _check_fit(directory, contents, wanted)
    arrays, crc = _load(directory, contents, wanted)
    _verify(directory, contents, arrays, crc)
    return arrays


def _absolute(path: PathLike) -> epath.Path:
    path = located(path)
    return path if "://" in os.fspath(path) else located(os.path.abspath(path))


def _marks(directory: epath.Path, contents: packing.Contents) -> tuple[str, ...]:
    """Return the texts that a checkpoint's checksums may begin with, the likeliest first.

    They are the wave and the step, then the step alone (older versions), each with the index; the last is "" without
    one. Outside of a workdir there is no wave.
    """
    wave = place_of(directory, _WAVE)
    marks = (*((f"{wave} {directory.name}",) if wave else ()), directory.name)
    return (*marks, "") if contents.index is None else tuple(f"{mark} {contents.index}" for mark in marks)


def _discard(directory: epath.Path) -> None:
    """Rename an old checkpoint, then remove it, so that a kill half-way leaves no half of it in place."""
    trash = directory.with_name(f"{directory.name}.discarded")
    if trash.exists():
        trash.rmtree()
    if directory.exists():
        directory.rename(trash)
        trash.rmtree()


def _verify(directory: epath.Path, contents: packing.Contents, arrays: dict[str, np.ndarray], crc: np.ndarray) -> None:
    if not leaves.as_stored(arrays, _marks(directory, contents), crc).all():
        raise damaged(directory, "checksums differ: its bytes, or it is of another step or wave")


def _complete(path: PathLike, step: int) -> epath.Path:
    """Return the folder of a complete checkpoint."""
    directory = _absolute(path) / str(step)
    available = steps(path)
    if step not in available:
        listed = ", ".join(map(str, available)) or "none"
        raise UserError(f"checkpoint {directory}: there is no complete checkpoint of step {step}; there are: {listed}")
    return directory


def _expected(directory: epath.Path, forms: Mapping[str, Any]) -> packing.Contents:
    """Return the contents of a checkpoint that holds leaves of these forms. The file says whether it has an index.

    Orbax's own list of names is asked: describing would keep memory.
    """
    try:
        names = [file.read_text() for file in directory.glob("*/_METADATA")]
    except (OSError, ValueError):
        names = []
    older = bool(names) and not any("('index',)" in text for text in names)
    return packing.Contents.apart(forms) if older else packing.Contents.of(forms)


def _described(directory: epath.Path) -> packing.Contents:
    """Return the contents that a checkpoint's own description names.

    Each call keeps a dozen small objects an array for ever (`Spec.to_json` of TensorStore 0.1.86): not for every step.
    """
    metadata = reading(directory, lambda: ocp.metadata(directory)).metadata
    try:
        stored, index = metadata["leaves"], None
        if metadata.keys() - {"index"} != {"leaves", "crc32"} or not isinstance(stored, dict):
            raise ValueError("other names")
        if "index" in metadata:
            (size,) = metadata["index"].shape
            if size > packing.INDEX_BYTES:
                raise ValueError("a long index")
            index = _index(directory, stored)
        return packing.Contents.found(stored, index)
    except UserError:  # what `reading` says
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise damaged(directory, "its description cannot be read") from error


def _index(directory: epath.Path, stored: Mapping[str, Any]) -> str:
    targets = {"leaves": dict.fromkeys(stored, ocp.PLACEHOLDER), "crc32": ocp.PLACEHOLDER, "index": _HOST_BYTES}
    return reading(directory, lambda: ocp.load(directory, targets))["index"].tobytes().decode()


def _check_fit(directory: epath.Path, contents: packing.Contents, wanted: dict[str, Any], skip_axes: int = 0) -> None:
    misfit = leaves.misfit(contents.forms, wanted, skip_axes)
    if misfit:
        checksums(directory.parent, int(directory.name))  # names come from the index, which may be what is damaged
        raise UserError(f"checkpoint {directory}: does not fit this configuration, {misfit}")


def _groups(contents: packing.Contents, names: Iterable[str]) -> Iterator[list[str]]:
    """Cut leaves into groups whose arrays hold at most `_GROUP_BYTES`, or are a single array."""
    group: list[str] = []
    size = 0
    for array, held in contents.holding(names).items():
        form = contents.stored[array]
        nbytes = math.prod(form.shape) * np.dtype(form.dtype).itemsize
        if group and size + nbytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group += held
        size += nbytes
    yield group


def _load(
    directory: epath.Path, contents: packing.Contents, names: Iterable[str], run: int | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Read some leaves as host arrays, in the order of `names`, and the checksums. With `run` arrays are [1, ...]."""
    names, stored = list(names), contents.stored
    # Targets are host arrays, never device arrays: those would ask for the devices that wrote the checkpoint.
    wanted = {name: np.empty((), stored[name].dtype) for name in contents.holding(names)}
    targets: dict[str, Any] = {"leaves": dict.fromkeys(stored, ocp.PLACEHOLDER) | wanted, "crc32": _HOST_NUMBERS}
    if contents.index is not None:
        targets["index"] = _HOST_BYTES
    loaded = reading(directory, lambda: ocp.load(directory, targets))
    arrays = {name: loaded["leaves"].pop(name) for name in wanted}
    others = [name for name in arrays.keys() & contents.packs.keys() if arrays[name].shape != stored[name].shape]
    if others or (contents.index is not None and not np.array_equal(loaded["index"], contents.index_bytes)):
        raise damaged(directory, "the index of its small leaves is of another checkpoint")
    if run is not None:
        arrays = {name: arrays.pop(name)[run : run + 1].copy() for name in wanted}
    return packing.unpack(arrays, contents, names), loaded["crc32"]
