"""Paths as people write them."""

import os


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path as text, "~" replaced by the folder of the user; "~nobody", whom nobody knows, stays as it is."""
    return os.path.expanduser(os.fspath(path))
