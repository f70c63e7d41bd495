"""Concept vectors, the layout of the conditioning vector and the step from concept signal to class ranges.

What is known of each concept stands in `config/concepts.py`. Everything here is about the concept vector z, not about
pixels; `rendering.py` turns z into images.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from cspace_jax.config.concepts import CONCEPTS, SEPARATION, SEPARATIONS, TABLE, Concept
from cspace_jax.config.setting import Setting
from cspace_jax.data.classes import Classes, check_held_out
from cspace_jax.data.source import Layout
from cspace_jax.errors import UserError

LAYOUT = Layout.of({name: one.entries for name, one in TABLE.items()})
CONDITIONING_DIM = LAYOUT.dim
SLICES = LAYOUT.slices


def _type(one: Concept) -> Any:
    if one.ends is None:
        return Int[Array, "*b"]
    return Float[Array, "*b"] if one.entries == 1 else Float[Array, f"*b {one.entries}"]


_MEANING = """Hold all concepts of images, a field each; leading axes are free, x is the image's first axis (H).

A choice is an integer (shape: 0 circle, 1 triangle), a colour has three channels; units are those of `Concept`.
"""

if TYPE_CHECKING:

    @struct.dataclass
    class ConceptVector:
        """What a type checker sees of the class below; a test compares it with the table."""

        shape: Int[Array, "*b"]
        x: Float[Array, "*b"]
        y: Float[Array, "*b"]
        color: Float[Array, "*b 3"]
        size: Float[Array, "*b"]
        bg_color: Float[Array, "*b 3"]

        def __init__(self, **values: Any): ...

else:
    _FIELDS = {name: _type(one) for name, one in TABLE.items()}
    ConceptVector = struct.dataclass(
        type("ConceptVector", (), {"__annotations__": _FIELDS, "__module__": __name__, "__doc__": _MEANING})
    )


@struct.dataclass
class Ranges:
    """Hold mean and spread of the two classes of each concept that is a number or a colour, by name.

    A training sample is uniform in mean +- spread (per channel, not below `Concept.least`), or normal with the spread
    as its standard deviation (`Concept.normal`).

    Attributes:
      mean: of each class, bit 0 first: [2], of a colour [2, 3].
      spread: of both classes: scalars.
    """

    mean: dict[str, Float[Array, "2 ..."]]
    spread: dict[str, Float[Array, ""]]


@lru_cache
def classes(active: tuple[str, ...], held_out: tuple[str, ...] = ()) -> Classes:
    """Return the classes of the active concepts.

    `active` is a non-empty tuple of names in the order of `CONCEPTS`. Held out are the classes of `held_out`, by
    default those with two or more bits set (paper section 4; reference implementation).

    Raises:
      UserError: `active` is anything else, or `held_out` is refused by `check_held_out`.
    """
    if not active or tuple(name for name in CONCEPTS if name in active) != tuple(active):
        raise UserError(f"data.active is {active}; allowed is a non-empty subset of {CONCEPTS} in this order")
    found = Classes(tuple(active), tuple(TABLE[name].words for name in active), tuple(held_out))
    if held_out:
        check_held_out(found)
    return found


def class_ranges(*separations: jax.typing.ArrayLike, narrow: bool = False) -> Ranges:
    """Turn concept signals (distances of class means) into the mean and spread of the two classes of each concept.

    Colours are not limited to [0, 1] here: a class reaches outside for a separation above .8. Source: reference
    implementation; the paper (appendix A.1) only says that the spread follows the separation. The class means of x and
    y are those of the reference's six-concept data set.

    Args:
      *separations: scalars >= 0 in the order of `SEPARATIONS` (sep_col, sep_size, sep_bg); may be traced.
      narrow: whether spreads are those of half of the probe's data (`Concept.narrow_spread`).
    """
    swept = dict(zip(SEPARATION, separations, strict=True))
    mean, spread = {}, {}
    for name, one in TABLE.items():
        if one.ends is not None:
            separation = jnp.asarray(swept.get(name, one.separation), jnp.float32)
            mean[name] = one.center + separation / 2 * jnp.array(one.ends)
            spread[name] = separation * (one.spread if not narrow or one.narrow_spread is None else one.narrow_spread)
    return Ranges(mean=mean, spread=spread)


def ranges_of(setting: Setting) -> Ranges:
    """Return the class ranges of a run's setting."""
    return class_ranges(*(getattr(setting, name) for name in SEPARATIONS))


def conditioning(active: tuple[str, ...], cv: ConceptVector) -> Float[Array, "*b d"]:
    """Return the conditioning vector of `cv`: the sampled values themselves, and 0 for every inactive concept.

    Layout: `SLICES`, d = `CONDITIONING_DIM` (reference implementation; the mixing function M of paper section 3 hides
    the others).
    """
    parts = {name: _entries(one, getattr(cv, name)) for name, one in TABLE.items()}
    return jnp.concatenate([parts[n] if n in active else jnp.zeros_like(parts[n]) for n in CONCEPTS], axis=-1)


def _entries(one: Concept, value: Array) -> Float[Array, "*b entries"]:
    if one.ends is None:
        return jax.nn.one_hot(value, one.entries)
    return value[..., None] if one.entries == 1 else value


def mean_conditionings(active: tuple[str, ...], ranges: Ranges) -> Float[Array, "k d"]:
    """Return the conditioning vector of every class at its exact class means, inactive concepts 0.

    The same vectors that `datasets.sample_concepts(..., at_mean=True)` leads to; no randomness is left in them.
    """
    bits = classes(active).bits
    values = {}
    for name, one in TABLE.items():
        column = bits[:, active.index(name)] if name in active else np.zeros(len(bits), np.int32)
        values[name] = jnp.asarray(column) if one.ends is None else ranges.mean[name][column]
    return conditioning(active, ConceptVector(**values))
