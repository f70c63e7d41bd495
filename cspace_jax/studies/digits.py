"""Real handwritten digits: a graded colour signal on real shapes; strokes.

    pip install -e ".[digits]" && python -m experiments.digits --out=data
    python -m cspace_jax.main --config=configs/digits.py --workdir=runs/digits
    python -m cspace_jax.main --config=configs/digits.py --workdir=runs/stroke --config.data.path=data/stroke \
        --config.data.tint=False --config.data.concepts="('-digit', '-stroke')" --config.grid.sep_col="(0.4,)"

First study: zeros and ones of MNIST, tinted red or blue; the blue one (11) is never seen. Second: zeros and ones, thin
and thick strokes; the thick one is never seen, and no number of the grid says how strong a concept is.

Scales: `smoke` 2 levels x 2 seeds, `quick` 3 levels x 2 seeds of 2,400 steps at 16 x 16, `paper` 3 x 5 of 20,000 steps.
More: docs/studies.md; numbers: docs/results-sources.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base, images


def get_config(scale: str | None = None) -> Any:
    """Return the study of tinted digits at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = images.get_config(scale)
    config.study = "digits"
    config.data.path = "data/digits"
    config.data.concepts = ("-digit",)  # bit 0 zero, bit 1 one
    config.data.tint = True
    config.grid.sep_col = (0.15, 0.35, 0.8)
    if config.scale == "smoke":
        config.grid.sep_col = (0.2, 0.8)
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    stroke = {"data.path": "data/stroke", "data.tint": False, "data.concepts": ("-digit", "-stroke")}
    yield {**stroke, "grid.sep_col": (0.4,)}  # stroke width instead of a colour
    yield {"data.held_out": ("10",)}  # the red one is held out instead of the blue one
    yield {"grid.seeds": (0, 100, 200, 300, 400)}
    yield {"elicit.protocols": base.INTERVENTIONS, "elicit.concept": "color"}
