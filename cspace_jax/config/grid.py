"""The grid of runs: the product of its axes, stacked into one Setting with a leading axis [r]."""

import dataclasses
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from cspace_jax.config.schema import GridConfig
from cspace_jax.config.setting import Setting

SETTINGS = ("sep_col", "sep_size", "sep_bg", "learning_rate", "weight_decay", "init_scale", "data_noise", "mask")
# Axes from the slowest to the fastest; the seeds of one signal level are neighbours.
AXES = ("sep_col", "sep_size", "sep_bg", "learning_rate", "weight_decay", "init_scale", "data_noise", "mask", "seeds")


def grid_settings(grid: GridConfig) -> list[dict[str, Any]]:
    """Return one dict of Setting fields per run, the product of the axes with seeds fastest."""
    names = ["seed" if axis == "seeds" else axis for axis in AXES]
    values = itertools.product(*(getattr(grid, axis) for axis in AXES))
    return [dict(zip(names, row, strict=True)) for row in values]


def stack(settings: list[dict[str, Any]]) -> Setting:
    """Return the settings of runs as one Setting whose fields are arrays [r]: seed uint32, the others float32.

    Errors: ValueError for an empty list, KeyError for a field that is missing.
    """
    if not settings:
        raise ValueError("stack needs the settings of at least one run")
    return Setting(**{field.name: _column(settings, field.name) for field in dataclasses.fields(Setting)})


def _column(settings: list[dict[str, Any]], name: str) -> jnp.ndarray:
    dtype = np.uint32 if name == "seed" else np.float32
    return jnp.asarray(np.array([setting[name] for setting in settings], dtype=dtype))
