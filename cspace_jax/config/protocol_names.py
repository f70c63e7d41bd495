"""How protocols and their controls are named: `NAME`, `NAME_random`, `NAME_shuffled`."""

from cspace_jax.config.schema import RANDOM, SHUFFLED


def control_of(name: str) -> str:
    """Return the kind of control that a protocol's name ends with, `RANDOM` or `SHUFFLED`; "" for a protocol itself."""
    return next((suffix for suffix in (RANDOM, SHUFFLED) if name.endswith(suffix)), "")


def is_control(name: str) -> bool:
    """Return whether a name is that of a random or shuffled control."""
    return bool(control_of(name))


def controlled(name: str) -> str:
    """Return the protocol that a name's control belongs to; a protocol itself is its own."""
    return name.removesuffix(control_of(name))
