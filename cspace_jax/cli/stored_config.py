"""Config file with the configuration of an existing workdir, so that its fields can be overridden."""

from typing import Any
from urllib.parse import unquote

from cspace_jax.storage import workdir
from cspace_jax.studies.base import to_config_dict


def get_config(folder: str) -> Any:
    """Return the configuration stored in a workdir.

    Args:
      folder: the workdir as `flags` quotes it, "%3A" for a colon and "%25" for a percent sign.

    Raises:
      UserError: the folder is not a workdir, or its configuration is damaged.
    """
    return to_config_dict(workdir.load(unquote(folder, errors="surrogateescape"))[1])
