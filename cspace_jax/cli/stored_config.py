"""The configuration of an existing workdir in the form of a config file, so that its fields can be overridden."""

from typing import Any

from ml_collections import ConfigDict

from cspace_jax.config import to_dict
from cspace_jax.storage import workdir


def get_config(folder: str) -> ConfigDict:
    """Return the configuration stored in a workdir.

    Errors: UserError if the folder is not a workdir or its configuration is damaged.
    """
    return ConfigDict(_with_tuples(to_dict(workdir.load(folder)[1])))


def _with_tuples(value: Any) -> Any:
    """Return a tree of dicts with tuples in place of lists, the only sequences that a command line can override."""
    if isinstance(value, dict):
        return {name: _with_tuples(one) for name, one in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
