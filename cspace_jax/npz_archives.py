"""Reading of NumPy's .npz archives, which may come from elsewhere.

Nothing in them is executed, and nothing larger than memory is read.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np

from cspace_jax import machine
from cspace_jax.text import one_line

DAMAGES = (OSError, ValueError, KeyError)


def names_in(file: str | os.PathLike[str] | IO[bytes]) -> list[str]:
    """Return the names of the arrays of an archive without reading an array.

    Raises:
      ValueError: the file is damaged, or is no archive of arrays.
      OSError: it cannot be read.
    """
    with _opened(file) as archive:
        return list(archive.files)


def read_npz(
    file: str | os.PathLike[str] | IO[bytes], keys: Sequence[str] | None = None, optional: bool = False
) -> dict[str, np.ndarray]:
    """Read named arrays of an archive.

    Args:
      file: path, or what was opened to read bytes.
      keys: of the arrays; None = all.
      optional: whether keys that are missing are left out.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: the file is damaged, or holds pickled objects, what is no array, or more than this machine's memory.
      OSError: it cannot be read.
    """
    with _opened(file) as archive:
        names = archive.files if keys is None else [key for key in keys if not optional or key in archive.files]
        _require_room(archive, names)
        if missing := [name for name in names if name not in archive.files]:
            raise KeyError(missing[0])
        return {name: _array(archive, name) for name in names}


@contextlib.contextmanager
def _opened(file: str | os.PathLike[str] | IO[bytes]) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an archive for the body, without pickled objects; raises as `names_in`."""
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open(file, "rb")) if isinstance(file, str | os.PathLike) else file
        with _damage("it"):
            archive = np.load(opened, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no archive of arrays")
        yield archive


def _array(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Return an array of an archive.

    Raises:
      ValueError: it is damaged or no array.
    """
    with _damage(repr(name)):
        array = archive[name]
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name!r} is not an array")
    return array


@contextlib.contextmanager
def _damage(what: str) -> Iterator[None]:
    """Turn any error that a damaged file makes NumPy raise into a ValueError. An OSError stays."""
    try:
        yield
    except OSError:
        raise
    except MemoryError as error:
        raise ValueError(f"{what} announces more than fits into memory") from error
    except Exception as error:
        raise ValueError(f"{what} is damaged ({type(error).__name__}: {one_line(error)})") from error


def _require_room(archive: np.lib.npyio.NpzFile, names: Sequence[str]) -> None:
    """Raise ValueError if the named members, unpacked, take more than this machine's memory."""
    assert archive.zip is not None, "it is open"
    sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.zip.infolist()}
    needed, there = sum(sizes.get(name, 0) for name in names), machine.memory()
    if needed > there:
        raise ValueError(f"it unpacks to {needed / 1e9:.3g} GB, more than the memory of this machine")
