"""Raw evaluations: one .npz of named arrays for each checkpoint of a wave."""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic

SPLITS = ("validation", "test")
TERMS = ("total", "diffusion", "latent", "reconstruction")
# Names of the stored arrays: of naive prompting, of embeddings, of wrongly named concepts, of the battery.
MEASURED = ("prob_samples", "mean_rgb", "loss", "schedule_b", "schedule_w")
EMBEDDED = ("embedding_cosine", "embedding_classes")
EXCHANGED = ("exchange",)
ELICITED = ("prob_samples", "mean_rgb")


def write_npz(path: epath.Path, arrays: dict[str, Any]) -> None:
    """Write named arrays as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_evaluation(path: epath.PathLike, keys: Sequence[str] = MEASURED) -> dict[str, np.ndarray]:
    """Read the named arrays of one raw evaluation.

    Raises:
      UserError: the file is missing or damaged, or an array is missing.
    """
    try:
        with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as stored:
            return {key: stored[key] for key in keys}
    except KeyError as error:
        missing = next((key for key in keys if key in str(error)), "named as asked")
        raise UserError(f"evaluation {path} holds no array {missing!r}; delete the file to measure it again") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"evaluation {path} cannot be read ({error}); delete the file to measure it again") from error


def holds(path: epath.PathLike, keys: Sequence[str]) -> bool:
    """Return whether a raw evaluation, which can be read, holds all the named arrays."""
    with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as stored:
        return set(keys) <= set(stored.files)
