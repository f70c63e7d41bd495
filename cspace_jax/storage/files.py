"""Files that are never seen half written, and errors of the disk in plain words."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator

from etils import epath

from cspace_jax.errors import UserError

PathLike = str | os.PathLike[str]
_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "it is a file or a dangling link, not a folder",
}


def located(path: PathLike) -> epath.Path:
    """Return a path, "~" expanded; one that starts with "/" is of this machine, "gs://bucket/x" is cloud storage.

    epath takes /gs, /s3, /az and /hf for cloud storage too. With two slashes they are the same folders, and local.
    """
    text = os.path.expanduser(os.fspath(path))
    taken = text.startswith("/") and "://" in os.fspath(epath.Path(text))
    return epath.Path(f"/{text}" if taken else text)


def write_atomic(path: PathLike, data: bytes | str) -> None:
    """Write a file so that a reader, or a restart after a kill, sees the old content or the new, never a part.

    Missing parent folders are made.

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
        raise UserError(f"cannot write {quoted(path)}: {' '.join(reason.split())}") from error


def _write_synced(path: epath.Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if "://" not in str(path):
            os.fsync(file.fileno())


def quoted(path: PathLike) -> str:
    return repr(os.fspath(path))
