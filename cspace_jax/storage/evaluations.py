"""A raw evaluation is one .npz file of named arrays for each checkpoint of a wave.

A file says of which checkpoint it is, by its place in the workdir: one that holds another's content is not read.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.npz_archives import DAMAGES, names_in, read_npz
from cspace_jax.storage.files import not_its_fault, write_atomic
from cspace_jax.storage.workdir import place_of

SPLITS = ("validation", "test")
TERMS = ("total", "diffusion", "latent", "reconstruction")
# Names of the stored arrays: of naive prompting, of embeddings, of wrongly named concepts, of the battery.
MEASURED = ("prob_samples", "mean_rgb", "loss", "schedule_b", "schedule_w")
EMBEDDED = ("embedding_cosine", "embedding_classes")
EXCHANGED = ("exchange",)
ELICITED = ("prob_samples", "mean_rgb")
_PLACE = "written_as"  # name of the array that holds a file's place
_PLACES = re.compile(  # in a workdir (Workdir, Wave, elicit.folder, replay.folder)
    r"/((?:eval/wave_\d+|elicit/[0-9a-f]{12}/wave_\d+|replay/run_\d+(?:/[0-9a-f]{12})?)/step_\d+\.npz)$"
)


def write_npz(path: epath.Path, arrays: dict[str, Any]) -> None:
    """Write named arrays and their place in the workdir as a compressed .npz, atomically.

    Raises:
      UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    named = {**arrays, _PLACE: np.array(_place(path))}
    np.savez_compressed(buffer, **named)
    write_atomic(path, buffer.getvalue())


def read_evaluation(path: epath.PathLike, keys: Sequence[str] = MEASURED) -> dict[str, np.ndarray]:
    """Read the named arrays of one raw evaluation.

    Raises:
      UserError: the file is missing or damaged, an array is missing, or it holds the evaluation of another checkpoint.
    """
    with _whole(path), epath.Path(path).open("rb") as file:  # of a large grid the pictures are most of it
        found = read_npz(file, (*keys, _PLACE), optional=True)
    place = str(found.pop(_PLACE, _place(path)))  # older versions did not write it
    if place != _place(path):
        raise UserError(f"evaluation {path} holds that of {place}; delete the file to measure it again")
    if missing := [key for key in keys if key not in found]:
        raise UserError(f"evaluation {path} holds no array {missing[0]!r}; delete the file to measure it again")
    return found


def holds(path: epath.PathLike, keys: Sequence[str]) -> bool:
    """Return whether a raw evaluation holds all the named arrays.

    Raises:
      UserError: the file is missing or damaged.
    """
    with _whole(path), epath.Path(path).open("rb") as file:  # its list of names alone is read
        return set(keys) <= set(names_in(file))


@contextlib.contextmanager
def _whole(path: epath.PathLike) -> Iterator[None]:
    """Turn the errors of a damaged file into a UserError that names it."""
    try:
        yield
    except DAMAGES as error:
        why = not_its_fault(error)
        hint = "" if why else "; delete the file to measure it again"
        raise UserError(f"evaluation {path} cannot be read ({why or error}){hint}") from error


def _place(path: epath.PathLike) -> str:
    """Return the place of a file in its workdir, such as eval/wave_000/step_00000500.npz. Elsewhere it is the name."""
    return place_of(path, _PLACES) or epath.Path(path).name
