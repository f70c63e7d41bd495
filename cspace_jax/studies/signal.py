"""Colour sweep: the colour signal decides when and in what order concepts are learned.

    python -m cspace_jax.main --config=configs/signal.py --workdir=WORKDIR

The size signal is fixed and the colour signal goes from weak to strong. Expect colour to be learned sooner at stronger
signal, and the held-out class 11 (blue, small) to be drawn first like the training class that shares its stronger
concept: like 01 (red, small) at the weakest colour signal, like 10 (blue, large) at the strongest.

Figs. 2, 4, 12 and 13 of the paper.

Scales: `smoke` 4 runs, `quick` 6 runs of 2,400 steps, `paper` 100 runs of 20,000 steps.
Time: docs/studies.md; numbers: docs/results.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base

SEP_COL = {
    "smoke": (0.2, 0.8),
    "quick": (0.15, 0.35, 0.8),
    "paper": (
        *(0.1, 0.137, 0.174, 0.211, 0.247, 0.284, 0.321, 0.358, 0.395, 0.432),
        *(0.468, 0.505, 0.542, 0.579, 0.616, 0.653, 0.689, 0.726, 0.763, 0.8),
    ),
}


def get_config(scale: str | None = None) -> Any:
    """Return the colour sweep at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("signal", scale)
    config.grid.sep_col = SEP_COL[config.scale]  # colour signal, weak to strong
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"grid.sep_col": (0.1, 0.174, 0.432, 0.8)}  # four levels that span the paper's range
    yield {"grid.sep_size": (0.2, 0.3, 0.4)}  # the colour sweep at three size signals
    yield {"data.active": ("shape", "color")}  # shape instead of size
    yield from base.sweep()
