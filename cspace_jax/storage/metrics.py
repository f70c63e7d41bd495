"""The training log metrics.jsonl: append, read, truncate, merge."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from etils import epath

from cspace_jax.storage.files import PathLike, write_atomic, writing
from cspace_jax.storage.workdir import Workdir


def append_metrics(path: PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one JSON line per row; NumPy and JAX scalars become numbers, NaN and infinity become null."""
    text = "".join(json.dumps({key: _scalar(value) for key, value in row.items()}) + "\n" for row in rows)
    with writing(path), epath.Path(path).open("a") as file:
        file.write(text)


def read_metrics(path: PathLike) -> list[dict[str, Any]]:
    """Return the rows of a metrics file, none when it does not exist; lines torn by a kill are left out."""
    file = epath.Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return [row for row in map(_row, lines) if row is not None]


def truncate_metrics(path: PathLike, after_step: int, runs: Collection[int] | None = None) -> None:
    """Drop the rows with a step beyond `after_step`, and torn lines, so that a resumed run logs each step once.

    With `runs`, only rows of those runs are dropped (runs trained in an earlier wave keep theirs).
    """
    file = epath.Path(path)
    if not file.exists():
        return
    old = file.read_text()
    rows = [(line, _row(line)) for line in old.splitlines()]
    new = "".join(line + "\n" for line, row in rows if row is not None and not _beyond(row, after_step, runs))
    if new != old:
        write_atomic(file, new)


def merge_metrics(workdir: Workdir) -> None:
    """Move the rows that many processes logged into metrics.jsonl, by step and run; of rows logged twice the later."""
    parts = sorted(workdir.root.glob("metrics.part_*.jsonl"))
    if not parts:
        return
    rows = [row for path in (workdir.metrics, *parts) for row in read_metrics(path)]
    latest = {(row.get("step", 0), row.get("run", 0)): row for row in rows}
    write_atomic(workdir.metrics, "".join(json.dumps(latest[key]) + "\n" for key in sorted(latest)))
    with writing(workdir.metrics):
        for part in parts:
            part.unlink()


def _scalar(value: Any) -> Any:
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _beyond(row: Mapping[str, Any], after_step: int, runs: Collection[int] | None) -> bool:
    return row.get("step", 0) > after_step and (runs is None or row.get("run") in runs)
