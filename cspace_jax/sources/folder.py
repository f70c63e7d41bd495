"""Reader of pictures in a folder.

Their labels stand in labels.csv or in the names of its subfolders.
"""

import csv
import dataclasses
import io
import os
import re
import string
from collections.abc import Callable, Sequence

import numpy as np

from cspace_jax.paths import real_path, within
from cspace_jax.sources.listing import (
    MOST_LABEL_BYTES,
    SPLITS,
    Listing,
    folder_at,
    is_picture,
    listing_of,
    own_split,
    plain_words,
    read_bounded,
    reading,
    refuse,
    repeated,
    some,
)

LABELS = "labels.csv"
CONCEPTS = "concepts.txt"
FILE_COLUMNS = ("file", "filename", "image_id")
_NATURAL = (("0", "1"), ("-1", "1"), ("no", "yes"), ("false", "true"))  # columns that say only yes or no
_NUMBERS = {"0.0": "0", "1.0": "1", "-1.0": "-1", "+1": "1"}
_NO_SPLIT = f"no column 'split' in {LABELS}: one picture in ten, by a hash of its name, is never trained on"


def read(path: str | os.PathLike[str]) -> Listing:
    """List the pictures of a folder.

    It holds either `labels.csv`, with the column `file` (or `filename`, `image_id`), perhaps `split` (train, val or
    test) and columns of two values each; or folders named by the bits of a class, 00, 01, ..., and perhaps
    `concepts.txt` with a line `name: word of 0, word of 1` for each bit.

    Returns:
      The pictures that have labels.

    Raises:
      UserError: there is neither, or labels and pictures do not fit.
    """
    folder = folder_at(path)
    with reading(path):
        if os.path.lexists(os.path.join(folder, LABELS)):
            return _labelled(folder)
        return _classes(folder)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Hold the files below a folder by their relative name, and the links that lead out of it."""

    inside: dict[str, os.DirEntry[str]]
    outside: tuple[str, ...]


def _files(folder: str) -> _Files:
    """List all files below a folder. Links to places outside of it are not followed."""
    root = real_path(folder)
    inside: dict[str, os.DirEntry[str]] = {}
    outside: list[str] = []
    # A folder's prefix, and the real folders on the way to it, to which no link leads back.
    pending: list[tuple[str, tuple[str, ...]]] = [("", (root,))]
    while pending:
        prefix, way = pending.pop()
        with os.scandir(os.path.join(folder, prefix)) as entries:
            for entry in entries:
                name, linked = prefix + entry.name, entry.is_symlink()
                real = os.path.realpath(entry.path) if linked else os.path.join(way[-1], entry.name)
                if linked and not within(root, real):
                    outside.append(name)
                elif entry.is_dir():
                    if real not in way:
                        pending.append((name + "/", (*way, real)))
                elif entry.is_file():
                    inside[name] = entry
    return _Files(inside, tuple(outside))


def _reader(folder: str) -> Callable[[str], bytes]:
    """Return the function that reads a picture by its name."""

    def read_file(name: str) -> bytes:
        return read_bounded(folder, os.path.join(folder, name))

    return read_file


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Return the size of a file in bytes and the time of its last change in ns."""
    status = entry.stat()
    return status.st_size, status.st_mtime_ns


# labels.csv


