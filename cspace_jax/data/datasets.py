"""The data-generating process: concept vectors are drawn and grouped into data sets; `rendering` makes them images.

All functions are pure and may be jitted and vmapped over settings and keys. Source: reference implementation (the
paper's appendix A.1 gives the outline).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import DataConfig
from cspace_jax.config.concepts import TABLE, Concept
from cspace_jax.data import concepts
from cspace_jax.data.concepts import ConceptVector, Ranges
from cspace_jax.data.rendering import add_noise, render
from cspace_jax.data.source import Items

# Columns of the uniform numbers of an image: the first of a concept's value, and its coin. They are part of the
# results: never renumber. A concept that is not among them draws by a key of its own.
_COLUMNS = {"x": 0, "y": 1, "color": 2, "size": 5, "bg_color": 6}
_COINS = {"color": 9, "size": 10}
_DRAWS = 11


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
    normal = [name for name, one in TABLE.items() if one.normal]
    values = {}
    for number, (name, one) in enumerate(TABLE.items()):
        if one.ends is None:
            values[name] = jnp.asarray(bit.get(name, jnp.zeros(len(bits))), jnp.int32)
        elif one.normal and name in bit:
            mean = ranges.mean[name][bit[name]]
            drawn = jax.random.normal(jax.random.fold_in(normal_key, normal.index(name)), (len(u),))
            values[name] = mean if at_mean else mean + ranges.spread[name] * drawn
        else:
            own, coin = _uniform_numbers(one, number, u, uniform_key)
            values[name] = _value(one, ranges, bit.get(name), coin, own, at_mean)
    return ConceptVector(**values)


def _uniform_numbers(
    one: Concept, number: int, u: Float[Array, "n draws"], key: Key[Array, ""]
) -> tuple[Float[Array, "n ..."], Int[Array, " n"]]:
    """Return random numbers in [-1, 1) for a concept's value, and 0 or 1 [n] for its coin.

    The numbers are [n], of a colour [n, 3].
    """
    start, coin = _COLUMNS.get(one.name, 0), _COINS.get(one.name, 0)
    if one.name not in _COLUMNS:
        own = jax.random.uniform(jax.random.fold_in(key, number), (len(u) * (one.entries + 1),))
        u, coin = 2 * own.reshape(len(u), -1) - 1, one.entries
    value = u[:, start] if one.entries == 1 else u[:, start : start + one.entries]
    return value, (u[:, coin] > 0).astype(jnp.int32)


def _value(
    one: Concept,
    ranges: Ranges,
    bit: Int[Array, " n"] | None,
    coin: Int[Array, " n"],
    u: Float[Array, "n ..."],
    at_mean: bool,
) -> Float[Array, "n ..."]:
    """Return values in the range of the class, or where the concept is inactive (`bit` None) as the table says."""
    if bit is None and one.neutral is not None:
        low, high = one.neutral
        mean, spread = jnp.full(u.shape, (low + high) / 2), (high - low) / 2
    else:
        mean, spread = ranges.mean[one.name][coin if bit is None else bit], ranges.spread[one.name]
    if at_mean and (bit is not None or one.neutral_in_tests):
        return mean
    if one.least is None:
        return mean + spread * u
    low, high = jnp.maximum(mean - spread, one.least), jnp.maximum(mean + spread, one.least)
    return low + (high - low) * (u + 1) / 2


def images(data: DataConfig, dataset: Dataset) -> Float[Array, "b h w 3"]:
    """Render the noisy images [b, h, w, 3] of a data set or of a slice of it."""
    clean = render(dataset.cv, data.image_size, data.blur, triangles="shape" in data.active)
    return add_noise(clean, dataset.noise_key)


def conditionings(data: DataConfig, dataset: Dataset) -> Float[Array, "b d"]:
    """Return the conditioning vectors [b, d] of a data set or of a slice of it."""
    return concepts.conditioning(data.active, dataset.cv)


def draw_dataset(
    active: tuple[str, ...], ranges: Ranges, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool
) -> Dataset:
    """Draw one image for every entry of `klass` (class indices [n]) and return the `Dataset` in the same order."""
    concept_key, noise_key = jax.random.split(key)
    bits = jnp.asarray(concepts.classes(active).bits)[klass]
    cv = sample_concepts(active, ranges, bits, concept_key, at_mean=at_mean)
    return Dataset(cv=cv, klass=klass, noise_key=jax.random.split(noise_key, len(klass)))
