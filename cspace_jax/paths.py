"""Expansion and comparison of paths as people write them."""

import os
import posixpath


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path as text, with "~" replaced by the user's folder. "~NAME" of an unknown user stays as it is."""
    return os.path.expanduser(os.fspath(path))


def real_path(path: str | os.PathLike[str]) -> str:
    """Return one text for all ways to name a place.

    A local path becomes absolute, without links. A cloud address stays as it is written, except that needless slashes
    and dots are dropped.
    """
    text = expanded(path)
    scheme, separator, place = text.partition("://")
    if separator and scheme.isalnum():
        return f"{scheme}://{posixpath.normpath(place)}"
    return os.path.realpath(text)


def within(root: str | os.PathLike[str], path: str | os.PathLike[str]) -> bool:
    """Return whether a path leads to a folder or to something in it, over whatever links."""
    return f"{real_path(path)}/".startswith(f"{real_path(root).rstrip('/')}/")
