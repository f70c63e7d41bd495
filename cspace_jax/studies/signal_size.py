"""Size sweep: the same for the size signal, with the colour signal fixed at 0.4.

    python -m cspace_jax.main --config=configs/signal_size.py --workdir=WORKDIR

Expect the held-out class 11 (blue, small) to swing by class 10 (blue, large) when the size signal is weak and by class
01 (red, small) when it is strong, and size to be learned sooner at stronger signal.

Figs. 2, 4, 12 and 13 of the paper.

Scales: `smoke` 4 runs, `quick` 6 runs of 2,400 steps, `paper` 100 runs of 20,000 steps.
More: docs/studies.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base

SEP_SIZE = {
    "smoke": (0.2, 0.4),
    "quick": (0.15, 0.225, 0.3),
    "paper": (
        *(0.2, 0.211, 0.221, 0.232, 0.242, 0.253, 0.263, 0.274, 0.284, 0.295),
        *(0.305, 0.316, 0.326, 0.337, 0.347, 0.358, 0.368, 0.379, 0.389, 0.4),
    ),
}


def get_config(scale: str | None = None) -> Any:
    """Return the size sweep at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("signal_size", scale)
    config.grid.sep_col = (0.4,)  # colour signal of the reference implementation's size sweep
    config.grid.sep_size = SEP_SIZE[config.scale]  # size signal, weak to strong
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"grid.sep_size": (0.1, 0.2, 0.3, 0.4)}  # further down than the paper goes
    yield {"grid.sep_col": (0.2, 0.4, 0.8)}  # the size sweep at three colour signals
    yield from base.sweep()
