"""The grid of runs: the product of its axes, stacked into one Setting with a leading axis [r]."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cspace_jax.config.schema import AXES, GridConfig
from cspace_jax.config.setting import SWEPT, Setting

# Settings from the slowest to the fastest axis; the seeds of one signal level are neighbours.
ORDER = (*SWEPT, "seed")


def grid_settings(grid: GridConfig) -> list[dict[str, Any]]:
    """Return one dict of Setting fields per run, the product of the axes with seeds fastest."""
    values = itertools.product(*(getattr(grid, axis) for axis in AXES))
    return [dict(zip(ORDER, row, strict=True)) for row in values]


def stack(settings: list[dict[str, Any]]) -> Setting:
    """Return the settings of runs as one Setting whose fields are arrays [r]: seed uint32, the others float32.

    Raises:
      ValueError: the list is empty.
      KeyError: a field is missing.
    """
    if not settings:
        raise ValueError("stack needs the settings of at least one run")
    return Setting(**{one.name: _column(settings, one.name) for one in dataclasses.fields(Setting)})


def _column(settings: list[dict[str, Any]], name: str) -> jnp.ndarray:
    dtype = np.uint32 if name == "seed" else np.float32
    return jnp.asarray(np.array([setting[name] for setting in settings], dtype=dtype))


def example_setting(grid: GridConfig) -> Setting:
    """Return the setting of the first run, scalars: for shapes, and for what does not hang on its values."""
    return jax.tree.map(lambda leaf: leaf[0], stack(grid_settings(grid)[:1]))
