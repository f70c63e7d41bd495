"""Paths as people write them."""

import os
import posixpath


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path as text, "~" replaced by the folder of the user; "~nobody", whom nobody knows, stays as it is."""
    return os.path.expanduser(os.fspath(path))


def real_path(path: str | os.PathLike[str]) -> str:
    """Return a text that is equal for all ways to name a place: its absolute path without links, or its cloud address.

    A cloud address stays as it is written, but for needless slashes and dots.
    """
    text = expanded(path)
    scheme, separator, place = text.partition("://")
    if separator and scheme.isalnum():
        return f"{scheme}://{posixpath.normpath(place)}"
    return os.path.realpath(text)


def within(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Return whether a path leads, over whatever links, to a folder or to something in it."""
    return f"{real_path(path)}/".startswith(f"{real_path(root).rstrip('/')}/")
