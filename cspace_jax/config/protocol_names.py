"""A protocol is named `NAME`, its controls `NAME_random` and `NAME_shuffled`."""

from cspace_jax.config.schema import RANDOM, SHUFFLED


def control_of(name: str) -> str:
    """Return the suffix of a control's name, `RANDOM` or `SHUFFLED`. A protocol itself gives ""."""
    return next((suffix for suffix in (RANDOM, SHUFFLED) if name.endswith(suffix)), "")


def is_control(name: str) -> bool:
    """Return whether a name is that of a random or shuffled control."""
    return bool(control_of(name))


def controlled(name: str) -> str:
    """Return the protocol that a control belongs to. A protocol itself is its own."""
    return name.removesuffix(control_of(name))
