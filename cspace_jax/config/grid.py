"""The grid of runs is the product of its axes, stacked into one Setting with a leading axis [r]."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cspace_jax.config.schema import AXES, GridConfig
from cspace_jax.config.setting import SWEPT, Setting
from cspace_jax.tree import take

# Settings from the slowest to the fastest axis; the seeds of one signal level are neighbours.
ORDER = (*SWEPT, "seed")


def grid_settings(grid: GridConfig) -> list[dict[str, Any]]:
    """Return the settings of all runs, one dict of Setting fields per run.

    They are the product of the axes, with seeds fastest.
    """
    values = itertools.product(*(getattr(grid, axis) for axis in AXES))
    return [dict(zip(ORDER, row, strict=True)) for row in values]


def stack(settings: list[dict[str, Any]]) -> Setting:
    """Return the settings of runs as one Setting whose fields are arrays [r].

    The seed is uint32, the others are float32.

    Raises:
      ValueError: the list is empty.
      KeyError: a field is missing.
    """
    if not settings:
        raise ValueError("stack needs the settings of at least one run")
    return Setting(**{one.name: _column(settings, one.name) for one in dataclasses.fields(Setting)})


def _column(settings: list[dict[str, Any]], name: str) -> jnp.ndarray:
    """Return a field of all settings as an array [r]."""
    dtype = np.uint32 if name == "seed" else np.float32
    return jnp.asarray(np.array([setting[name] for setting in settings], dtype=dtype))


def example_setting(grid: GridConfig) -> Setting:
    """Return the setting of the first run, with scalar fields.

    It serves for shapes, and for results that do not depend on its values.
    """
    return take(stack(grid_settings(grid)[:1]), 0)


def missing(wanted: GridConfig, there: Sequence[GridConfig]) -> list[GridConfig]:
    """Return grids that together hold each run of `wanted` that is in none of `there`, once.

    The grids are cut axis by axis. No missing run gives []. Runs are equal where their settings are equal as they are
    trained: a uint32 seed, all others float32.
    """
    known = {_run(setting) for one in there for setting in grid_settings(one)}
    rows = [tuple(setting.values()) for setting in grid_settings(wanted) if _run(setting) not in known]
    return [GridConfig(**dict(zip(AXES, product, strict=True))) for product in _products(rows)] if rows else []


def union(grids: Sequence[GridConfig]) -> GridConfig:
    """Return the grid of all values of every axis, in the order of their first appearance."""
    axes = {}
    for name, axis in zip(ORDER, AXES, strict=True):
        values: dict[float, float] = {}
        for value in (value for one in grids for value in getattr(one, axis)):
            values.setdefault(_value(name, value), value)
        axes[axis] = tuple(values.values())
    return GridConfig(**axes)


def _run(setting: dict[str, Any]) -> tuple[float, ...]:
    """Return a setting as it is trained, for comparison."""
    return tuple(_value(name, value) for name, value in setting.items())


def _value(name: str, value: float) -> float:
    """Return a value as it is trained: a whole seed, all others rounded to float32."""
    return int(value) if name == "seed" else float(np.float32(value))


def _products(rows: Sequence[tuple[Any, ...]]) -> list[tuple[tuple[Any, ...], ...]]:
    """Cut different rows of equal length into products. Each product is the values of every column."""
    if not rows[0]:
        return [()]
    followed: dict[Any, list[tuple[Any, ...]]] = {}
    for first, *rest in rows:
        followed.setdefault(first, []).append(tuple(rest))
    alike: dict[tuple[Any, ...], list[Any]] = {}
    for first, rest in followed.items():
        alike.setdefault(tuple(rest), []).append(first)
    return [(tuple(firsts), *product) for rest, firsts in alike.items() for product in _products(rest)]
