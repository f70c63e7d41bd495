"""Conversion of nested mappings into typed dataclasses.

The error of a bad field is worded in one line.
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from cspace_jax.errors import UserError
from cspace_jax.text import closest

T = TypeVar("T")
MAX_INTEGER = 2**32  # larger numbers count nothing that a machine could hold
MAX_FLOAT = 3.4e38  # of float32, which programs compute in
MAX_SHOWN = 120  # characters of a value shown in an error


def fail(path: str, value: object, allowed: str) -> typing.NoReturn:
    """Raise the UserError `PATH = VALUE: ALLOWED`, always one line."""
    text = " ".join(repr(value).split())
    shown = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    raise UserError(f"{path} = {shown}: {allowed}")


def one_of(path: str, value: str, names: Iterable[str]) -> None:
    """Raise UserError unless `value` is one of `names`. The message lists them all, and a near one as a guess."""
    names = tuple(names)
    if value not in names:
        fail(path, value, f"must be one of {', '.join(names)}{closest(value, names)}")


def read(kind: type[T], source: Any, path: str = "") -> T:
    """Build the dataclass `kind` from a mapping.

    `path` is the mapping's dotted place in the configuration. Absent fields take their defaults. Integers pass for
    floats, whole floats for integers, lists, ranges and arrays for tuples and a scalar for a tuple of one. A number
    that misses a closed bound of its field by no more than a rounding to float32 becomes the bound.

    Raises:
      UserError: a field is unknown or missing, of a wrong type or length, NaN, infinite or too large.
    """
    if not isinstance(source, Mapping):
        fail(path or "config", source, f"must be a group of fields, not {_type_name(source)}")
    hints = typing.get_type_hints(kind)
    _refuse_unknown(source, hints, path)
    values = {name: _value(hints[name], source[name], _join(path, name)) for name in hints if name in source}
    _refuse_missing(kind, values, path)
    return kind(**values | _met(kind, values))


def _met(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have an interval. A number that misses a closed end by rounding becomes that end."""
    intervals = {one.name: one.metadata["declared"].interval for one in dataclasses.fields(kind) if one.metadata}
    found = {name: (values[name], interval) for name, interval in intervals.items() if interval and name in values}
    return {
        name: tuple(map(interval.met, value)) if isinstance(value, tuple) else interval.met(value)
        for name, (value, interval) in found.items()
    }


def sequence(value: Any) -> Any:
    """Return a range or an array as tuples of plain numbers.

    A NumPy scalar becomes a plain one. All else stays as it is.
    """
    if hasattr(value, "__array__"):  # of NumPy, JAX or pandas
        return _as_tuples(np.asarray(value).tolist())
    return tuple(value) if isinstance(value, range) else value


def _as_tuples(value: Any) -> Any:
    """Return nested lists as nested tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Return a dataclass tree as dicts, lists and scalars, ready for JSON."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def flatten(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        here = _join(path, name)
        leaves.update(flatten(value, here) if isinstance(value, Mapping) else {here: value})
    return leaves


def _join(path: str, name: str) -> str:
    """Return the dotted name of a field in a group."""
    return f"{path}.{name}" if path else name


def _type_name(value: object) -> str:
    """Return the name of a value's type, for messages."""
    return "nothing" if value is None else type(value).__name__


def _refuse_unknown(source: Mapping[str, Any], hints: Mapping[str, Any], path: str) -> None:
    """Raise UserError for a field that does not exist."""
    for name in source:
        if name not in hints:
            known = ", ".join(hints)
            hint = closest(str(name), hints)
            fail(_join(path, str(name)), source[name], f"unknown field{hint or '; known fields here: ' + known}")


def _refuse_missing(kind: type, values: Mapping[str, Any], path: str) -> None:
    """Raise UserError for a field that has no value and no default."""
    for field in dataclasses.fields(kind):
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and field.name not in values:
            raise UserError(f"{_join(path, field.name)} is missing: it has no default, give it a value")


def _value(hint: Any, value: Any, path: str) -> Any:
    """Convert one value to the type of its field."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read(hint, value, path)
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), value, path)
    return _SCALARS[hint](value, path)


def _tuple(hints: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    """Convert a list, a tuple or a scalar to a tuple.

    `hints` is (type, ...) or one type per entry.
    """
    value, variadic = sequence(value), hints[-1] is Ellipsis
    if not isinstance(value, list | tuple):
        if not variadic or typing.get_origin(hints[0]) is tuple:
            fail(path, value, f"must be a list, not {_type_name(value)}")
        return (_value(hints[0], value, path),)
    kinds = (hints[0],) * len(value) if variadic else hints
    if len(value) != len(kinds):
        fail(path, value, f"must have {len(kinds)} entries, not {len(value)}")
    return tuple(_value(kind, value[i], f"{path}[{i}]") for i, kind in enumerate(kinds))


def _bool(value: Any, path: str) -> bool:
    """Return a value that is True or False."""
    if not isinstance(value, bool):
        fail(path, value, f"must be True or False, not {_type_name(value)}")
    return value


def whole_number(value: float) -> int:
    """Return a whole number, such as 1e3, as an int.

    Raises:
      ValueError: it is not whole.
    """
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"{value} must be an integer")
    return int(value)


def _int(value: Any, path: str) -> int:
    """Return a whole number of at most `MAX_INTEGER` in size."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(path, value, f"must be an integer, not {_type_name(value)}")
    try:
        number = int(value) if isinstance(value, numbers.Integral) else whole_number(float(value))
    except (ValueError, OverflowError):
        fail(path, value, f"must be an integer, not {_type_name(value)}")
    if abs(number) > MAX_INTEGER:
        fail(path, value, f"must be an integer from -{MAX_INTEGER} to {MAX_INTEGER}")
    return number


def _float(value: Any, path: str) -> float:
    """Return a finite number within the range of float32, not rounded to it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(path, value, f"must be a number, not {_type_name(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        fail(path, value, "must be a finite number")
    if abs(number) > MAX_FLOAT:
        fail(path, value, f"must be a number of float32, from -{MAX_FLOAT:.3g} to {MAX_FLOAT:.3g}")
    return number


def _str(value: Any, path: str) -> str:
    """Return a value that is text."""
    if not isinstance(value, str):
        fail(path, value, f"must be text, not {_type_name(value)}")
    return value


_SCALARS: Mapping[Any, Any] = types.MappingProxyType({bool: _bool, int: _int, float: _float, str: _str})
