"""The configuration of one study: read from a ConfigDict, checked, written to JSON, compared.

A ConfigDict is turned into frozen dataclasses once, by `from_config_dict`, and never travels further. Every field that
changes a shape or a program lives here; numbers that vary over the grid of runs become a `Setting`.
"""

import hashlib
from typing import Any

from cspace_jax.config import checks, reading
from cspace_jax.config.fields import declared
from cspace_jax.config.schema import Config


def from_config_dict(source: Any) -> Config:
    """Return the checked configuration read from a ConfigDict or any nested mapping.

    Absent fields take the defaults of the dataclasses; `study` and `scale` have none.

    Raises:
      UserError: one line naming the field, its value and what is allowed.
    """
    resolved = source.to_dict() if hasattr(source, "to_dict") else source
    config = reading.read(Config, resolved)
    checks.check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as dicts, lists and scalars; `from_config_dict` reads it back unchanged."""
    return reading.plain(config)


def fingerprint(text: str, digits: int = 64) -> str:
    """Return the first hex digits of the SHA-256 of a text that holds all that decides a result."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def differing_fields(first: Config, second: Config) -> list[str]:
    """Return the dotted names, in field order, of the fields that differ and could change a stored result."""
    left, right = reading.flatten(to_dict(first)), reading.flatten(to_dict(second))
    return [name for name, _, what in declared(Config) if what.affects_results and left[name] != right[name]]
