"""Modules of a package that are loaded when they are first used: `cs.plots.style` without an import of its own."""

import importlib
from collections.abc import Callable, Collection
from typing import Any


def modules(package: str, names: Collection[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package, by which its modules `names` are its attributes."""

    def load(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted(names)
