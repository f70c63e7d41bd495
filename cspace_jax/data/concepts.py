"""Concepts, classes, the layout of the conditioning vector and the step from concept signal to class ranges.

Everything here is about the concept vector z, not about pixels; `rendering.py` turns z into images.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from cspace_jax.config import CONCEPTS
from cspace_jax.config.setting import Setting
from cspace_jax.data.classes import Classes, check_held_out
from cspace_jax.data.source import Layout
from cspace_jax.errors import UserError

# shape: one-hot, circle and triangle.
LAYOUT = Layout.of({"shape": 2, "x": 1, "y": 1, "color": 3, "size": 1, "bg_color": 3})
CONDITIONING_DIM = LAYOUT.dim
SLICES = LAYOUT.slices
BIT_NAMES = {
    "shape": ("circle", "triangle"),
    "x": ("left", "right"),
    "y": ("low", "high"),
    "color": ("red", "blue"),
    "size": ("large", "small"),
    "bg_color": ("light", "dark"),
}
MIN_SIZE = 0.1  # smallest radius a class range reaches down to (reference implementation)
NEUTRAL_BG = (0.8, 1.0)  # range of the background, per channel, where it is not a concept


@struct.dataclass
class ConceptVector:
    """Hold all six concepts of images; leading axes are free, x is the image's first axis (H).

    Units: colours in [0, 1] as RGB, size = radius and x, y = centre in grid units (the image spans [-1, 1]).
    """

    shape: Int[Array, "*b"]  # 0 circle, 1 triangle
    x: Float[Array, "*b"]
    y: Float[Array, "*b"]
    color: Float[Array, "*b 3"]
    size: Float[Array, "*b"]
    bg_color: Float[Array, "*b 3"]


@struct.dataclass
class Ranges:
    """Hold mean and spread of the two classes of each concept, index 0 = bit 0.

    A training sample is uniform in mean +- half-width (per channel, size not below `MIN_SIZE`); x and y are normal
    with the standard deviation `position_std`.
    """

    position_mean: Float[Array, "2"]  # of x and of y
    position_std: Float[Array, ""]
    color_mean: Float[Array, "2 3"]
    color_half_width: Float[Array, ""]
    size_mean: Float[Array, "2"]
    size_half_width: Float[Array, ""]
    bg_mean: Float[Array, "2 3"]
    bg_half_width: Float[Array, ""]


@lru_cache
def classes(active: tuple[str, ...], held_out: tuple[str, ...] = ()) -> Classes:
    """Return the classes of the active concepts.

    `active` is a non-empty tuple of names in the order of `CONCEPTS`; anything else raises `UserError`. Held out are
    the classes of `held_out`, by default those with two or more bits set (paper section 4; reference implementation).
    """
    if not active or tuple(name for name in CONCEPTS if name in active) != tuple(active):
        raise UserError(f"data.active is {active}; allowed is a non-empty subset of {CONCEPTS} in this order")
    found = Classes(tuple(active), tuple(BIT_NAMES[name] for name in active), tuple(held_out))
    if held_out:
        check_held_out(found)
    return found


def class_ranges(
    sep_col: jax.typing.ArrayLike, sep_size: jax.typing.ArrayLike, sep_bg: jax.typing.ArrayLike, narrow: bool = False
) -> Ranges:
    """Turn concept signals (distances of class means) into the mean and spread of the two classes of each concept.

    Scalars, may be traced; separations are >= 0. Half-widths are sep / 8 for colours and 3 sep_size / 8 for the size,
    or sep_size / 8 with `narrow` (half of the probe's data). Colours are not limited to [0, 1] here: a class reaches
    outside for a separation above .8. Source: reference implementation; the paper (appendix A.1) only says that the
    spread follows the separation. The class means of x and y are those of the reference's six-concept data set.
    """
    center = jnp.array([1.0, -1.0])  # bit 0 has the larger size and the lighter background
    red = jnp.array([1.0, -1.0, -1.0])
    blue = jnp.array([-1.0, -1.0, 1.0])
    sep_col, sep_size, sep_bg = (jnp.asarray(sep, jnp.float32) for sep in (sep_col, sep_size, sep_bg))
    return Ranges(
        position_mean=jnp.array([-0.4, 0.4]),
        position_std=jnp.float32(0.05),
        color_mean=0.5 + sep_col / 2 * jnp.stack([red, blue]),
        color_half_width=sep_col / 8,
        size_mean=0.45 + sep_size / 2 * center,
        size_half_width=sep_size * (1 / 8 if narrow else 3 / 8),
        bg_mean=jnp.broadcast_to(0.5 + sep_bg / 2 * center[:, None], (2, 3)),
        bg_half_width=sep_bg / 8,
    )


def ranges_of(setting: Setting) -> Ranges:
    """Return the class ranges of a run's setting."""
    return class_ranges(setting.sep_col, setting.sep_size, setting.sep_bg)


def conditioning(active: tuple[str, ...], cv: ConceptVector) -> Float[Array, "*b 11"]:
    """Return the conditioning vector of `cv`: the sampled values themselves, and 0 for every inactive concept.

    Layout: `SLICES`, 11 entries (reference implementation; the mixing function M of paper section 3 hides the others).
    """
    parts = {
        "shape": jax.nn.one_hot(cv.shape, 2),
        "x": cv.x[..., None],
        "y": cv.y[..., None],
        "color": cv.color,
        "size": cv.size[..., None],
        "bg_color": cv.bg_color,
    }
    return jnp.concatenate([parts[n] if n in active else jnp.zeros_like(parts[n]) for n in CONCEPTS], axis=-1)


def mean_conditionings(active: tuple[str, ...], ranges: Ranges) -> Float[Array, "k 11"]:
    """Return the conditioning vector of every class at its exact class means, inactive concepts 0.

    The same vectors that `datasets.sample_concepts(..., at_mean=True)` leads to; no randomness is left in them.
    """
    bits = classes(active).bits
    column = {
        name: bits[:, active.index(name)] if name in active else np.zeros(len(bits), np.int32) for name in CONCEPTS
    }
    cv = ConceptVector(
        shape=jnp.asarray(column["shape"]),
        x=ranges.position_mean[column["x"]],
        y=ranges.position_mean[column["y"]],
        color=ranges.color_mean[column["color"]],
        size=ranges.size_mean[column["size"]],
        bg_color=ranges.bg_mean[column["bg_color"]],
    )
    return conditioning(active, cv)
