"""Registration of protocols, figures, charts, claims and blocks of the summary: each name is taken once."""

from collections.abc import Callable
from typing import Any

from cspace_jax.errors import UserError

Function = Callable[..., Any]


def check_name(kind: str, name: str, function: Function, before: Function | None) -> None:
    """Check that a function may be registered under a name.

    A function may replace itself, as a notebook's cell that runs again does, but no other function.

    Args:
      kind: what is registered, in words.
      name: the name in its registry.
      function: the new function.
      before: the function that has the name, None for none.

    Raises:
      UserError: another function has the name.
    """
    if before and (before.__module__, before.__qualname__) != (function.__module__, function.__qualname__):
        taken = f"{before.__qualname__} in the module {before.__module__}"
        raise UserError(f"{kind} {name!r}: {taken} has this name already, choose another")
