"""Colour and size signal together: learning speed against measured concept signal.

    python -m cspace_jax.main --config=configs/signal_grid.py --workdir=WORKDIR

All combinations of colour and size signals. Expect the colour of class 11 to be learned sooner at stronger colour
signal and later at stronger size signal, and its size sooner at stronger size signal.

Fig. 3 of the paper.

Scales: `smoke` 4 runs, `quick` 8 runs of 2,400 steps, `paper` 245 runs (7 x 7 x 5 seeds) of 20,000 steps.
More: docs/studies.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base

SEP_COL = {"smoke": (0.2, 0.8), "quick": (0.2, 0.8), "paper": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}
SEP_SIZE = {"smoke": (0.2, 0.4), "quick": (0.2, 0.3), "paper": (0.2, 0.233, 0.266, 0.3, 0.333, 0.366, 0.4)}


def get_config(scale: str | None = None) -> Any:
    """Return the grid of signals at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("signal_grid", scale)
    config.grid.sep_col = SEP_COL[config.scale]  # colour signal, weak to strong
    config.grid.sep_size = SEP_SIZE[config.scale]  # size signal, weak to strong
    if config.scale == "smoke":
        config.grid.seeds = (0,)  # four combinations are enough runs
    if config.scale == "paper":
        config.save.start, config.save.count = 10, 50  # save steps of the data plotted in Fig. 3
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"grid.sep_col": (0.2, 0.4, 0.6, 0.8), "grid.sep_size": (0.1, 0.2, 0.3, 0.4)}  # a grid with weaker size
    yield {"grid.sep_col": (0.2, 0.5, 0.8), "grid.sep_size": (0.2, 0.3, 0.4)}  # a 3 x 3 cut
    yield from base.sweep()