def _labelled(folder: str) -> Listing:
    """List the pictures that labels.csv names."""
    header, rows = _table(folder)
    column = next((name for name in FILE_COLUMNS if name in header), None)
    if column is None:
        refuse(folder, f"{LABELS} has no column 'file' (or 'filename', 'image_id'), only {some(header, 10)}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    columns.pop("", None)  # numbers of rows
    names = [_inside_name(folder, text) for text in columns.pop(column)]
    split = columns.pop("split", None)
    if not columns:
        refuse(folder, f"{LABELS} has no column of labels beside {column!r}")
    if twice := repeated(names):
        refuse(folder, f"{LABELS} names pictures more than once: {len(twice)} ({some(twice)})")
    files = _files(folder)
    _refuse_absent(folder, names, files)
    read_as = {name: _binary(name, values) for name, values in columns.items()}
    concepts = [name for name, value in read_as.items() if not isinstance(value, str)]
    usable = [value for value in read_as.values() if not isinstance(value, str)]
    notes = [] if split else [_NO_SPLIT]
    unusable = {name: value for name, value in read_as.items() if isinstance(value, str)}
    notes += [f"{folder!r}: column {name!r} of {LABELS} is not used, {why}" for name, why in unusable.items()]
    labelled = set(names)
    if extra := sorted(name for name in files.inside if name not in labelled and is_picture(name)):
        notes.append(f"{folder!r} has pictures without a label, which are not used: {len(extra)} ({some(extra)})")
    return listing_of(
        folder,
        names,
        concepts,
        [words for words, _ in usable],
        np.array([bits for _, bits in usable], np.uint8).reshape(len(usable), len(names)).T,
        _held(folder, split) if split else own_split(names),
        read=_reader(folder),
        stamp=[_stamp(files.inside[name]) for name in names],
        unusable=unusable,
        notes=notes,
    )


def _table(folder: str) -> tuple[list[str], list[list[str]]]:
    """Read the header and the rows of labels.csv, without blanks around values."""
    data = read_bounded(folder, os.path.join(folder, LABELS), "labels", MOST_LABEL_BYTES)
    try:
        text = data.decode("utf-8-sig")
        delimiter = max(",;", key=text.partition("\n")[0].count)
        parsed = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        lines = [(parsed.line_num, [cell.strip() for cell in row]) for row in parsed]
    except (UnicodeDecodeError, csv.Error) as error:
        refuse(folder, f"{LABELS} is not a table in UTF-8: {error}")
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        refuse(folder, f"{LABELS} is empty")
    header = lines[0][1]
    header = [name.lower() if name.lower() in (*FILE_COLUMNS, "split") else name for name in header]
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            refuse(folder, f"line {number} of {LABELS} has {len(cells)} values, the header {len(header)}")
    if twice := repeated([name for name in header if name]):
        refuse(folder, f"{LABELS} has the column {twice[0]!r} twice")
    if len(lines) == 1:
        refuse(folder, f"{LABELS} names no pictures, it is empty below its header")
    return header, [cells for _, cells in lines[1:]]


def _inside_name(folder: str, text: str) -> str:
    """Return a path relative to the folder in one spelling, with slashes.

    Raises:
      UserError: it leads out of the folder, or is empty.
    """
    parts = text.replace("\\", "/").split("/")
    if ".." in parts or (text and not parts[0]) or re.match("[A-Za-z]:", text):
        refuse(folder, f"{LABELS} names {text!r}, which leads out of the folder")
    name = "/".join(part for part in parts if part not in ("", "."))
    if not name:
        refuse(folder, f"{LABELS} has a row without the name of a file")
    return name


def _refuse_absent(folder: str, names: Sequence[str], files: _Files) -> None:
    """Raise UserError if a named picture is not there."""
    absent = [name for name in names if name not in files.inside]
    links = tuple(f"{link}/" for link in files.outside)
    if leaving := [name for name in absent if f"{name}/".startswith(links)]:
        refuse(folder, f"{LABELS} names {leaving[0]!r}, a link that leads out of the folder")
    if absent:
        refuse(folder, f"{LABELS} names pictures that are not there: {len(absent)} ({some(absent)})")


def _held(folder: str, split: Sequence[str]) -> np.ndarray:
    """Return which pictures are held, that is never trained on, bool [n].

    Raises:
      UserError: a part is unknown.
    """
    unknown = sorted({value for value in split if value.lower() not in SPLITS})
    if unknown:
        refuse(folder, f"column 'split' of {LABELS} holds {unknown[0]!r}, must be one of {', '.join(SPLITS)}")
    return np.array([SPLITS[value.lower()] for value in split], bool)


def _binary(name: str, values: Sequence[str]) -> tuple[tuple[str, str], list[bool]] | str:
    """Return the words and the bits of a column, or the reason why it is not binary."""
    if empty := values.count(""):
        return f"{empty} of {len(values)} values are empty"
    spelled = {value: _NUMBERS.get(value, value.lower()) for value in set(values)}
    kinds = tuple(sorted(set(spelled.values())))
    if kinds in _NATURAL:
        return plain_words(name), [spelled[value] == kinds[1] for value in values]
    words = sorted(spelled)
    if len(words) == 2:
        return (words[0], words[1]), [value == words[1] for value in values]
    count = f"{len(words)} different values" if len(words) > 1 else "only one value"
    return f"it holds {count}, {some(words, 4)}"


# folders named by class


def _classes(folder: str) -> Listing:
    """List the pictures in folders named by class."""
    with os.scandir(folder) as entries:
        codes = sorted(entry.name for entry in entries if re.fullmatch("[01]+", entry.name) and entry.is_dir())
    if not codes:
        refuse(folder, f"holds neither {LABELS} nor folders named by class, 00, 01, 10, 11")
    length = len(codes[0])
    if other := [code for code in codes if len(code) != length]:
        refuse(folder, f"class folders must have names of one length, not {codes[0]!r} and {other[0]!r}")
    if length > len(string.ascii_lowercase):
        refuse(folder, f"class folder {codes[0]!r} must have at most {len(string.ascii_lowercase)} bits")
    files = _files(folder)
    leaving = [code for code in codes if code in files.outside]
    if leaving:
        refuse(folder, f"class folder {leaving[0]!r} is a link that leads out of the folder")
    names = [name for name in files.inside if is_picture(name) and name.partition("/")[0] in codes and "/" in name]
    if not names:
        refuse(folder, f"the class folders {some(codes, 4)} hold no pictures (.jpg, .png, ...)")
    concepts, words = _named(folder, length)
    return listing_of(
        folder,
        names,
        concepts,
        words,
        np.array([[int(bit) for bit in name.partition("/")[0]] for name in names], np.uint8),
        own_split(names),
        read=_reader(folder),
        stamp=[_stamp(files.inside[name]) for name in names],
        notes=["class folders have no split: one picture in ten, by a hash of its name, is never trained on"],
    )


def _named(folder: str, length: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the names and words of the bits of a class, from concepts.txt if there is one."""
    file = os.path.join(folder, CONCEPTS)
    if not os.path.lexists(file):
        letters = list(string.ascii_lowercase[:length])
        return letters, [(f"{letter}0", f"{letter}1") for letter in letters]
    data = read_bounded(folder, file, "names of concepts", MOST_LABEL_BYTES)
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        refuse(folder, f"{CONCEPTS} is not text in UTF-8: {error}")
    lines = [line for line in lines if line]
    if len(lines) != length:
        refuse(folder, f"{CONCEPTS} has {len(lines)} lines, must have one for each of the {length} bits of a class")
    concepts: list[str] = []
    pairs: list[tuple[str, str]] = []
    for line in lines:
        name, _, rest = (part.strip() for part in line.partition(":"))
        words = [word.strip() for word in rest.split(",")]
        if not name or len(words) != 2 or not all(words) or words[0] == words[1]:
            refuse(folder, f"line {line!r} of {CONCEPTS} must be 'name: word of 0, word of 1'")
        concepts.append(name)
        pairs.append((words[0], words[1]))
    if twice := repeated(concepts):
        refuse(folder, f"{CONCEPTS} has the concept {twice[0]!r} twice")
    return concepts, pairs
