"""Elicitation protocols as data: what a model is asked for besides, or instead of, the class's own conditioning.

A protocol changes a `Query` step by step; it never touches the sampler, so adding one is adding a function here:

    @protocol("dim", values=lambda config: (0.5, 0.8))
    def dim(query, target, value):
        return query.replace(conditioning=query.conditioning * value)

It can then be named in `elicit.protocols`, alone, with its control ("dim_random") or joined with others ("dim+patch").
One that goes along a concept takes that of `elicit.concept`, or the one named behind a colon ("overprompt:size");
":all" pushes all of them at once.
Sources: paper section 4.4; reference implementation (the published prompts, directions and strengths).
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cspace_jax.config.protocol_names import NAIVE, RANDOM, REPEATED, SHUFFLED, control_of
from cspace_jax.config.schema import (
    CONDITIONINGS,
    ElicitConfig,
    shares_embedding,
)
from cspace_jax.config.setting import Setting
from cspace_jax.data.concepts import CONDITIONING_DIM, SLICES
from cspace_jax.data.source import Source
from cspace_jax.errors import UserError
from cspace_jax.evaluation.query import ALL, Query, Target, make_target, plain_query, random_direction
from cspace_jax.registering import check_name, require_name
from cspace_jax.text import closest

PUBLISHED_BLUE = (0.6, 0.65, 0.75, 0.85, 0.95)  # blue channel of the published prompts; red and green are 1 - blue
PUBLISHED_SIZE = 0.3
EACH = "each"  # of `elicit.concept`
ONE_BRANCH = (0.0, 1.0)  # weights of guidance that need one evaluation of the network: without the prompt, or with it
# How controls are drawn; part of the fingerprint of batteries that hold one.
CONTROLS = "random: cosine to the protocol's own direction below 0.5; shuffled: at the protocol's own length"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A change of a query and the values that it is tried with; its capability is the maximum over them.

    Attributes:
      change: (query, target, value) -> query.
      values: what it is tried with.
      follows: whether the change goes along the pushed concept, so that it can be shuffled.
      moves: whether it moves the conditioning or its embedding, so that it has a random control.
      guides: whether it changes the guidance weight.
      edits: where it edits the embedding, "block" or "shared" (then it needs a network that shares one), or "".
    """

    change: Callable[[Query, Target, Any], Query]
    values: Callable[[ElicitConfig], Sequence[Any]]
    follows: bool = False
    moves: bool = True
    guides: bool = False
    edits: str = ""


PROTOCOLS: dict[str, Protocol] = {}


def protocol(
    name: str, values: Callable[[ElicitConfig], Sequence[Any]] = lambda config: (None,), **kind: Any
) -> Callable[[Callable[[Query, Target, Any], Query]], Callable[[Query, Target, Any], Query]]:
    """Register a function (query, target, value) -> query as the protocol `name`, tried with `values(config)`.

    `kind` holds the flags of `Protocol`; a protocol that changes `query.guidance` must say guides=True.

    Raises:
      UserError: another function is the protocol of this name, the name cannot be asked for, or it is no function.
    """

    require_name("protocol", name)

    def register(change: Callable[[Query, Target, Any], Query]) -> Callable[[Query, Target, Any], Query]:
        _check_form(name, change, values, kind)
        if "+" in name or ":" in name or control_of(name):
            raise UserError(f"protocol {name!r}: must hold no '+' or ':' and not end in {RANDOM} or {SHUFFLED}")
        check_name("protocol", name, change, PROTOCOLS[name].change if name in PROTOCOLS else None)
        PROTOCOLS[name] = Protocol(change, values, **kind)
        return change

    return register


def _check_form(name: str, change: Any, values: Any, kind: dict[str, Any]) -> None:
    """Raise UserError unless a protocol is a function of three arguments, with values and known flags."""
    if not inspect.isfunction(inspect.unwrap(change)):
        raise UserError(f"protocol {name!r}: must be a function, not {type(change).__name__}")
    if not callable(values):
        raise UserError(f"protocol {name!r}: values must be a function of the group elicit, not {values!r}")
    flags = [field.name for field in dataclasses.fields(Protocol)][2:]
    if unknown := sorted(set(kind) - set(flags)):
        raise UserError(f"protocol {name!r}: has no flag {unknown[0]!r}{closest(unknown[0], flags)}")
    try:
        inspect.signature(change).bind(None, None, None)
    except TypeError as error:
        raise UserError(f"protocol {name!r}: must take (query, target, value): {error}") from error


