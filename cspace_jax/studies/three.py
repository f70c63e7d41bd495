"""Three concepts: in which order are four unseen classes learned, and which never?

    python -m cspace_jax.main --config=configs/three.py --workdir=WORKDIR

Colour, size and background are concepts. 000, 001, 010 and 100 are trained on; 011, 101, 110 and 111 are never seen.
Expect an unseen class to be drawn first as the trained class that shares its strongest signals, and 111 to come last.

Appendix C.4 and Fig. 15 of the paper.

Scales: `smoke` 4 runs; `quick` 2 levels x 2 seeds at 16 x 16; `paper` 9 levels x 5 seeds of 40,000 steps.
More: docs/studies.md; numbers: docs/results-sources.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base


def get_config(scale: str | None = None) -> Any:
    """Return the study of three concepts at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("three", scale)
    config.data.active = ("color", "size", "bg_color")
    config.grid.sep_col = (0.2, 0.4, 0.6)
    config.grid.sep_size = (0.35,)
    config.grid.sep_bg = (0.1, 0.2, 0.3)
    # The levels' own ends, so that the probe knows the weakest and the strongest of each concept.
    config.probe.data = ((0.2, 0.2, 0.2, False), (0.6, 0.35, 0.6, False))
    if config.scale == "paper":
        config.optim.steps = 40_000
        config.save.start, config.save.count = 50, 120
        config.probe.images_per_class, config.probe.test_images_per_class = 2_048, 128
        return config
    config.grid.sep_col = (0.6,)
    config.grid.sep_bg = (0.1, 0.3)
    if config.scale == "quick":
        config.grid.sep_size, config.grid.sep_bg = (0.3,), (0.2, 0.4)
        config.optim.steps = 6_000
        config.evaluate.samples_per_class = 32
        config.probe.data = (*config.probe.data, (0.6, 0.3, 0.2, False), (0.6, 0.3, 0.4, False))
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"grid.sep_col": (0.2, 0.6), "grid.sep_size": (0.2, 0.35), "grid.sep_bg": (0.2, 0.6)}  # also published
    yield {"optim.steps": 80_000}  # as long as the text says of Fig. 15b
    yield {"data.active": ("shape", "color", "size", "bg_color")}  # sixteen classes
    yield {"elicit.protocols": base.INTERVENTIONS, "elicit.concept": "each"}  # every concept pushed in turn, then all
