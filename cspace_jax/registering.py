"""What functions are registered under, as figures, charts, claims and blocks of the summary: a name is taken once."""

from collections.abc import Callable
from typing import Any

from cspace_jax.errors import UserError

Function = Callable[..., Any]


def check_name(kind: str, name: str, function: Function, before: Function | None) -> None:
    """Check that a function may be registered: it replaces itself, as a notebook's cell that runs again, none other.

    Args:
      kind: what it would be, in words.
      name: under which it would stand.
      function: the new one.
      before: what stands there, None for nothing.

    Raises:
      UserError: another function has the name.
    """
    if before and (before.__module__, before.__qualname__) != (function.__module__, function.__qualname__):
        taken = f"{before.__qualname__} in the module {before.__module__}"
        raise UserError(f"{kind} {name!r}: {taken} has this name already, choose another")