@protocol(NAIVE, moves=False)
def naive(query: Query, target: Target, value: None) -> Query:
    """Ask for the class at its mean."""
    return query


def _repeats(config: ElicitConfig) -> Sequence[int]:
    others = [name for name in config.protocols if name != REPEATED]
    return range(max((len(settings(config, name)) for name in others), default=1))


@protocol(REPEATED, values=_repeats, moves=False)
def naive_repeats(query: Query, target: Target, value: int) -> Query:
    """Ask for the class at its mean once more, with other noise: what a choice among as many equal queries gives."""
    return query.replace(repeat=jnp.int32(value))


@protocol("overprompt", values=lambda config: config.overprompt, follows=True)
def overprompt(query: Query, target: Target, value: float) -> Query:
    """Exaggerate the pushed concept: mu + lambda (mu_blue - mu_red) when a blue class's colour is pushed."""
    return query.replace(conditioning=query.conditioning + value * (target.mean - target.flipped))


@protocol("overprompt_published", values=lambda config: PUBLISHED_BLUE)
def overprompt_published(query: Query, target: Target, value: float) -> Query:
    """Ask with the five published colours and the published size; meant for the class blue and small."""
    color = jnp.array([1 - value, 1 - value, value])
    conditioning = jnp.zeros(CONDITIONING_DIM).at[SLICES["color"]].set(color).at[SLICES["size"]].set(PUBLISHED_SIZE)
    return query.replace(conditioning=conditioning)


def _strengths(config: ElicitConfig) -> tuple[tuple[float, float], ...]:
    return tuple(itertools.product(config.alpha, config.beta))


@protocol("latent", values=_strengths, follows=True, edits="block")
def latent(query: Query, target: Target, value: tuple[float, float]) -> Query:
    """Edit every block's embedding h: h + alpha <h, b> b, then minus beta <., l> l with unit b, l (`elicit.edit`)."""
    alpha, beta = value
    return query.replace(
        alpha=jnp.float32(alpha), beta=jnp.float32(beta), amplified=target.strong, removed=target.opposite
    )


@protocol("latent_shared", values=_strengths, follows=True, edits="shared")
def latent_shared(query: Query, target: Target, value: tuple[float, float]) -> Query:
    """Edit the embedding v that all blocks share in the same way, before the blocks project it.

    Needs network.conditioning = common_linear or common_zerolinear. The reference implementation's variant is alpha = 1
    and beta = 0, v + <v, b> b.
    """
    alpha, beta = value
    return query.replace(
        alpha=jnp.float32(alpha), beta=jnp.float32(beta), amplified=target.strong_shared, removed=target.opposite,
        shared=jnp.bool_(True),
    )  # fmt: skip


@protocol("guidance", values=lambda config: config.guidance, moves=False, guides=True)
def guidance(query: Query, target: Target, value: float) -> Query:
    """Sample with classifier-free guidance at weight w; needs a network trained with diffusion.p_uncond above 0."""
    return query.replace(guidance=jnp.float32(value))


@protocol("patch", moves=False)
def patch(query: Query, target: Target, value: None) -> Query:
    """Use the conditioning projections of another checkpoint, that of `elicit.patch_step` (paper Fig. 17)."""
    return query.replace(patched=jnp.bool_(True))


def parse(name: str) -> tuple[list[Protocol], str]:
    """Return the protocols joined by "+" in a name and its control ("", RANDOM or SHUFFLED); `pushed` has the concepts.

    Raises:
      UserError: a protocol is unknown, or a control would control nothing.
    """
    parts, control = _parts(name)
    parts = [part for part, _ in parts]
    for part in parts:
        if part not in PROTOCOLS:
            allowed = f"; allowed are {', '.join(PROTOCOLS)}, joined by '+', and controls {RANDOM} and {SHUFFLED}"
            found = f"unknown protocol {part!r}{closest(part, PROTOCOLS)}"
            raise UserError(f"elicit.protocols = {name!r}: {found}{allowed}")
    found = [PROTOCOLS[part] for part in parts]
    for one, concept in zip(found, pushed(name), strict=True):
        if concept and not one.follows:
            raise UserError(f"elicit.protocols = {name!r}: it pushes no concept that {concept!r} could name")
    if control == SHUFFLED and ALL in pushed(name):
        raise UserError(f"elicit.protocols = {name!r}: with all concepts pushed none is left to exchange")
    if control == SHUFFLED and not any(one.follows for one in found):
        raise UserError(f"elicit.protocols = {name!r}: it follows no concept that could be shuffled")
    if control == RANDOM and not any(one.moves for one in found):
        raise UserError(f"elicit.protocols = {name!r}: nothing is moved that a random direction could replace")
    if REPEATED in parts and len(parts) > 1:
        raise UserError(f"elicit.protocols = {name!r}: {REPEATED} repeats the plain query and cannot be joined")
    if sum(bool(one.edits) for one in found) > 1:
        raise UserError(f"elicit.protocols = {name!r}: a query edits its embedding once, join only one of them")
    return found, control


