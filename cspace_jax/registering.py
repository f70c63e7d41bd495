"""Registration of protocols, figures, charts, claims and blocks of the summary: each name is taken once."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from cspace_jax.errors import UserError

Function = Callable[..., Any]


def require_name(kind: str, name: Any) -> None:
    """Check that a decorator was given a name, as one without parentheses is not.

    Raises:
      UserError: it is no text, empty, or holds a slash.
    """
    if not isinstance(name, str) or not name.strip() or "/" in name:
        raise UserError(f"{kind}: needs a name without '/', such as @cs.{kind.replace(' ', '_')}(\"mine\")")


def check_name(kind: str, name: str, function: Function, before: Function | None) -> None:
    """Check that a function may be registered under a name.

    A function may replace itself, known by its place and its qualified name: a notebook's cell that runs again does so.

    Args:
      kind: what is registered, in words.
      name: the name in its registry.
      function: the new function.
      before: the function that has the name, None for none.

    Raises:
      UserError: another function has the name.
    """
    if before and _origin(before) != _origin(function):
        place, known_as = _origin(before)
        raise UserError(f"{kind} {name!r}: {known_as} in {place} has this name already, choose another")


def _origin(function: Function) -> tuple[str, str]:
    """Return the file, or of a notebook's cell the module, and the qualified name of a function."""
    plain = inspect.unwrap(function)
    module, code = plain.__module__, getattr(plain, "__code__", None)
    file = code.co_filename if code else ""
    a_cell = module == "__main__" and file != getattr(sys.modules[module], "__file__", None)
    return (
        module if a_cell or not os.path.isfile(file) else os.path.realpath(file),
        getattr(plain, "__qualname__", type(plain).__qualname__),
    )
