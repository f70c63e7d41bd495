"""The configuration of an existing workdir in the form of a config file, so that its fields can be overridden."""

from ml_collections import ConfigDict

from cspace_jax import workdir
from cspace_jax.config import to_dict


def get_config(folder: str) -> ConfigDict:
    """Return the configuration stored in a workdir.

    Errors: UserError if the folder is not a workdir or its configuration is damaged.
    """
    return ConfigDict(to_dict(workdir.load(folder)[1]))
