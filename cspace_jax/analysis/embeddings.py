"""Embeddings of concepts over training, added to the labelled dataset."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from cspace_jax.storage.evaluations import EMBEDDED


def extend_embeddings(
    ds: xr.Dataset, evaluations: Mapping[int, Mapping[str, Float[np.ndarray, "r ..."]]], blocks: Mapping[str, int],
    vectors: Sequence[str],
) -> xr.Dataset:  # fmt: skip
    """Add the embeddings of every step to the labelled dataset, and return it.

    Adds `embedding_cosine` [run, step, block, vector, other] and `embedding_to_last` [run, step, block, klass], the
    cosine between a held-out class's embedding and that of the last step (NaN for classes trained on).

    Args:
      ds: dataset of the same runs and steps.
      evaluations: arrays of `Embeddings` stacked over runs, by step.
      blocks: width of every block by name, in the order of the forward pass (`unet.block_features`).
      vectors: `vector_names`.
    """
    cosine, held_out = (np.stack([evaluations[int(s)][name] for s in ds["step"].values], axis=1) for name in EMBEDDED)
    cuts = np.cumsum(list(blocks.values()))[:-1]
    similar = np.stack([_cosine(part, part[:, -1:]) for part in np.split(held_out, cuts, axis=-1)], axis=2)
    to_last = np.full((*similar.shape[:3], ds.sizes["klass"]), np.nan, np.float32)
    to_last[..., ~ds["trained"].values] = similar
    variables = {
        "embedding_cosine": (("run", "step", "block", "vector", "other"), cosine),
        "embedding_to_last": (("run", "step", "block", "klass"), to_last),
    }
    return ds.assign(variables).assign_coords(block=list(blocks), vector=list(vectors), other=list(vectors))


def _cosine(one: Float[np.ndarray, "r t k d"], another: Float[np.ndarray, "r 1 k d"]) -> Float[np.ndarray, "r t k"]:
    """Return the cosine along the last axis; NaN for a vector of zeros."""
    length = np.linalg.norm(one, axis=-1) * np.linalg.norm(another, axis=-1)
    product = (one * another).sum(-1)
    return np.divide(product, length, out=np.full_like(product, np.nan), where=length > 0)
