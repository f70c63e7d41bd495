"""Files that are never seen half written, and errors of the disk in plain words."""

import contextlib
import errno
import functools
import importlib.util
import json
import os
import re
import uuid
from collections.abc import Iterator

from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.paths import expanded, real_path, within
from cspace_jax.storage.file_names import CONFIG

PathLike = str | os.PathLike[str]
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}  # of fsspec
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
DISK_ERROR = "input/output error of the disk"  # the file itself may be whole
_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.EIO: DISK_ERROR,
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "it is a file or a dangling link, not a folder",
}
_ELSEWHERE = {
    errno.EIO: DISK_ERROR,
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOMEM: "out of memory",
}


def located(path: PathLike, name: str = "") -> epath.Path:
    """Return a path with "~" expanded.

    A path that starts with "/" is on this machine, "gs://bucket/x" is in cloud storage. epath takes /gs, /s3, /az and
    /hf for cloud storage too. With two slashes they are the same folders, and local.

    Args:
      path: of a file or folder.
      name: of the flag or field that holds it, for the message.

    Raises:
      UserError: no path, a kind of storage that is not known, or whose package is not installed, or "gs:/x".
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{name or 'path'} = {path!r}: must be the path of a file or folder")
    text = expanded(path)
    scheme, separator, _ = text.partition("://")
    if not separator and text.partition(":/")[0] in _PACKAGES:
        raise UserError(f"{f'{name} = ' if name else ''}{quoted(text)}: two slashes must follow the colon")
    if separator and (missing := _missing(scheme)):
        raise UserError(f"{f'{name} = ' if name else ''}{quoted(text)}: {missing}")
    taken = text.startswith("/") and "://" in os.fspath(epath.Path(text))
    return epath.Path(f"/{text}" if taken else text)


def require_outside(path: PathLike, root: PathLike, name: str) -> None:
    """Raise UserError if a path that is written to lies in the workdir `root`. The message calls the place `name`."""
    if within(root, path):
        raise UserError(f"{name} = {quoted(path)}: lies in the workdir {real_path(root)!r}, must be another folder")


def require_outside_all(path: PathLike, name: str) -> epath.Path:
    """Return a folder that is written to, unless it is a workdir or lies in one.

    A workdir is told by its config.json, which must hold a study.

    Raises:
      UserError: it is or lies in a workdir, or it is no path; the message calls the place `name`.
    """
    folder = located(path, name)
    if not os.fspath(path).strip():
        raise UserError(f"{name} = {os.fspath(path)!r}: must be the path of a folder")
    place = located(real_path(path))
    for root in (place, *place.parents):
        if within(root, place) and _holds_study(root):  # a bucket's parents are no places of the storage
            require_outside(path, root, name)
    return folder


def _holds_study(folder: epath.Path) -> bool:
    """Return whether a folder holds the configuration of a study, and not another program's config.json."""
    try:
        stored = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and {"study", "grid"} <= set(stored)


@functools.cache
def _missing(scheme: str) -> str:
    """Return what is missing to reach a kind of storage. Nothing missing gives ""."""
    if scheme not in _PACKAGES:
        return f"must be a path, or start with one of {', '.join(f'{name}://' for name in _PACKAGES)}"
    if any(importlib.util.find_spec(name) for name in (_PACKAGES[scheme], "tensorflow")):
        return ""
    return f"{scheme}:// needs a package that is not installed: pip install {_PACKAGES[scheme]}"


def write_atomic(path: PathLike, data: bytes | str) -> None:
    """Write a file so that a reader never sees a part of it.

    A reader, or a restart after a kill, sees the old content or the new. Missing parent folders are made.

    Raises:
      UserError: it cannot be written, for example on a full disk.
    """
    target = located(path)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data.encode() if isinstance(data, str) else data)
            temporary.replace(target)
            sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def is_rest(name: str) -> bool:
    """Return whether a name is that of a file that `write_atomic` had not finished."""
    return bool(_TEMPORARY.fullmatch(name))


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[None]:
    """Turn an OSError of the body into a UserError that names `path` and the cause in plain words."""
    try:
        yield
    except OSError as error:
        known = reason(error) or error.strerror or str(error)
        raise UserError(f"cannot write {quoted(path)}: {' '.join(known.split())}") from error


def reason(error: BaseException) -> str:
    """Return in plain words why a file could not be written. An unknown cause gives "".

    A cause that a library wraps is found as well.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _REASONS:
            return _REASONS[chain.errno]
        chain = chain.__cause__ or chain.__context__
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text:  # as tensorstore calls it
        return _REASONS[errno.ENOSPC]
    return next((words for number, words in _REASONS.items() if os.strerror(number) in text), "")


def not_its_fault(error: BaseException) -> str:
    """Return in plain words an error of reading that is not the file's fault.

    The file may be whole then. "" is returned if the file itself may be the cause.
    """
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError):
            return _ELSEWHERE[errno.ENOMEM]
        if isinstance(chain, OSError) and chain.errno in _ELSEWHERE:
            return _ELSEWHERE[chain.errno]
        chain = chain.__cause__ or chain.__context__
    text = str(error)  # of a library that wraps what it was
    return next((words for number, words in _ELSEWHERE.items() if os.strerror(number) in text), "")


def _write_synced(path: epath.Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if "://" not in str(path):
            os.fsync(file.fileno())


def sync_folder(folder: epath.Path) -> None:
    """Flush the names in a folder to the disk, so that a power cut does not undo a rename.

    Nothing happens in cloud storage and where the disk refuses it.
    """
    if "://" in str(folder):
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def quoted(path: PathLike) -> str:
    """Return a path in quotes, for messages."""
    return repr(os.fspath(path))
