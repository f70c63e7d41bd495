"""The workdir of a study: its paths, its creation or refusal, and the small files written beside the results."""

import contextlib
import dataclasses
import datetime
import errno
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from cspace_jax.config import Config, differing_fields, from_config_dict, to_dict
from cspace_jax.errors import UserError

PathLike = str | os.PathLike[str]
PACKAGES = (
    *("cspace_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint"),
    *("numpy", "scipy", "xarray", "ml-collections"),
)
MAX_EARLIER = 20  # invocations kept in env.json

_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "it is a file or a dangling link, not a folder",
}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Name the files of one study; nothing is created by naming it."""

    root: epath.Path

    @property
    def config(self) -> epath.Path:
        """Return the resolved configuration, JSON."""
        return self.root / "config.json"

    @property
    def env(self) -> epath.Path:
        """Return versions, devices, commit and command line, JSON."""
        return self.root / "env.json"

    @property
    def metrics(self) -> epath.Path:
        """Return the training log, one JSON line a run and logging step."""
        return self.root / "metrics.jsonl"

    @property
    def own_metrics(self) -> epath.Path:
        """Return the training log that this process may write: one of many processes has a part of its own."""
        if jax.process_count() == 1:
            return self.metrics
        return self.root / f"metrics.part_{jax.process_index():03d}.jsonl"

    @property
    def waves(self) -> epath.Path:
        """Return the rows of the grid in each wave, JSON; only where many processes share the study."""
        return self.root / "waves.json"

    @property
    def checkpoints(self) -> epath.Path:
        """Return the folder of checkpoints, stacked over runs."""
        return self.root / "checkpoints"

    @property
    def probe(self) -> epath.Path:
        """Return the folder of the trained probe."""
        return self.root / "probe"

    @property
    def eval(self) -> epath.Path:
        """Return the folder of raw evaluations, one file a checkpoint."""
        return self.root / "eval"

    @property
    def dataset(self) -> epath.Path:
        """Return the labelled dataset, netCDF."""
        return self.root / "concept_space.nc"

    @property
    def table(self) -> epath.Path:
        """Return the dataset as a tidy table, CSV."""
        return self.root / "concept_space.csv"

    @property
    def summary(self) -> epath.Path:
        """Return learning times, final accuracies, turning points and wall times, JSON."""
        return self.root / "summary.json"

    @property
    def figures(self) -> epath.Path:
        """Return the folder of figures and sample images."""
        return self.root / "figures"


def prepare(path: PathLike, config: Config, command_line: str | Sequence[str] = "") -> Workdir:
    """Create the workdir of a configuration, or enter it again to resume, and write config.json and env.json.

    Fields that never change a stored result (see `differing_fields`) may differ when it is entered again.
    Errors: UserError for a path that cannot be written or is no folder, a full disk, a folder of other files, a damaged
    config.json, or the workdir of another configuration (the differing fields are named).
    """
    workdir = Workdir(_root(path))
    _refuse_foreign(workdir, config)
    with writing(workdir.root):
        workdir.root.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0:
        write_atomic(workdir.config, _json(to_dict(config)))
        write_atomic(workdir.env, _json(_with_earlier(workdir.env, environment(command_line))))
    return workdir


def load(path: PathLike) -> tuple[Workdir, Config]:
    """Return an existing workdir and its configuration.

    Errors: UserError when there is no such folder or its config.json is missing, damaged or not valid.
    """
    workdir = Workdir(_root(path))
    if not workdir.root.exists():
        raise UserError(f"workdir = {_text(workdir.root)}: no such folder")
    if not workdir.root.is_dir():
        raise UserError(f"workdir = {_text(workdir.root)}: is a file, must be a folder")
    if not workdir.config.exists():
        raise UserError(f"workdir = {_text(workdir.root)}: has no config.json, so it is not a workdir of cspace_jax")
    return workdir, _read_config(workdir)


def write_atomic(path: PathLike, data: bytes | str) -> None:
    """Write a file so that a reader, or a restart after a kill, sees the old content or the new, never a part.

    Missing parent folders are made. Errors: UserError when it cannot be written, for example on a full disk.
    """
    target = epath.Path(path)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data.encode() if isinstance(data, str) else data)
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[None]:
    """Turn an OSError of the body into a UserError that names `path` and the cause in plain words."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise UserError(f"cannot write {_text(path)}: {' '.join(reason.split())}") from error


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


def environment(command_line: str | Sequence[str] = "") -> dict[str, Any]:
    """Return what a result may depend on besides its configuration, ready for JSON; starts JAX's backend."""
    devices = jax.devices()
    return {
        "command_line": command_line if isinstance(command_line, str) else shlex.join(command_line),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _root(path: PathLike) -> epath.Path:
    if not os.fspath(path).strip():
        raise UserError(f"workdir = {os.fspath(path)!r}: must be the path of a folder")
    return epath.Path(os.fspath(path)).expanduser()


def _refuse_foreign(workdir: Workdir, config: Config) -> None:
    """Raise UserError unless the workdir is new, empty, or of an equivalent configuration."""
    with writing(workdir.root):
        if not workdir.root.exists():
            return
        if not workdir.root.is_dir():
            raise UserError(f"workdir = {_text(workdir.root)}: is a file, must be a folder")
        if not workdir.config.exists():
            _refuse_other_files(workdir)
            return
    differing = differing_fields(_read_config(workdir), config)
    if differing:
        names = ", ".join(differing)
        raise UserError(f"workdir = {_text(workdir.root)}: belongs to another config, differing in {names}")


def _refuse_other_files(workdir: Workdir) -> None:
    # A kill while config.json was first written leaves only a temporary file.
    others = sorted(p.name for p in workdir.root.iterdir() if not (p.name.startswith(".") and p.name.endswith(".tmp")))
    if others:
        raise UserError(
            f"workdir = {_text(workdir.root)}: is not empty (it holds {others[0]!r}) and has no config.json, "
            "so it is not a workdir of cspace_jax"
        )


def _read_config(workdir: Workdir) -> Config:
    try:
        return from_config_dict(json.loads(workdir.config.read_text()))
    except UserError as error:
        raise UserError(f"{_text(workdir.config)} does not fit this version of cspace_jax: {error}") from error
    except ValueError as error:  # not JSON, or not text
        raise UserError(f"{_text(workdir.config)} is damaged ({error}): restore it or use another workdir") from error
    except OSError as error:
        raise UserError(f"cannot read {_text(workdir.config)}: {error.strerror or error}") from error


def _with_earlier(path: epath.Path, env: dict[str, Any]) -> dict[str, Any]:
    """Return `env` with the invocations recorded at `path` under "earlier", oldest first; none if that is damaged."""
    try:
        last = json.loads(path.read_text())
        earlier = [*last.pop("earlier", []), last]
    except (OSError, ValueError, AttributeError, TypeError):
        earlier = []
    return {**env, "earlier": earlier[-MAX_EARLIER:]}


def _write_synced(path: epath.Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if "://" not in str(path):
            os.fsync(file.fileno())


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _text(path: PathLike) -> str:
    return repr(os.fspath(path))


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


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the source tree, with "+changes" if it is modified; None when installed without one."""
    root = pathlib.Path(__file__).resolve().parents[1]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or pathlib.Path(top).resolve() != root:  # an enclosing, unrelated repository
        return None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    return commit and commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
