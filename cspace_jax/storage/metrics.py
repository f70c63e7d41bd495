"""The training log metrics.jsonl: append, read, truncate and merge.

A line ends with the CRC-32 of its row, so that a damaged one is told from a true one. The checksum of added runs
covers their place too, `extensions/NNN`, since the study and its extensions both number their runs from 0.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage.file_names import PARTS_OF_LOG
from cspace_jax.storage.files import PathLike, quoted, write_atomic, writing
from cspace_jax.storage.workdir import Workdir, added

_CHECKSUM = re.compile(r', "([^"]*)": "([^"]*)"}$')  # the only value that is text


def append_metrics(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON line per row.

    NumPy and JAX scalars become numbers, NaN and infinity become null.

    Raises:
      UserError: the file cannot be written.
    """
    if text := _lines(rows, _place(path)):
        with writing(path), epath.Path(path).open("a") as file:
            file.write(text)


def read_metrics(path: PathLike) -> list[dict[str, Any]]:
    """Return the rows of a metrics file, without torn and damaged lines. A missing file gives none.

    Raises:
      UserError: the file cannot be read.
    """
    place = _place(path)
    return [row for line in _text(path).split("\n") if (row := _row(line, place)) is not None]


def damaged_lines(path: PathLike) -> list[int]:
    """Return the numbers, from 1, of the damaged lines of a metrics file.

    A last line without its end is not counted: a kill tore it.

    Raises:
      UserError: the file cannot be read.
    """
    lines, place = _text(path).split("\n")[:-1], _place(path)
    return [number for number, line in enumerate(lines, 1) if _row(line, place) is None]


def sync(path: PathLike) -> None:
    """Flush the appended rows to the disk, so that a power cut does not undo them.

    Raises:
      UserError: the disk refuses it.
    """
    file = epath.Path(path)
    if "://" not in str(file) and file.exists():
        with writing(path), file.open("a") as opened:
            os.fsync(opened.fileno())


def truncate_metrics(
    path: PathLike, after_step: int, runs: Collection[int] | None = None, then: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Drop damaged lines and the rows beyond `after_step`, so that a resumed run logs each step once.

    With `runs`, only rows of those runs are dropped (runs trained in an earlier wave keep theirs). The rows `then` are
    appended at once: a kill leaves the old file or the new one.

    Raises:
      UserError: the file cannot be read or written.
    """
    file = epath.Path(path)
    if not file.exists():
        return append_metrics(path, then)
    old, place = _text(path), _place(path)
    rows = [(line, _row(line, place)) for line in old.split("\n")]
    new = "".join(line + "\n" for line, row in rows if row is not None and not _beyond(row, after_step, runs))
    if new != old:
        write_atomic(file, new + _lines(then, place))
    else:
        append_metrics(path, then)


def log_files(workdir: Workdir) -> list[epath.Path]:
    """Return metrics.jsonl and the files that many processes have logged to since. The first may not exist."""
    return [workdir.metrics, *sorted(workdir.root.glob(PARTS_OF_LOG))]


def merge_metrics(workdir: Workdir) -> None:
    """Move the rows that many processes logged into metrics.jsonl, sorted by step and run.

    Of rows that were logged twice the later stays.

    Raises:
      UserError: a file cannot be read or written.
    """
    parts = log_files(workdir)[1:]
    if not parts:
        return
    rows = [row for path in (workdir.metrics, *parts) for row in read_metrics(path)]
    latest = {(row.get("step", 0), row.get("run", 0)): row for row in rows}
    write_atomic(workdir.metrics, "".join(_line(latest[key], _place(workdir.metrics)) for key in sorted(latest)))
    with writing(workdir.metrics):
        for part in parts:
            part.unlink()


def _scalar(value: Any) -> Any:
    """Return a scalar as a plain number; NaN and infinity become None."""
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _text(path: PathLike) -> str:
    """Return the text of a file. A missing one gives "".

    Raises:
      UserError: it cannot be read.
    """
    try:
        return epath.Path(path).read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise UserError(f"cannot read {quoted(path)}: {error.strerror or error}") from error


def _place(path: PathLike) -> str:
    """Return the place of a log, "extensions/NNN" for added runs and "" for the study."""
    text = os.fspath(path)
    return added(epath.Path(text if "://" in text else os.path.abspath(text)).parent).removesuffix("/")


def _lines(rows: Iterable[Mapping[str, Any]], place: str) -> str:
    """Return rows as the text of their lines."""
    return "".join(_line({key: _scalar(value) for key, value in row.items()}, place) for row in rows)


def _line(row: Mapping[str, Any], place: str) -> str:
    """Return a row as a line that ends with its checksum."""
    text = json.dumps(row)
    return f'{text[:-1]}, "crc32": "{_crc32(text + place)}"}}\n'


def _row(line: str, place: str) -> dict[str, Any] | None:
    """Return the row of a line.

    A line that is torn, damaged or of another place gives None. Old lines have no checksum.
    """
    found = _CHECKSUM.search(line)
    text = line if found is None else line[: found.start()] + "}"
    try:
        row = json.loads(text)
    except ValueError:
        return None
    whole = found is None or found.groups() == ("crc32", _crc32(text + place))
    return row if isinstance(row, dict) and whole else None


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _beyond(row: Mapping[str, Any], after_step: int, runs: Collection[int] | None) -> bool:
    """Return whether a row is beyond a step, and of one of `runs` if they are given."""
    return row.get("step", 0) > after_step and (runs is None or row.get("run") in runs)
