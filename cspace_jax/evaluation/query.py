"""The request of one batch of samples (`Query`), and a held-out class as protocols see it (`Target`)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from cspace_jax.data.source import Source

# Far ends of the concepts, whose embeddings are the published directions (reference implementation), by bit.
STRONG = {"color": ((0.95, 0.05, 0.05), (0.05, 0.05, 0.95)), "size": ((0.6,), (0.3,))}
STRONG_SHARED = STRONG | {"color": ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9))}  # the same for a shared embedding
ALL = "all"  # in place of a concept: all of them are pushed at once
NEAR = 0.5  # cosine from which a random direction is a near-copy of the one that it controls
CANDIDATES = 16  # drawn for one random direction


class Query(struct.PyTreeNode):
    """The request of one batch of samples; a leading axis stacks queries.

    Attributes:
      conditioning: vector given to the network [d].
      guidance: weight w of classifier-free guidance, 1 = plain conditional.
      alpha: strength with which the embedding of `amplified` is amplified.
      beta: strength with which the embedding of `removed` is removed.
      amplified: conditioning vector whose embedding is the first direction [d].
      removed: conditioning vector whose embedding is the second direction [d].
      shared: whether the embedding that all blocks share is edited, instead of each block's own.
      random: number of the random direction that replaces a latent edit, keeping its length; 0 = the edit itself.
      patched: whether the conditioning projections are those of the patch's checkpoint.
      repeat: number of the noise that is sampled with; 0 = the noise that all protocols share.
      rescaled: whether a latent edit is brought to the length of the one along `own_amplified` and `own_removed`.
      own_amplified: first direction of the protocol whose control this query is [d].
      own_removed: its second direction [d].
    """

    conditioning: jax.Array
    guidance: jax.Array
    alpha: jax.Array
    beta: jax.Array
    amplified: jax.Array
    removed: jax.Array
    shared: jax.Array
    random: jax.Array
    patched: jax.Array
    repeat: jax.Array
    rescaled: jax.Array
    own_amplified: jax.Array
    own_removed: jax.Array


@struct.dataclass
class Target:
    """A held-out class as protocols see it; all are conditioning vectors [d].

    Attributes:
      mean: the class's own mean.
      flipped: the same with the other value of the concept that is pushed, so that mean - flipped points along it.
      strong: nothing but the pushed concept, at the far end of the class's value.
      strong_shared: the same, as published for a shared embedding.
      opposite: nothing but another concept, at the far end of the value that the class does not have.
    """

    mean: Float[Array, "d"]
    flipped: Float[Array, "d"]
    strong: Float[Array, "d"]
    strong_shared: Float[Array, "d"]
    opposite: Float[Array, "d"]


def plain_query(mean: jax.Array, guidance: float) -> Query:
    """Return the query that asks for a class at its mean [d] with a guidance weight, and changes nothing."""
    zero = jnp.float32(0.0)
    nothing = jnp.zeros_like(mean)
    no = jnp.bool_(False)
    number = jnp.int32(0)
    return Query(
        mean, jnp.float32(guidance), zero, zero, nothing, nothing, no, number, no, number, no, nothing, nothing
    )


def random_direction(source: Source, key: jax.Array, away_from: Float[Array, " d"]) -> Float[Array, " d"]:
    """Draw a unit vector [d] that is no near-copy of `away_from` [d].

    It is 0 in all entries of the conditioning that the active concepts do not use.

    See `unlike`. With colour and size active a direction drawn freely is a near-copy with probability 0.2.
    """
    used = np.zeros(source.layout.dim, bool)
    for name in source.classes.active:
        used[source.layout.slices[name]] = True
    return unlike(away_from, jnp.where(used, jax.random.normal(key, (CANDIDATES, used.size)), 0.0))


def unlike(direction: Float[Array, " d"], candidates: Float[Array, "n d"]) -> Float[Array, " d"]:
    """Return the first candidate [d] whose cosine to a direction is below `NEAR`, at length 1.

    Where all are above it, which happens to 16 in the plane with probability 2e-8, it is the one farthest away. For a
    direction of length 0 it is the first.
    """
    lengths = jnp.linalg.norm(candidates, axis=-1, keepdims=True)
    units = candidates / jnp.maximum(lengths, 1e-12)
    cosines = units @ (direction / jnp.maximum(jnp.linalg.norm(direction), 1e-12))
    far = cosines < NEAR
    return units[jnp.where(far.any(), jnp.argmax(far), jnp.argmin(cosines))]


def make_target(source: Source, klass: int, concept: str, means: jax.Array, shuffled: bool = False) -> Target:
    """Describe a class to the protocols.

    Args:
      source: of the images.
      klass: class index.
      concept: the concept that is pushed, "" = the first; the other one is the first active concept besides. "all"
        pushes all concepts at once and removes none.
      means: conditioning vectors of all classes at their means [k, d].
      shuffled: exchange the two.
    """
    found, active = source.classes, source.classes.active
    if concept == ALL:
        return _target_of_all(source, klass, means)
    pushed = active.index(concept) if concept in active else 0  # without protocols nothing is pushed
    other = next(i for i in range(len(active)) if i != pushed)
    pushed, other = (other, pushed) if shuffled else (pushed, other)
    bits = found.bits[klass].copy()
    flipped = bits.copy()
    flipped[pushed] = 1 - flipped[pushed]
    opposite = 1 - bits[other]
    index = {tuple(row): k for k, row in enumerate(found.bits.tolist())}
    other_bits = bits.copy()
    other_bits[other] = opposite
    return Target(
        mean=means[klass],
        flipped=means[index[tuple(flipped.tolist())]],
        strong=_only(source, STRONG, active[pushed], int(bits[pushed]), means[klass]),
        strong_shared=_only(source, STRONG_SHARED, active[pushed], int(bits[pushed]), means[klass]),
        opposite=_only(source, STRONG, active[other], int(opposite), means[index[tuple(other_bits.tolist())]]),
    )


def _target_of_all(source: Source, klass: int, means: jax.Array) -> Target:
    """Describe a class whose concepts are all pushed at once, away from the class with all of them exchanged."""
    found = source.classes
    opposite = found.names.index("".join(str(1 - bit) for bit in found.bits[klass].tolist()))

    def strong(ends: Mapping[str, Any]) -> jax.Array:
        ways = zip(found.active, found.bits[klass].tolist(), strict=True)
        return sum((_only(source, ends, name, bit, means[klass]) for name, bit in ways), jnp.zeros_like(means[klass]))

    nothing = jnp.zeros_like(means[klass])
    return Target(means[klass], means[opposite], strong(STRONG), strong(STRONG_SHARED), nothing)


def _only(source: Source, ends: Mapping[str, Any], concept: str, bit: int, mean: jax.Array) -> jax.Array:
    """Return the vector that is zero but for one concept: its published far end, or its class mean without one."""
    there = source.layout.slices[concept]
    published = source.far_ends and concept in ends
    return jnp.zeros_like(mean).at[there].set(jnp.array(ends[concept][bit]) if published else mean[there])
