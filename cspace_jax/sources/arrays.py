"""Reader of pictures and labels in one .npz file."""

import os
import string
import zipfile
from collections.abc import Mapping

import numpy as np

from cspace_jax.errors import UserError
from cspace_jax.npz_archives import DAMAGES, read_npz
from cspace_jax.paths import expanded
from cspace_jax.sources.listing import SPLITS, Listing, listing_of, own_split, plain_words, reading, refuse, repeated

KEYS = ("images", "bits", "concepts", "words", "split")
_NO_SPLIT = "no array 'split': one picture in ten, by a hash of its number, is never trained on"


def read(path: str | os.PathLike[str]) -> Listing:
    """List the pictures of a .npz file.

    It holds `images`, uint8 [n, h, w, 3] or grey [n, h, w], rows from the top, and `bits` [n, concept] of 0 and 1;
    perhaps `concepts`, their names, `words` [concept, 2] of bit 0 and 1, and `split` [n], train, val or test (or 0, 1,
    2).

    Returns:
      All pictures, named by their number, "000000", "000001", ...

    Raises:
      UserError: the file is none or damaged, or an array is missing or does not fit.
    """
    file = expanded(path)
    if not os.path.isfile(file):
        refuse(path, "no such file")
    loaded = _load(path, file)
    for key in ("images", "bits"):
        if key not in loaded:
            refuse(path, f"has no array {key!r}, only {', '.join(sorted(loaded)) or 'nothing'}")
    images = _images(path, loaded["images"])
    bits = _bits(path, loaded["bits"], len(images))
    concepts, words = _named(path, loaded, bits.shape[1])
    digits = max(6, len(str(len(images) - 1)))
    names = [f"{i:0{digits}d}" for i in range(len(images))]
    held = _held(path, loaded["split"], len(images)) if "split" in loaded else own_split(names)
    notes = [] if "split" in loaded else [_NO_SPLIT]
    return listing_of(os.fspath(path), names, concepts, words, bits, held, pixels=images, notes=notes)


def _load(path: str | os.PathLike[str], file: str) -> Mapping[str, np.ndarray]:
    """Return the known arrays of the file.

    Raises:
      UserError: it is none or damaged.
    """
    if not zipfile.is_zipfile(file):
        refuse(path, "is not a .npz file, or damaged")
    try:
        with reading(path):
            return read_npz(file, KEYS, optional=True)
    except UserError:
        raise
    except DAMAGES as error:
        refuse(path, f"cannot be read: {error}")


def _images(path: str | os.PathLike[str], images: np.ndarray) -> np.ndarray:
    """Return the pictures as uint8 [n, h, w, 3].

    Raises:
      UserError: they have another type or shape.
    """
    if images.dtype != np.uint8:
        refuse(path, f"'images' must be uint8, not {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        refuse(path, f"'images' must have the shape [n, h, w, 3] or [n, h, w], not {list(images.shape)}")
    return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))


def _bits(path: str | os.PathLike[str], bits: np.ndarray, n: int) -> np.ndarray:
    """Return the labels as uint8 [n, concept].

    Raises:
      UserError: they have another type, shape or value.
    """
    if bits.dtype.kind not in "biu":
        refuse(path, f"'bits' must be integers, not {bits.dtype}")
    if bits.ndim != 2 or not 1 <= bits.shape[1] <= len(string.ascii_lowercase):
        refuse(path, f"'bits' must have the shape [n, concept], not {list(bits.shape)}")
    if len(bits) != n:
        refuse(path, f"'bits' has {len(bits)} rows, 'images' {n}")
    if wrong := sorted(set(np.unique(bits).tolist()) - {0, 1}):
        refuse(path, f"'bits' must hold 0 and 1, not {wrong[0]}")
    return bits.astype(np.uint8)


def _named(
    path: str | os.PathLike[str], loaded: Mapping[str, np.ndarray], count: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the concepts and their words, made up where the file holds none.

    Raises:
      UserError: names or words do not fit.
    """
    letters = list(string.ascii_lowercase[:count])
    concepts = _texts(path, "concepts", loaded["concepts"], (count,)).tolist() if "concepts" in loaded else letters
    if "" in concepts or repeated(concepts):
        refuse(path, f"'concepts' must hold different names, not {concepts}")
    if "words" in loaded:
        words = [(zero, one) for zero, one in _texts(path, "words", loaded["words"], (count, 2)).tolist()]
        if wrong := [pair for pair in words if "" in pair or pair[0] == pair[1]]:
            refuse(path, f"'words' must hold two different words a concept, not {wrong[0]}")
        return concepts, words
    if "concepts" in loaded:
        return concepts, [plain_words(name) for name in concepts]
    return concepts, [(f"{letter}0", f"{letter}1") for letter in letters]


def _held(path: str | os.PathLike[str], split: np.ndarray, n: int) -> np.ndarray:
    """Return which pictures are held, that is never trained on, bool [n].

    Raises:
      UserError: a value is unknown.
    """
    if split.dtype.kind in "biu" and split.shape == (n,):
        known, held = {0, 1, 2}, split != 0
    else:
        split = np.char.lower(_texts(path, "split", split, (n,)))
        known, held = set(SPLITS), np.isin(split, [name for name, is_held in SPLITS.items() if is_held])
    if wrong := sorted(set(map(int if split.dtype.kind in "biu" else str, split)) - known):
        refuse(path, f"'split' holds {wrong[0]!r}, must be one of {', '.join(SPLITS)} (or 0, 1, 2)")
    return held


def _texts(path: str | os.PathLike[str], key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of texts without blanks around them.

    Raises:
      UserError: it has another type or shape.
    """
    if array.dtype.kind != "U":
        refuse(path, f"{key!r} must be text, not {array.dtype}")
    if array.shape != shape:
        refuse(path, f"{key!r} must have the shape {list(shape)}, as 'bits' says, not {list(array.shape)}")
    return np.char.strip(array)
