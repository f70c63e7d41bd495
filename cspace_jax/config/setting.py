"""The numbers that differ between the runs of a grid."""

import jax
from flax import struct


@struct.dataclass
class Setting:
    """Hold the swept numbers of one run; stacked over runs, every field gains a leading axis [r].

    A pytree of scalars, so a grid is vmapped over it: changing a value never compiles a new program. The defaults are
    the paper's (sep_col .2 and sep_size .4 are one of its concept-signal levels).

    Units: separations are distances between two class means, colour and background in units of full brightness and
    size in grid units (the image spans [-1, 1]).
    """

    seed: jax.typing.ArrayLike = 0  # uint32: draws data, initial weights, batches, noise and samples
    sep_col: jax.typing.ArrayLike = 0.2  # red-blue distance per channel
    sep_size: jax.typing.ArrayLike = 0.4  # large-small distance of the radius
    sep_bg: jax.typing.ArrayLike = 0.2  # light-dark distance of the background; used when it is a concept
    learning_rate: jax.typing.ArrayLike = 1e-3
    weight_decay: jax.typing.ArrayLike = 0.01
    init_scale: jax.typing.ArrayLike = 1.0  # factor on every initial parameter
    data_noise: jax.typing.ArrayLike = 1e-3  # standard deviation of the reconstruction likelihood, not of the images
    mask: jax.typing.ArrayLike = 0.0  # share of one class's training images whose concept is hidden (masking.py)
