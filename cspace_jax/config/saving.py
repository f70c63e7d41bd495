"""The steps at which runs are saved and evaluated."""

import math
from collections.abc import Sequence

import numpy as np

from cspace_jax.config.schema import SaveConfig


def save_steps(save: SaveConfig, total: int) -> tuple[int, ...]:
    """Return the increasing steps, in 1..total, at which runs are saved and evaluated.

    An explicit list wins. Otherwise `count` points lie at squares of evenly spaced roots from sqrt(start) to
    sqrt(total), truncated; the last is `total` and repetitions are dropped (reference implementation).
    """
    if save.steps:
        return save.steps
    points = (np.linspace(math.sqrt(save.start), math.sqrt(total), save.count) ** 2).astype(int)
    points = np.maximum(points, save.start)  # the square of a rounded root may fall just below the start
    points[-1] = total
    return tuple(int(step) for step in np.unique(points))


def later_steps(saves: Sequence[int], total: int) -> tuple[int, ...]:
    """Return the saved steps that a longer training adds: those after the last of `saves`, up to `total`.

    Their roots go on at the mean distance of the roots of `saves`, which is that of `save_steps`; the last is `total`.
    """
    first, last = math.sqrt(saves[0]), math.sqrt(saves[-1])
    width = (last - first) / (len(saves) - 1) if len(saves) > 1 else math.inf
    number = math.ceil((math.sqrt(total) - last) / width) if math.isfinite(width) else 1
    points = {int((last + i * width) ** 2) for i in range(1, number)}
    return (*sorted(step for step in points if saves[-1] < step < total), total)
