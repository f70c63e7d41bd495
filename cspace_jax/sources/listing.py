"""The listing that every reader of labelled pictures gives, and the functions that readers share."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from cspace_jax.config.reading import fail
from cspace_jax.paths import expanded, within
from cspace_jax.text import unpresentable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
MOST_BYTES = 64e6  # of a picture; the official ones of CelebA take some 10 kB
MOST_LABEL_BYTES = 1e9  # of a list of labels; that of CelebA takes 27 MB
HELD_SHARE = 10  # one picture in so many is held where nobody says which
SPLITS = {"train": False, "val": True, "valid": True, "validation": True, "test": True}  # name -> is it held


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """Labelled pictures, sorted by name. The pictures themselves are read later.

    Attributes:
      path: where they come from, for error messages.
      names: of the pictures, unique and sorted.
      concepts: label columns that hold two values, in the order of the file.
      words: for each concept the words of bit 0 and bit 1.
      bits: the labels.
      held: pictures that are never trained on (validation and test part).
      read: gives the encoded picture (JPEG, PNG, ...) of a name; None for arrays.
      pixels: for arrays the pictures, rows from the top, in the order of `names`.
      stamp: of every picture the size in bytes and the time of its last change in ns (in a zip its CRC-32); () for
        arrays.
      pictures: 16 hex digits over names and sizes, of arrays over names and content.
      fingerprint: 16 hex digits over `pictures`, the labels and `held`; no times, so a copy has the same.
      unusable: label columns that do not hold two values, and why.
      notes: lines for the user.
    """

    path: str
    names: tuple[str, ...]
    concepts: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    bits: UInt8[np.ndarray, "n concept"]
    held: Bool[np.ndarray, "n"]
    read: Callable[[str], bytes] | None
    pixels: UInt8[np.ndarray, "n h w 3"] | None
    stamp: tuple[tuple[int, int], ...]
    pictures: str
    fingerprint: str
    unusable: Mapping[str, str]
    notes: tuple[str, ...]


def listing_of(
    path: str,
    names: Sequence[str],
    concepts: Sequence[str],
    words: Sequence[tuple[str, str]],
    bits: np.ndarray,
    held: np.ndarray,
    *,
    read: Callable[[str], bytes] | None = None,
    pixels: np.ndarray | None = None,
    stamp: Sequence[tuple[int, int]] = (),
    unusable: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Listing:
    """Return a Listing of pictures, sorted by name and fingerprinted.

    Pictures that are read later may come in any order. Arrays must come sorted by name already. See `Listing` for the
    arguments; `bits` [n, concept] and `held` [n] are in the order of `names`.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    ordered = tuple(names[i] for i in order)
    stamps = tuple(stamp[i] for i in order) if stamp else ()
    content = np.array([size for size, _ in stamps], np.int64) if pixels is None else np.ascontiguousarray(pixels)
    unsigned = Listing(
        path=path,
        names=ordered,
        concepts=tuple(concepts),
        words=tuple(words),
        bits=np.ascontiguousarray(bits[order], np.uint8),
        held=np.ascontiguousarray(held[order], bool),
        read=read,
        pixels=pixels,
        stamp=stamps,
        pictures=_digest(*ordered, content),
        fingerprint="",
        unusable=dict(unusable or {}),
        notes=tuple(notes),
    )
    return fingerprinted(unsigned)


def require_presentable(path: str, concepts: Sequence[str], words: Sequence[Sequence[str]]) -> None:
    """Raise UserError for names that a terminal, a figure or a spreadsheet would misread."""
    for name in (*concepts, *itertools.chain.from_iterable(words)):
        if why := unpresentable(name):
            refuse(path, why)


def fingerprinted(listing: Listing) -> Listing:
    """Return the listing with the fingerprint of its present labels."""
    words = [word for pair in listing.words for word in pair]
    fingerprint = _digest(listing.pictures, *listing.concepts, *words, listing.bits, listing.held)
    return dataclasses.replace(listing, fingerprint=fingerprint)


def own_split(names: Sequence[str]) -> Bool[np.ndarray, "n"]:
    """Return which pictures are held, [n]: a tenth, by a hash of the file name.

    The choice is the same on all machines.
    """
    firsts = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8] for name in names)
    return np.array([int.from_bytes(first, "big") % HELD_SHARE == 0 for first in firsts], bool)


def plain_words(name: str) -> tuple[str, str]:
    """Return the words of bit 0 and bit 1 of a yes-or-no column: "not smiling", "smiling"."""
    word = " ".join(name.lower().replace("_", " ").split())
    return f"not {word}", word


def is_picture(name: str) -> bool:
    """Return whether a file looks like a picture by its suffix and is not hidden."""
    return name.lower().endswith(SUFFIXES) and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def some(names: Iterable[str], limit: int = 3) -> str:
    """Return the first `limit` names in quotes, with ", ..." if there are more."""
    names = list(names)
    return ", ".join(map(repr, names[:limit])) + (", ..." if len(names) > limit else "")


def repeated(names: Sequence[str]) -> list[str]:
    """Return the names that occur more than once, each once."""
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))


def read_bounded(folder: str, file: str, what: str = "a picture", most: float = MOST_BYTES) -> bytes:
    """Return the content of a file of a folder.

    Args:
      folder: where the pictures are.
      file: path of the file.
      what: it is, for messages.
      most: bytes that are read.

    Raises:
      UserError: the file is a link that leads out of the folder, or larger.
      OSError: it cannot be read.
    """
    name = os.path.relpath(file, folder)
    if not within(folder, file):
        refuse(folder, f"{name!r} is a link that leads out of the folder")
    with open(file, "rb") as opened:
        if (size := os.fstat(opened.fileno()).st_size) > most:
            refuse(folder, f"{name!r} takes {size / 1e6:,.0f} MB, {what} may take {most / 1e6:.0f}")
        return opened.read()


def folder_at(path: str | os.PathLike[str]) -> str:
    """Return the path of an existing folder on this machine, with "~" expanded.

    Raises:
      UserError: there is none.
    """
    folder = expanded(path)
    if not folder:
        refuse(path, "must name the folder of the pictures")
    if "://" in folder:
        refuse(path, "must be a folder on this machine")
    if os.path.isfile(folder):
        refuse(path, "is a file, not a folder (of files only arrays are read, FILE.npz)")
    if not os.path.isdir(folder):
        refuse(path, "no such folder")
    return folder


def refuse(path: str | os.PathLike[str], text: str) -> typing.NoReturn:
    """Raise the UserError `data.path = PATH: TEXT`, always one line."""
    fail("data.path", os.fspath(path), " ".join(text.split()))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an OSError of the body into a UserError that names data.path, the file and the cause."""
    try:
        yield
    except OSError as error:
        file = f" {os.fspath(error.filename)!r}" if isinstance(error.filename, str | os.PathLike) else ""
        refuse(path, f"cannot read{file}: {error.strerror or error}")


def _digest(*parts: str | np.ndarray) -> str:
    """Return 16 hex digits over texts and arrays. The length of each counts, so that no two run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(b"text %d " % len(data) + data)
        else:
            digest.update(f"array {part.dtype.str} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
