"""A protocol is named `NAME`, its controls `NAME_random` and `NAME_shuffled`.

What each protocol does stands where it is registered (evaluation/protocols.py).
"""

NAIVE = "naive"  # asks for a class by its own conditioning
REPEATED = "naive_repeats"  # does so several times, with other noise
OVERPROMPT = "overprompt"
OVERPROMPT_PUBLISHED = "overprompt_published"
LATENT = "latent"
LATENT_SHARED = "latent_shared"
GUIDANCE = "guidance"
PATCH = "patch"
RANDOM = "_random"  # suffix of a control: directions of the same length, drawn at random
SHUFFLED = "_shuffled"  # suffix of a control: the same change along another concept


def control_of(name: str) -> str:
    """Return the suffix of a control's name, `RANDOM` or `SHUFFLED`. A protocol itself gives ""."""
    return next((suffix for suffix in (RANDOM, SHUFFLED) if name.endswith(suffix)), "")


def is_control(name: str) -> bool:
    """Return whether a name is that of a random or shuffled control."""
    return bool(control_of(name))


def controlled(name: str) -> str:
    """Return the protocol that a control belongs to. A protocol itself is its own."""
    return name.removesuffix(control_of(name))
