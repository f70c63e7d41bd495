"""Packages load their modules when they are first used.

So `cs.plots.style` needs no import of its own.
"""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any


def modules(
    package: str, path: Sequence[str], more: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Through them all its modules are its attributes. The first raises AttributeError for a name that is no module.

    Args:
      package: its `__name__`.
      path: its `__path__`.
      more: other names that `dir` lists.
    """
    names = {one.name for one in pkgutil.iter_modules(path)}

    def load(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*names, *more})
