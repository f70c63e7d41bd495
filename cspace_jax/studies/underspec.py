"""Underspecification: part of a class's images hide their colour in training.

    python -m cspace_jax.main --config=configs/underspec.py --workdir=WORKDIR

Red circles (00), blue circles (01) and red triangles (10) are trained on; in a share `grid.mask` of the red triangles'
conditionings the colour entries are 0. Asked for the unseen blue triangle (11), a model whose red triangles were masked
should learn blue later or never, and draw it ever redder. At half of them masked, overprompting should still elicit it.
No code of that section is published: what "masked" means here is a reconstruction (cspace_jax/data/masking.py).

Section 5 and Figs. 7 to 10 of the paper.

Scales: `smoke` 6 runs, `quick` 10 runs of 5,000 steps, `paper` 25 runs of 20,000 steps.
Time: docs/studies.md; numbers: docs/results.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.config.protocol_names import OVERPROMPT, RANDOM, REPEATED
from cspace_jax.studies import base

MASK = {"smoke": (0.0, 0.5, 1.0), "quick": (0.0, 0.25, 0.5, 0.75, 1.0), "paper": (0.0, 0.25, 0.5, 0.75, 1.0)}


def get_config(scale: str | None = None) -> Any:
    """Return the study of masked conditionings at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("underspec", scale)
    config.data.active = ("shape", "color")  # size and position vary and are not given
    config.grid.mask = MASK[config.scale]
    config.grid.sep_col = (0.8,)
    config.elicit.protocols = (REPEATED, OVERPROMPT, OVERPROMPT + RANDOM)
    config.figures = ("fig2", "fig7", "fig8", "fig9", "fig10", "product", "fig4", "curves", "samples")
    if config.scale == "paper":
        config.data.images_per_class = 1000  # of the paper's section 5
        config.save.start, config.save.count = 100, 60
    if config.scale == "quick":
        _shrink_to_quick(config)
    return config


def _shrink_to_quick(config: Any) -> None:
    """Change the base's quick setting where colours, shapes and the time on 2 CPU cores ask for it."""
    config.grid.sep_size = (0.05,)  # radii of .4 to .5; with .2 the effect of masking was smaller
    config.grid.sep_col = (0.4,)  # with .8 colour comes first, and no triangle (docs/quick-settings.md)
    config.data.images_per_class = 1000
    config.optim.steps = 5_000  # the triangle comes after 3,000
    config.save.start, config.save.count = 250, 10
    config.probe.data = ((0.2, 0.05, 0.2, False), (0.4, 0.05, 0.2, False), (0.8, 0.05, 0.2, False))
    config.elicit.samples = 12
    config.elicit.overprompt = (0.25, 0.5)


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"grid.mask": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)}  # a finer sweep
    yield {"data.mask_mode": "null"}  # hidden entries are -1, the null vector of guidance
    yield {"data.mask_mode": "token"}  # hidden entries are a learned vector
    yield {"data.mask_images": "batch"}  # which images hide their colour is drawn anew for every batch
    yield {"data.mask_concept": "shape"}  # blue circles ("01") hide their shape instead
    yield {"data.active": ("color", "size"), "grid.sep_size": (0.25,)}  # red small objects hide their colour
    yield {"optim.steps": 2_000}  # the axis of the paper's Fig. 10
