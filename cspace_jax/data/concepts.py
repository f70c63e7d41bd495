"""Concepts, classes, the layout of the conditioning vector and the step from concept signal to class ranges.

Everything here is about the concept vector z, not about pixels; `rendering.py` turns z into images.
"""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from cspace_jax.config import CONCEPTS, Config
from cspace_jax.config.grid import example_setting
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import Setting
from cspace_jax.errors import UserError
from cspace_jax.text import closest

CONDITIONING_DIM = 11
SLICES = {
    "shape": slice(0, 2),  # one-hot: circle, triangle
    "x": slice(2, 3),
    "y": slice(3, 4),
    "color": slice(4, 7),
    "size": slice(7, 8),
    "bg_color": slice(8, 11),
}
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


class Classes:
    """Describe the classes spanned by the active concepts; made by `classes`, never changed.

    Class index = the bits read row-major in the order of `CONCEPTS` (with colour and size: 2 * color + size, so "01"
    is red and small, "10" blue and large: the reference implementation's order; the paper's section 3.1 prose has
    them swapped).
    """

    def __init__(self, active: tuple[str, ...]) -> None:
        self.active = active
        self.num = 2 ** len(active)
        self.bits = np.array(list(itertools.product((0, 1), repeat=len(active))), np.int32)  # [k, concept]
        self.trained = self.bits.sum(axis=1) <= 1  # [k]
        self.train_ids = tuple(int(k) for k in np.flatnonzero(self.trained))
        self.held_out_ids = tuple(int(k) for k in np.flatnonzero(~self.trained))
        self.names = tuple("".join(map(str, row)) for row in self.bits.tolist())
        self.bits.setflags(write=False)
        self.trained.setflags(write=False)

    def __repr__(self) -> str:
        return f"Classes(active={self.active})"

    def describe(self, klass: int) -> str:
        """Return the class in words, such as "blue small"; `klass` is a class index."""
        return " ".join(BIT_NAMES[name][bit] for name, bit in zip(self.active, self.bits[klass], strict=True))


@lru_cache
def classes(active: tuple[str, ...]) -> Classes:
    """Return the classes of the active concepts.

    `active` is a non-empty tuple of names in the order of `CONCEPTS`; anything else raises `UserError`. Trained on
    are the classes with at most one non-zero bit, held out are all others (paper section 4; reference
    implementation).
    """
    if not active or tuple(name for name in CONCEPTS if name in active) != tuple(active):
        raise UserError(f"data.active is {active}; allowed is a non-empty subset of {CONCEPTS} in this order")
    return Classes(tuple(active))


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


def prompt(config: Config, words: str, setting: Setting | None = None) -> Float[Array, "11"]:
    """Return the conditioning vector of a class in words, such as "blue small", at its exact means.

    Args:
      config: of the study.
      words: one word (`BIT_NAMES`) for each active concept, in any order; or the class's bits, such as "11".
      setting: of the run that is asked; None takes the first run of the study.

    Raises:
      UserError: a word is unknown, or the words do not name one value of every active concept.
    """
    found = classes(config.data.active)
    names = {frozenset(found.describe(k).split()): k for k in range(found.num)}
    known = [word for name in found.active for word in BIT_NAMES[name]]
    for word in words.split():
        if word not in (*known, *found.names):
            fail("prompt", words, f"{word!r} is none of {', '.join((*known, *found.names))}{closest(word, known)}")
    klass = found.names.index(words) if words in found.names else names.get(frozenset(words.split()))
    if klass is None:
        fail("prompt", words, f"must hold one word for each of {', '.join(found.active)}")
    ranges = ranges_of(example_setting(config.grid) if setting is None else setting)
    return mean_conditionings(found.active, ranges)[klass]
