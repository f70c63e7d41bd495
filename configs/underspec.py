"""Underspecification: part of the red triangles hide their colour in training (paper section 5, Figs. 7 to 10).

python -m cspace_jax.main --config=configs/underspec.py --workdir=WORKDIR
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from cspace_jax.config_files import sibling

base = sibling(__file__, "base")

MASK = {"smoke": (0.0, 0.5, 1.0), "quick": (0.0, 0.25, 0.5, 0.75, 1.0), "paper": (0.0, 0.25, 0.5, 0.75, 1.0)}


def get_config(scale: str | None = None) -> ConfigDict:
    """Return the study of masked conditionings at a scale: smoke, quick or paper; None = quick on a CPU, else paper."""
    config = base.get_config("underspec", scale)
    config.data.active = ("shape", "color")
    config.grid.mask = MASK[config.scale]
    config.grid.sep_col = (0.8,)
    config.grid.sep_size = (0.2,)
    if config.scale == "quick":
        config.grid.seeds = (0, 100, 200)
        config.data.images_per_class = 1000
        config.optim.steps = 1_000
        config.save.start, config.save.count = 100, 10
        config.probe.data = ((0.2, 0.2, 0.2, False), (0.8, 0.2, 0.2, False), (0.5, 0.2, 0.2, False))
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants."""
    yield {"grid.mask": (0.0, 0.5, 1.0)}
