"""The data-generating process: concept vectors are drawn and grouped into data sets; `rendering` makes them images.

All functions are pure and may be jitted and vmapped over settings and keys. Source: reference implementation (the
paper's appendix A.1 gives the outline).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import DataConfig
from cspace_jax.data import concepts
from cspace_jax.data.concepts import ConceptVector, Ranges
from cspace_jax.data.rendering import add_noise, render
from cspace_jax.data.source import Items

POSITION_RANGE = 0.5  # x and y of an object are uniform in +- this where they are not concepts
# Columns of the uniform numbers of an image. They are part of the results: never renumber.
_POSITION, _COLOR, _SIZE, _BG_COLOR, _COINS, _DRAWS = slice(0, 2), slice(2, 5), 5, slice(6, 9), slice(9, 11), 11


@struct.dataclass(kw_only=True)
class Dataset(Items):
    """Hold images as the concepts and noise keys they are rendered from: 52 bytes each, where pixels take 12 kB."""

    cv: ConceptVector  # [n]
    noise_key: Key[Array, "n"]  # one an image, so that the image has the same noise each time it comes round


def sample_concepts(
    active: tuple[str, ...], ranges: Ranges, bits: Int[Array, "n concept"], key: Key[Array, ""], *, at_mean: bool
) -> ConceptVector:
    """Draw the concept vectors [n] of images whose classes are given as `bits`, columns in the order of `active`.

    Training samples (`at_mean=False`) are uniform in the class range, x and y normal around the class mean. Test
    samples (`at_mean=True`) sit at the exact class means, with background .9 where that is no concept. Inactive
    concepts: the shape is a circle, x and y are uniform in +-.5 and the background in [.8, 1]. Source: reference
    implementation. Inactive colour or size: a fair coin between the two class ranges, then uniform in it, also for
    test samples. That is a reconstruction: no code for such data is published (paper section 5 has a varying size
    with shape and colour active).
    """
    bit = {name: bits[:, active.index(name)] for name in active}
    uniform_key, normal_key = jax.random.split(key)
    # One flat call for all uniform numbers: further calls, and calls with more axes, add seconds to compile time.
    u = 2 * jax.random.uniform(uniform_key, (len(bits) * _DRAWS,)).reshape(-1, _DRAWS) - 1
    coins = (u[:, _COINS] > 0).astype(jnp.int32)
    x, y = _positions(at_mean, ranges, bit, u[:, _POSITION], normal_key)
    return ConceptVector(
        shape=jnp.asarray(bit.get("shape", jnp.zeros(len(bits))), jnp.int32),
        x=x,
        y=y,
        color=_color(at_mean, ranges, bit.get("color"), coins[:, 0], u[:, _COLOR]),
        size=_size(at_mean, ranges, bit.get("size"), coins[:, 1], u[:, _SIZE]),
        bg_color=_background(at_mean, ranges, bit.get("bg_color"), u[:, _BG_COLOR]),
    )


def _positions(at_mean: bool, ranges: Ranges, bit: dict[str, Array], u: Array, key: Array) -> Float[Array, "2 n"]:
    position = POSITION_RANGE * u.T
    for row, name in enumerate(("x", "y")):
        if name in bit:
            normal = jax.random.normal(jax.random.fold_in(key, row), (len(u),))
            spread = 0.0 if at_mean else ranges.position_std * normal
            position = position.at[row].set(ranges.position_mean[bit[name]] + spread)
    return position


def _color(at_mean: bool, ranges: Ranges, bit: Array | None, coin: Array, u: Array) -> Float[Array, "n 3"]:
    mean = ranges.color_mean[coin if bit is None else bit]
    if at_mean and bit is not None:
        return mean
    return mean + ranges.color_half_width * u


def _size(at_mean: bool, ranges: Ranges, bit: Array | None, coin: Array, u: Array) -> Float[Array, "n"]:
    mean = ranges.size_mean[coin if bit is None else bit]
    if at_mean and bit is not None:
        return mean
    low = jnp.maximum(mean - ranges.size_half_width, concepts.MIN_SIZE)
    high = jnp.maximum(mean + ranges.size_half_width, concepts.MIN_SIZE)
    return low + (high - low) * (u + 1) / 2


def _background(at_mean: bool, ranges: Ranges, bit: Array | None, u: Array) -> Float[Array, "n 3"]:
    low, high = concepts.NEUTRAL_BG
    if bit is not None:
        mean, half_width = ranges.bg_mean[bit], ranges.bg_half_width
    else:
        mean, half_width = jnp.full(u.shape, (low + high) / 2), (high - low) / 2
    return mean if at_mean else mean + half_width * u


def images(data: DataConfig, dataset: Dataset) -> Float[Array, "b h w 3"]:
    """Render the noisy images [b, h, w, 3] of a data set or of a slice of it."""
    clean = render(dataset.cv, data.image_size, data.blur, triangles="shape" in data.active)
    return add_noise(clean, dataset.noise_key)


def conditionings(data: DataConfig, dataset: Dataset) -> Float[Array, "b 11"]:
    """Return the conditioning vectors [b, 11] of a data set or of a slice of it."""
    return concepts.conditioning(data.active, dataset.cv)


def draw_dataset(
    active: tuple[str, ...], ranges: Ranges, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool
) -> Dataset:
    """Draw one image for every entry of `klass` (class indices [n]) and return the `Dataset` in the same order."""
    concept_key, noise_key = jax.random.split(key)
    bits = jnp.asarray(concepts.classes(active).bits)[klass]
    cv = sample_concepts(active, ranges, bits, concept_key, at_mean=at_mean)
    return Dataset(cv=cv, klass=klass, noise_key=jax.random.split(noise_key, len(klass)))
