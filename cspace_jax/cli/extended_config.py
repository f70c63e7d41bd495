"""Config file for --mode=extend: the configuration of a workdir with all that was added to it."""

from typing import Any
from urllib.parse import unquote

from cspace_jax.pipeline import extension
from cspace_jax.studies.base import to_config_dict


def get_config(folder: str) -> Any:
    """Return the configuration of a workdir with all values of its axes and all of its steps.

    Args:
      folder: the workdir as `flags` quotes it, "%3A" for a colon and "%25" for a percent sign.

    Raises:
      UserError: the folder is not a workdir, or a file of it is damaged.
    """
    return to_config_dict(extension.grown(unquote(folder, errors="surrogateescape")))
