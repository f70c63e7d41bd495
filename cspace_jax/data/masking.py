"""Underspecification: in training, part of one class's images hide one concept from the model (paper section 5).

The entries of that concept in the conditioning vector are replaced; the images, validation, test and every prompt stay
as they are. Pure functions of ONE run; which class, concept and value is static (`DataConfig.mask_*`), the masked
fraction is `Setting.mask`. No code of the paper's section 5 is published: everything here is a reconstruction.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cspace_jax.data.source import Items, Source

TOKEN = "mask_token"  # name of the learned null vector among the parameters of a run
# A fraction such as .29 is not a float32 number: a product that falls short of an integer by rounding alone counts as
# that integer. Three roundings lose less than 2^-22 of it.
_ROUNDING = 2.0**-22


def init_params(source: Source) -> dict[str, jax.Array]:
    """Return the parameters that masking adds to a run: a null vector of zeros in mode "token", else none."""
    if source.data.mask_mode != "token":
        return {}
    entries = source.layout.slices[source.masked[0]]
    return {TOKEN: jnp.zeros(entries.stop - entries.start)}


def mark(source: Source, fraction: jax.typing.ArrayLike, dataset: Items, key: Key[Array, ""]) -> Any:
    """Return the data set with floor(fraction N) of the masked class's N images marked, a random subset.

    `fraction` in [0, 1] may be traced. Subsets are nested: with the same key a larger fraction adds images to the
    smaller one's. "batch" marks none here: its images are drawn anew for every batch (`draw`).
    """
    if source.data.mask_images != "fixed":
        return dataset
    of_class = _of_class(source, dataset)
    lots = jnp.where(of_class, jax.random.uniform(key, of_class.shape), 2.0)
    rank = jnp.argsort(jnp.argsort(lots))  # no two are equal, so the count is exact
    return dataclasses.replace(dataset, masked=of_class & (rank < count(fraction, of_class.sum())))


def count(fraction: jax.typing.ArrayLike, number: jax.typing.ArrayLike) -> jax.Array:
    """Return floor(fraction number), int32, as if a fraction such as 0.29 were exact; `number` below 2^22."""
    product = jnp.asarray(fraction, jnp.float32) * jnp.asarray(number, jnp.float32)
    return jnp.floor(product + product * _ROUNDING).astype(jnp.int32)


def draw(source: Source, fraction: jax.typing.ArrayLike, batch: Items, key: Key[Array, ""]) -> Bool[Array, " b"]:
    """Return which images of a batch [b] are masked.

    They are those that `mark` marked; in mode "batch" each image of the masked class is masked by its own lot, with
    probability `fraction` in [0, 1].
    """
    if batch.masked is not None:
        return batch.masked
    lots = jax.random.uniform(key, batch.klass.shape)  # in [0, 1): a fraction of 0 masks none, 1 masks all
    return _of_class(source, batch) & (lots < fraction)


def fill(
    source: Source, params: Mapping[str, Any], null_value: float, conditioning: Float[Array, "b d"],
    masked: Bool[Array, " b"],
) -> Float[Array, "b d"]:  # fmt: skip
    """Replace the masked concept's entries in the conditioning vectors [b, d] of masked images [b].

    They become 0 ("zero"), `null_value` ("null") or the learned vector among `params` ("token").
    """
    entries = source.layout.slices[source.masked[0]]
    hidden = jnp.zeros(source.layout.dim, bool).at[entries].set(True)
    value = jnp.full(source.layout.dim, null_value if source.data.mask_mode == "null" else 0.0)
    if source.data.mask_mode == "token":
        value = value.at[entries].set(params[TOKEN])
    return jnp.where(masked[:, None] & hidden, value, conditioning)


def _of_class(source: Source, dataset: Items) -> Bool[Array, " n"]:
    return dataset.klass == source.classes.names.index(source.masked[1])
