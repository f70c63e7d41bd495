"""The configuration of one study: read from a ConfigDict, checked, written to JSON, compared.

A ConfigDict is turned into frozen dataclasses once, by `from_config_dict`, and never travels further. Every field that
changes a shape or a program lives here; numbers that vary over the grid of runs become a `Setting`.
"""

from typing import Any

from cspace_jax.config import checks, reading
from cspace_jax.config.schema import Config

# How the grid is executed, how often a line is logged, where the probe is cached and which figures are drawn never
# change a stored result beyond rounding.
# Two fields of engine are exceptions: checkpoints lie in one folder a wave, and precision is more than rounding.
_FREE_GROUPS = ("engine", "figures", "elicit")
_FREE_FIELDS = ("optim.log_every", "probe.cache_dir")


def from_config_dict(source: Any) -> Config:
    """Return the checked configuration read from a ConfigDict or any nested mapping.

    Absent fields take the defaults of the dataclasses; `study` and `scale` have none.
    Errors: UserError, one line naming the field, its value and what is allowed.
    """
    resolved = source.to_dict() if hasattr(source, "to_dict") else source
    config = reading.read(Config, resolved)
    checks.check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as dicts, lists and scalars; `from_config_dict` reads it back unchanged."""
    return reading.plain(config)


def differing_fields(first: Config, second: Config) -> list[str]:
    """Return the dotted names, in field order, of the fields that differ and could change a stored result."""
    left, right = reading.flatten(to_dict(first)), reading.flatten(to_dict(second))
    return [name for name in left if left[name] != right[name] and not _free(name)]


def _free(name: str) -> bool:
    return name not in ("engine.wave", "engine.precision") and (
        name.split(".")[0] in _FREE_GROUPS or name in _FREE_FIELDS
    )
