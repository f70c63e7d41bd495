"""Prompts: the conditionings and the random key of one run's samples.

Queries are embedded, projected, patched and edited here.

Pure functions of ONE run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from cspace_jax import rng
from cspace_jax.config.schema import shares_embedding
from cspace_jax.config.setting import Setting
from cspace_jax.evaluation import protocols
from cspace_jax.evaluation.query import CANDIDATES, Query, unlike
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import unet, vdm


@struct.dataclass
class Prompts:
    """The conditionings of one run's samples, and the key of their noise.

    Attributes:
      conditioning: vectors [b, d], or their projections by block.
      key: random key of the samples.
      guidance: weight of each sample [b]; None takes the weight of the configuration.
      null: the null conditioning, in the form of `conditioning`; None is the null vector.
      repeat: number of each query's noise [q]; None and 0 are the noise that all queries share.
    """

    conditioning: vdm.Conditioning
    key: jax.Array
    guidance: jax.Array | None = None
    null: vdm.Conditioning | None = None
    repeat: jax.Array | None = None


def naive_prompts(spec: EvalSpec, setting: Setting) -> Prompts:
    """Ask for every class by its own conditioning (naive prompting, paper section 4).

    Training classes are asked for at random values within their ranges, held-out classes at their exact means; the
    vectors are drawn once per run and used at every checkpoint (reference implementation).
    """
    key = rng.run_key(setting.seed)
    _, _, samples = spec.shape
    conditioning = spec.train.source.prompts(setting, samples, rng.stream(key, "data"))
    return Prompts(conditioning.reshape(-1, conditioning.shape[-1]), jax.random.fold_in(rng.stream(key, "eval"), 0))


def battery(spec: EvalSpec, setting: Setting) -> Query:
    """Build all queries of the battery [queries, held-out classes, ...], naive prompting first."""
    key = jax.random.fold_in(rng.stream(rng.run_key(setting.seed), "eval"), 3)
    return protocols.queries(spec.elicit, spec.train.source, setting, key, spec.evaluate.guidance)


def prepare(spec: EvalSpec, params: dict, patch: dict, setting: Setting, queries: Query) -> Prompts:
    """Turn the queries of one batch [q, held-out classes, ...] into prompts: embed, project, patch, edit, repeat.

    Args:
      spec: static description of the battery.
      params: parameters that are asked.
      patch: parameters whose conditioning projections patched queries use.
      setting: the run's numbers.
      queries: of one batch.
    """
    flat: Query = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), queries)
    network = spec.train.vdm.network
    stream = rng.stream(rng.run_key(setting.seed), "eval")

    def choose(own: Any, other: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(flat.patched[:, None], b, a), own, other)

    def embed(c: jax.Array) -> jax.Array:
        return choose(*(unet.embed_conditioning(network, one["network"], c) for one in (params, patch)))

    def project(v: jax.Array) -> dict[str, jax.Array]:
        return choose(*(unet.project_embedding(network, one["network"], v) for one in (params, patch)))

    null = jnp.full_like(flat.conditioning, spec.train.vdm.diffusion.null_value)
    asked = embed(flat.conditioning)
    ends = [embed(c) for c in (flat.amplified, flat.removed, flat.own_amplified, flat.own_removed)]
    if shares_embedding(network.conditioning):
        directions = Directions(*({"": end} for end in ends))
        asked = edit({"": asked}, directions, _edits_where(flat, flat.shared), jax.random.fold_in(stream, 5))[""]
    directions = Directions(*map(project, ends))
    edited = edit(project(asked), directions, _edits_where(flat, ~flat.shared), jax.random.fold_in(stream, 4))

    nothing = project(embed(null)) if _weighted(spec) else None
    return _repeated(spec, flat, edited, nothing, jax.random.fold_in(stream, 0))


def _weighted(spec: EvalSpec) -> bool:
    return spec.evaluate.guidance != 1.0 or protocols.uses_guidance(spec.elicit)


def _repeated(spec: EvalSpec, flat: Query, edited: vdm.Conditioning, nothing: Any, key: jax.Array) -> Prompts:
    """Return the prompts of queries [q * held-out classes], each `edited` projection once a sample.

    `nothing` are the projections of the null conditioning, None where no query is weighted.
    """
    held_out, samples = spec.shape[1:]

    def repeat(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, samples, axis=0), tree)

    if nothing is not None and not spec.guided:  # weights are 0 and 1: one branch each
        edited = jax.tree.map(lambda a, b: jnp.where((flat.guidance == 0)[:, None], b, a), edited, nothing)
    weights, null = (repeat(flat.guidance), repeat(nothing)) if nothing is not None and spec.guided else (None, None)
    repeats = flat.repeat[::held_out] if protocols.repeats(spec.elicit) else None
    return Prompts(repeat(edited), key, weights, null, repeats)


class Directions(NamedTuple):
    """The directions of latent edits: block -> [q, d].

    `own` are those of the protocol that a shuffled edit controls.
    """

    amplified: dict[str, jax.Array]
    removed: dict[str, jax.Array]
    own_amplified: dict[str, jax.Array]
    own_removed: dict[str, jax.Array]


def edit(h: dict[str, jax.Array], directions: Directions, query: Query, key: jax.Array) -> dict[str, jax.Array]:
    """Return the embeddings after each query's linear latent intervention: block -> [q, d].

    With b and l the amplified and the removed embedding at length 1: h1 = h + alpha <h, b> b, then
    h1 - beta <h1, l> l (reference implementation). Where `query.random` is not 0, the change keeps its length and takes
    a random direction that is no near-copy (`unlike`), which depends on that number, the key and the block. Where
    `query.rescaled`, it keeps its direction and takes the length of the edit that it controls.
    """
    edited = {}
    for number, name in enumerate(h):
        block = h[name]
        amplified, removed, *own = (part[name] for part in directions)
        plain = _edited(block, amplified, removed, query)
        change = plain - block
        length = jnp.linalg.norm(change, axis=-1, keepdims=True)
        keys = jax.vmap(lambda i, n=number: jax.random.fold_in(jax.random.fold_in(key, n), i))(query.random)
        drawn = jax.vmap(lambda k, d=block.shape[-1]: jax.random.normal(k, (CANDIDATES, d)))(keys)
        random = length * jax.vmap(unlike)(change, drawn)
        wanted = jnp.linalg.norm(_edited(block, own[0], own[1], query) - block, axis=-1, keepdims=True)
        chosen = jnp.where(query.rescaled[:, None], block + wanted * _unit(change), plain)
        edited[name] = jnp.where((query.random > 0)[:, None], block + random, chosen)
    return edited


def _edited(h: jax.Array, amplified: jax.Array, removed: jax.Array, query: Query) -> jax.Array:
    up, down = _unit(amplified), _unit(removed)
    first = h + query.alpha[:, None] * (h * up).sum(-1, keepdims=True) * up
    return first - query.beta[:, None] * (first * down).sum(-1, keepdims=True) * down


def _edits_where(query: Query, here: jax.Array) -> Query:
    """Return the queries [q] without the edits of those that are not edited here."""
    alpha, beta, random = (jnp.where(here, one, 0) for one in (query.alpha, query.beta, query.random))
    return query.replace(alpha=alpha, beta=beta, random=random)


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
