"""Reader of CelebA as its authors, torchvision or Kaggle lay it out. It downloads nothing."""

import dataclasses
import itertools
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cspace_jax.paths import within
from cspace_jax.sources.listing import (
    MOST_BYTES,
    MOST_LABEL_BYTES,
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

PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
ATTRIBUTES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITION = ("list_eval_partition.txt", "list_eval_partition.csv")
PICTURES = "img_align_celeba"
ARCHIVE = f"{PICTURES}.zip"
TRAINING, OTHERS = 162_770, 19_867 + 19_962  # pictures of the official parts
_OFFICIAL = f"the official files are {ATTRIBUTES[0]}, {PARTITION[0]} and {ARCHIVE} from {PAGE}"
_FOLDERS = ("", "Anno", "Eval", "Img", "celeba", "celeba/Anno", "celeba/Eval", "celeba/Img")
_SEPARATORS = bytes.maketrans(b',;"', b"   ")
_WORDS = {"Male": ("female", "male"), "No_Beard": ("beard", "no beard")}


def read(path: str | os.PathLike[str]) -> Listing:
    """List the pictures of CelebA.

    `list_attr_celeba.txt` (or .csv), `list_eval_partition.txt` (or .csv; may be absent) and the pictures, in a folder
    `img_align_celeba` or unopened in `img_align_celeba.zip`, are looked for at `path`, in `celeba` and in the folders
    `Anno`, `Eval` and `Img` of the authors' drive.

    Returns:
      The pictures that have labels; those of the validation and the test part are held.

    Raises:
      UserError: a file is missing or damaged, or no picture has labels.
    """
    folder = folder_at(path)
    with reading(path):
        attributes = _find(folder, ATTRIBUTES)
        if not attributes:
            refuse(path, f"there is no {ATTRIBUTES[0]} (or .csv); {_OFFICIAL}")
        concepts, labelled, bits, notes = _attributes(folder, attributes)
        pictures = _pictures(folder)
        rows = np.array([i for i, name in enumerate(labelled) if name in pictures.names], int)
        names = [labelled[i] for i in rows]
        notes += _unmatched(folder, labelled, names, pictures.names)
        partition = _find(folder, PARTITION)
        if not partition:
            notes.append(
                f"there is no {os.path.join(folder, PARTITION[0])!r}, the authors' split: one picture in ten, by a"
                " hash of its name, is never trained on"
            )
        return listing_of(
            folder,
            names,
            concepts,
            [words_of(name) for name in concepts],
            bits[rows],
            _partition(folder, partition, names) if partition else own_split(names),
            read=pictures.read,
            stamp=[pictures.stamp(name) for name in names],
            notes=notes,
        )


def words_of(attribute: str) -> tuple[str, str]:
    """Return the words of bit 0 and bit 1 of an attribute, such as ("not smiling", "smiling")."""
    return _WORDS.get(attribute) or plain_words(attribute)


def _find(folder: str, names: Sequence[str]) -> str:
    """Return the first of these files in the known folders. No such file gives ""."""
    files = (os.path.join(folder, below, name) for below, name in itertools.product(_FOLDERS, names))
    return next((file for file in files if os.path.isfile(file)), "")


# labels


def _attributes(folder: str, file: str) -> tuple[list[str], list[str], np.ndarray, list[str]]:
    """Return the names of attributes and of pictures, the bits [picture, attribute], and notes."""
    lines, data = _opened(folder, file)
    name = os.path.basename(file)
    count = lines[0].split()
    skipped = 1 if len(count) == 1 and count[0].isdigit() else 0
    header = lines[skipped].decode("utf-8", "replace").split()
    concepts = header[1:] if header[:1] and header[0].lower() in ("image_id", "file", "filename") else header
    if not concepts or repeated(concepts):
        refuse(folder, f"line {skipped + 1} of {name} must hold the names of the attributes, each once")
    pictures, values = _table(folder, name, data, skipped + 1, len(concepts) + 1)
    if not pictures:
        refuse(folder, f"{name} names no pictures")
    low, high = (-1, 1) if (values < 0).any() else (0, 1)
    wrong = np.argwhere((values != low) & (values != high))
    if wrong.size:
        row, column = wrong[0]
        text = f"{concepts[column]} of {pictures[row]!r} is {values[row, column]}, must be {low} or {high}"
        refuse(folder, f"in {name} {text}")
    if twice := repeated(pictures):
        refuse(folder, f"{name} names pictures more than once: {len(twice)} ({some(twice)})")
    notes = []
    if skipped and int(count[0]) != len(pictures):
        notes.append(f"{name} says that it has {int(count[0])} pictures, and has {len(pictures)}")
    return concepts, pictures, (values == 1).astype(np.uint8), notes


def _partition(folder: str, file: str, names: Sequence[str]) -> np.ndarray:
    """Return which of the named pictures are of the validation or the test part, bool [n]."""
    lines, data = _opened(folder, file)
    file_name = os.path.basename(file)
    skipped = 1 if lines[0].split()[:1] == [b"image_id"] else 0
    pictures, values = _table(folder, file_name, data, skipped, 2)
    if values.size and not 0 <= values.min() <= values.max() <= 2:
        row = np.flatnonzero((values < 0) | (values > 2))[0]
        refuse(folder, f"in {file_name} the part of {pictures[row]!r} is {values[row, 0]}, must be 0, 1 or 2")
    parts = dict(zip(pictures, values[:, 0].tolist(), strict=True))
    if absent := [name for name in names if name not in parts]:
        refuse(folder, f"{file_name} lacks {len(absent)} of {len(names)} pictures: {some(absent)}")
    return np.array([parts[name] != 0 for name in names], bool)


def _opened(folder: str, file: str) -> tuple[list[bytes], bytes]:
    """Return the first two lines and the whole of a text file, with blanks for commas, semicolons and quotes."""
    data = read_bounded(folder, file, "labels", MOST_LABEL_BYTES)
    data = data.removeprefix(b"\xef\xbb\xbf").translate(_SEPARATORS)
    return (data.split(b"\n", 2) + [b"", b""])[:2], data


def _table(folder: str, file: str, data: bytes, skipped: int, width: int) -> tuple[list[str], np.ndarray]:
    """Read lines of a name and numbers of one digit, all at once.

    A loop over 8 million words would take too long.

    Returns:
      The names, and the numbers, int8 [line, width - 1].
    """
    text = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    blank = text <= ord(" ")
    starts = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    ends = np.flatnonzero(~blank[:-1] & blank[1:]) + 1
    words = np.diff(np.searchsorted(starts, np.flatnonzero(text == ord("\n"))))  # on each line
    first = int(words[:skipped].sum())
    if (wrong := np.flatnonzero((words != width) & (words > 0) & (np.arange(len(words)) >= skipped))).size:
        refuse(folder, f"line {wrong[0] + 1} of {file} has {words[wrong[0]]} entries, must have {width}")
    starts, ends = starts[first:].reshape(-1, width), ends[first:].reshape(-1, width)
    raw = text.tobytes()
    spans = zip(starts[:, 0].tolist(), ends[:, 0].tolist(), strict=True)
    names = [raw[start:end].decode("utf-8", "replace") for start, end in spans]
    sign, last, length = text[starts[:, 1:]], text[ends[:, 1:] - 1], ends[:, 1:] - starts[:, 1:]
    negative = (sign == ord("-")) & (length == 2)
    bad = np.argwhere(~((length == 1) | negative) | (last < ord("0")) | (last > ord("9")))
    if bad.size:
        row, column = bad[0]
        word = raw[starts[row, column + 1] : ends[row, column + 1]].decode("utf-8", "replace")
        refuse(folder, f"{file} has {word!r} for {names[row]!r}, must be a number of one digit")
    digits = (last - ord("0")).astype(np.int8)
    return names, np.where(negative, -digits, digits)


def _unmatched(folder: str, labelled: Sequence[str], names: Sequence[str], pictures: Mapping[str, object]) -> list[str]:
    """Return a note if labels have no picture or pictures no labels.

    Raises:
      UserError: none has both.
    """
    known = set(labelled)
    missing, extra = [name for name in labelled if name not in pictures], sorted(set(pictures) - known)
    if not names:
        refuse(folder, f"none of {len(labelled)} labels has a picture: labels {some(missing)}, pictures {some(extra)}")
    parts = []
    if missing:
        parts.append(f"labels without a picture: {len(missing)} ({some(missing)})")
    if extra:
        parts.append(f"pictures without a label: {len(extra)} ({some(extra)})")
    return [f"{'; '.join(parts)}; used are those with both: {len(names)}"] if parts else []


# pictures


@dataclasses.dataclass(frozen=True)
class _Pictures:
    """Hold pictures by their name without a folder.

    The functions `stamp` and `read` take such a name.
    """

    names: Mapping[str, object]
    stamp: Callable[[str], tuple[int, int]]
    read: Callable[[str], bytes]


def _pictures(folder: str) -> _Pictures:
    """Return the pictures, from a folder or else from the archive.

    Raises:
      UserError: there is neither.
    """
    for below in _FOLDERS:
        for nested in (PICTURES, f"{PICTURES}/{PICTURES}"):
            if (pictures := _in_folder(folder, os.path.join(folder, below, nested))).names:
                return pictures
    archive = _find(folder, (ARCHIVE,))
    if not archive:
        refuse(folder, f"there is no folder {PICTURES} with pictures and no {ARCHIVE}; {_OFFICIAL}")
    return _in_archive(folder, archive)


def _in_folder(root: str, folder: str) -> _Pictures:
    """Return the pictures of a folder.

    Raises:
      UserError: a link leads out of the root.
    """
    files: dict[str, os.DirEntry[str]] = {}
    if os.path.isdir(folder):
        if not within(root, folder):
            refuse(root, f"{os.path.relpath(folder, root)!r} is a link that leads out of the folder")
        with os.scandir(folder) as entries:
            files = {entry.name: entry for entry in entries if is_picture(entry.name) and entry.is_file()}

    def stamp(name: str) -> tuple[int, int]:
        status = files[name].stat()
        return status.st_size, status.st_mtime_ns

    leaving = [name for name, entry in files.items() if entry.is_symlink() and not within(root, entry.path)]
    if leaving:
        refuse(root, f"{os.path.relpath(files[leaving[0]].path, root)!r} is a link that leads out of the folder")
    return _Pictures(files, stamp, lambda name: read_bounded(root, files[name].path))


def _in_archive(folder: str, file: str) -> _Pictures:
    """Return the pictures of an archive.

    Raises:
      UserError: it is damaged, empty, a link that leads out of the folder, or holds too large a picture.
    """
    if not within(folder, file):
        refuse(folder, f"{os.path.relpath(file, folder)!r} is a link that leads out of the folder")
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        size = os.path.getsize(file)
        refuse(folder, f"{os.path.basename(file)} is not a zip file, or damaged ({size} bytes); {_OFFICIAL}")
    # ZipFile reads for several threads at once: it locks the file around each.
    members = {info.filename.rpartition("/")[2]: info for info in archive.infolist() if is_picture(info.filename)}
    if not members:
        refuse(folder, f"{os.path.basename(file)} holds no pictures")
    if large := next((info for info in members.values() if info.file_size > MOST_BYTES), None):
        refuse(folder, f"{os.path.basename(file)}: {large.filename!r} unpacks to {large.file_size / 1e6:,.0f} MB, a "
               f"picture may take {MOST_BYTES / 1e6:.0f}")  # fmt: skip
    return _Pictures(
        members,
        lambda name: (members[name].file_size, members[name].CRC),
        lambda name: archive.read(members[name]),
    )
