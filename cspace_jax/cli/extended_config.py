"""Config file for --mode=extend: the configuration of a workdir with all that was added to it."""

from typing import Any

from cspace_jax.pipeline import extension
from cspace_jax.studies.base import to_config_dict


def get_config(folder: str) -> Any:
    """Return the configuration of a workdir with all values of its axes and all of its steps.

    Raises:
      UserError: the folder is not a workdir, or a file of it is damaged.
    """
    return to_config_dict(extension.grown(folder))
