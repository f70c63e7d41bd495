"""What checks the annotations of the package's functions while tests run."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # the tower lets an int stand for a float


def check_annotations(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's arguments and result at call time, except the fields of dataclasses.

    Their annotations describe one run, but JAX also makes them with leaves that are stacked over runs.
    """
    return function if function.__name__ == "__init__" else _CHECK(function)