def _parts(name: str) -> tuple[list[tuple[str, str]], str]:
    """Return (protocol, concept or "") of every part of a name, and its control."""
    control = control_of(name)
    pairs = [part.partition(":") for part in name.removesuffix(control).split("+")]
    return [(protocol, concept) for protocol, _, concept in pairs], control


def pushed(name: str) -> list[str]:
    """Return the concept that each protocol joined in a name pushes by itself; "" = that of `elicit.concept`."""
    return [concept for _, concept in _parts(name)[0]]


def expand(config: ElicitConfig, active: Sequence[str]) -> ElicitConfig:
    """Return a battery with the concept "each" spelled out.

    A protocol that goes along a concept does so for each concept, then for all. Joined protocols push the same concept.
    Shuffled controls push each concept, not all.
    """
    if config.concept != EACH:
        return config
    names: list[str] = []
    for name in config.protocols:
        found, control = parse(name)
        parts, _ = _parts(name)
        concepts = (*active, *([] if control == SHUFFLED else [ALL])) if any(one.follows for one in found) else ("",)
        for concept in concepts:
            spelled = [
                f"{part}:{own or concept}" if one.follows and (own or concept) else part
                for (part, own), one in zip(parts, found, strict=True)
            ]
            names.append("+".join(spelled) + control)
    return dataclasses.replace(config, protocols=tuple(dict.fromkeys(names)), concept="")


def settings(config: ElicitConfig, name: str) -> list[tuple[Any, ...]]:
    """Return the combinations of values that a protocol is tried with.

    Raises:
      UserError: there are none.
    """
    found = list(itertools.product(*(one.values(config) for one in parse(name)[0])))
    if not found:
        raise UserError(f"protocol {name!r}: has no values to be tried with")
    return found


def layout(config: ElicitConfig) -> list[tuple[str, tuple[Any, ...]]]:
    """Return (protocol, values) of every query of a class, naive prompting first."""
    names = [NAIVE, *(name for name in config.protocols if name != NAIVE)]
    return [(name, values) for name in names for values in settings(config, name)]


def uses_guidance(config: ElicitConfig) -> bool:
    """Return whether any query is sampled with a guidance weight other than 1."""
    return any(one.guides for name in config.protocols for one in parse(name)[0])


def passes(config: ElicitConfig, guidance: float) -> list[int]:
    """Return how often the network is evaluated in a sampling step of each query: twice where its weight needs both.

    Args:
      config: of the battery.
      guidance: weight of queries whose protocol does not change it.
    """
    found = []
    for name, values in layout(config):
        weights = [value for one, value in zip(parse(name)[0], values, strict=True) if one.guides]
        found.append(2 if (weights[-1] if weights else guidance) not in ONE_BRANCH else 1)
    return found


def repeats(config: ElicitConfig) -> bool:
    """Return whether any query is sampled with noise of its own."""
    return REPEATED in config.protocols


def check_network(config: ElicitConfig, conditioning: str) -> None:
    """Raise UserError for a protocol that edits a shared embedding where this kind of conditioning shares none."""
    kinds = ", ".join(filter(shares_embedding, CONDITIONINGS))
    for name in config.protocols:
        if any(one.edits == "shared" for one in parse(name)[0]) and not shares_embedding(conditioning):
            raise UserError(
                f"elicit.protocols = {name!r}: needs one embedding shared by all blocks (network.conditioning one of "
                f"{kinds}), but network.conditioning = {conditioning!r}; 'latent' edits every block's own"
            )


