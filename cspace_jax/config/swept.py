"""Declarations of the numbers that differ between the runs of a grid.

The module is light enough for every command to import. Code that computes with a `Setting` takes it from
`config/setting.py`, which makes it a pytree.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from cspace_jax.config.concepts import TABLE
from cspace_jax.config.fields import field

if TYPE_CHECKING:
    from jax.typing import ArrayLike
else:
    ArrayLike = Any  # JAX takes a second to import

MAX_SEED = 2**32 - 1


def _apart(concept: str) -> dict[str, Any]:
    """Return how far apart a concept's class means may be and why, as arguments of `field`."""
    one = TABLE[concept]
    if one.least is not None:
        mean = f"{one.center:g} - {one.separation}/2"
        reason = f"the mean {one.quantity} {mean} of the {one.words[1]} class must be at least {one.least:g}"
        return {"at_most": 2 * (one.center - one.least), "reason": reason}
    ends = f"{one.center:g} +- {one.separation}/2 +- {one.separation}/{1 / one.spread:g}"
    most = min(one.center, 1 - one.center) / (0.5 + one.spread)
    return {"at_most": most, "reason": f"the class {one.title}s {ends} must stay within [0, 1]"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Hold the swept numbers of one run.

    Stacked over runs, every field gains a leading axis [r]. A Setting is a pytree of scalars, so a grid is vmapped over
    it: changing a value never compiles a new program. The fields are the list of what can be swept: the axes of the
    grid, the coordinates of the results, their limits and their flags derive from it. The defaults are the paper's
    (sep_col .2 and sep_size .4 are one of its concept-signal levels).

    Units: separations are distances between two class means, colour and background in units of full brightness and size
    in grid units (the image spans [-1, 1]). The seed is a uint32, all others are float32.
    """

    seed: ArrayLike = field(
        0, "data, initial weights, batches, noise and samples of a run", at_least=0, at_most=MAX_SEED
    )
    sep_col: ArrayLike = field(
        0.2,
        "colour signal: red-blue distance per channel",
        above=0,
        **_apart("color"),
    )
    sep_size: ArrayLike = field(
        0.4,
        "size signal: large-small distance of the radius (the image spans [-1, 1])",
        above=0,
        **_apart("size"),
    )
    sep_bg: ArrayLike = field(
        0.2,
        "background signal: light-dark distance; used when bg_color is active",
        above=0,
        **_apart("bg_color"),
    )
    learning_rate: ArrayLike = field(1e-3, "of AdamW", above=0)
    weight_decay: ArrayLike = field(0.01, "of AdamW, on every parameter", at_least=0)
    init_scale: ArrayLike = field(1.0, "factor on every initial parameter", above=0)
    # Its square divides the reconstruction term in float32.
    data_noise: ArrayLike = field(
        1e-3,
        "standard deviation of the likelihood in the reconstruction term, not of the images",
        at_least=1e-6,
        at_most=1,
    )
    mask: ArrayLike = field(
        0.0,
        "share of one class's training images whose concept is hidden (data/masking.py)",
        at_least=0,
        at_most=1,
    )


# The settings besides the seed, from the slowest to the fastest axis of the grid.
SWEPT = tuple(one.name for one in dataclasses.fields(Setting) if one.name != "seed")
