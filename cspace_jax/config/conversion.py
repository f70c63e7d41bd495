"""Conversion of a study's configuration from a ConfigDict and to JSON, and its comparison with another.

A ConfigDict is turned into frozen dataclasses once, by `from_config_dict`, and never travels further. Every field that
changes a shape or a program lives here; numbers that vary over the grid of runs become a `Setting`.
"""

import dataclasses
import hashlib
from typing import Any

from cspace_jax.config import checks, reading
from cspace_jax.config.fields import declared
from cspace_jax.config.schema import Config


def from_config_dict(source: Any) -> Config:
    """Read and check a configuration from a ConfigDict or any nested mapping, and return it.

    Absent fields take the defaults of the dataclasses; `study` and `scale` have none.

    Raises:
      UserError: one line naming the field, its value and what is allowed.
    """
    resolved = source.to_dict() if hasattr(source, "to_dict") else source
    config = reading.read(Config, resolved)
    checks.check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as dicts, lists and scalars. `from_config_dict` reads it back unchanged."""
    return reading.plain(config)


def fingerprint(text: str, digits: int = 64) -> str:
    """Return the first `digits` (at most 64) hex digits of the SHA-256 of a text.

    The text should hold all that decides a result.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A field in which two configurations differ.

    Attributes:
      field: its dotted name.
      first: its plain value in the first configuration.
      second: its plain value in the second.
      affects_results: whether the field could change a stored result by more than rounding.
    """

    field: str
    first: Any
    second: Any
    affects_results: bool


def differences(first: Config, second: Config) -> list[Difference]:
    """Return every field in which two configurations differ, in field order."""
    left, right = reading.flatten(to_dict(first)), reading.flatten(to_dict(second))
    return [
        Difference(name, left[name], right[name], what.affects_results)
        for name, _, what in declared(Config)
        if left[name] != right[name]
    ]


def differing_fields(first: Config, second: Config) -> list[str]:
    """Return the dotted names of the fields that differ and could change a stored result, in field order."""
    return [one.field for one in differences(first, second) if one.affects_results]