def check_source(config: ElicitConfig, source: Source) -> None:
    """Check that the source of a study has the concepts that its protocols push or ask for.

    Raises:
      UserError: a protocol pushes or asks for a concept that the study does not have, or its images are not drawn.
    """
    active = source.classes.active
    for name in config.protocols:
        # A flag of the protocol would say so better; it would change the text that its batteries are found by.
        published = source.far_ends and {"color", "size"} <= {*active}
        if PROTOCOLS["overprompt_published"] in parse(name)[0] and not published:
            needs = "asks for colour and size of the data-generating process"
            raise UserError(f"elicit.protocols = {name!r}: overprompt_published {needs}")
        for concept in pushed(name):
            if concept and concept not in (*active, ALL):
                known = ", ".join((*active, ALL))
                raise UserError(
                    f"elicit.protocols = {name!r}: {concept!r} is none of {known}{closest(concept, active)}"
                )


def fingerprint(config: ElicitConfig) -> str:
    """Return the names, values and code of a battery's protocols, as a text that tells batteries apart."""
    found = {part for name, _ in layout(config) for part in parse(name)[0]}
    controlled = any(parse(name)[1] for name, _ in layout(config))
    return repr((layout(config), config.concept, sorted(map(_code, found)))) + (CONTROLS if controlled else "")


def _code(one: Protocol) -> str:
    try:
        return inspect.getsource(one.change)
    except OSError:  # typed into an interpreter
        return one.change.__code__.co_code.hex() + repr(one.change.__code__.co_consts)


def queries(config: ElicitConfig, source: Source, setting: Setting, key: jax.Array, guidance: float = 1.0) -> Query:
    """Build every query of every held-out class: leaves [queries, held-out classes, ...].

    Args:
      config: protocols and their values.
      source: of the images.
      setting: the run's numbers; its class means are what is exaggerated.
      key: of the random directions, which are the run's own and the same at every checkpoint.
      guidance: weight of queries whose protocol does not change it.
    """
    means = source.means(setting)
    rows = []
    for number, (name, values) in enumerate(layout(config)):
        row = []
        for klass in source.classes.held_out_ids:
            direction_key = jax.random.fold_in(jax.random.fold_in(key, number), klass)
            row.append(_query(config, source, klass, name, values, number, guidance, means, direction_key))
        rows.append(jax.tree.map(lambda *leaves: jnp.stack(leaves), *row))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def _query(
    config: ElicitConfig, source: Source, klass: int, name: str, values: tuple[Any, ...], number: int,
    guidance: float, means: jax.Array, key: jax.Array,
) -> Query:  # fmt: skip
    parts, control = parse(name)
    before = plain_query(means[klass], guidance)

    def change(shuffled: bool) -> Query:
        query = before
        for one, concept, value in zip(parts, pushed(name), values, strict=True):
            target = make_target(source, klass, concept or config.concept, means, shuffled)
            query = one.change(query, target, value)
            if not isinstance(query, Query):
                raise UserError(f"protocol {name!r}: must return a query, not {type(query).__name__}")
        return query

    query = change(shuffled=False)
    _check_shapes(name, query, before)
    offset = query.conditioning - before.conditioning
    if control == RANDOM:
        direction = jnp.linalg.norm(offset) * random_direction(source, key, offset)
        query = query.replace(conditioning=before.conditioning + direction, random=jnp.int32(number))
    if control == SHUFFLED:
        query = _rescale(change(shuffled=True), query, before)
    return query


def _rescale(shuffled: Query, own: Query, before: Query) -> Query:
    """Bring a shuffled query's change to the length of the protocol's own; of a latent edit, when it is made."""
    wanted, offset = own.conditioning - before.conditioning, shuffled.conditioning - before.conditioning
    ratio = jnp.linalg.norm(wanted) / jnp.maximum(jnp.linalg.norm(offset), 1e-12)
    return shuffled.replace(
        conditioning=before.conditioning + ratio * offset, rescaled=jnp.bool_(True), own_amplified=own.amplified,
        own_removed=own.removed,
    )  # fmt: skip


def _check_shapes(name: str, query: Query, before: Query) -> None:
    for field in dataclasses.fields(Query):
        found, allowed = (jnp.shape(getattr(one, field.name)) for one in (query, before))
        if found != allowed:
            raise UserError(f"protocol {name!r}: query.{field.name} has shape {found}, must be {allowed}")
