"""Hidden capabilities: when can the unseen class be elicited, when simply asked for?

    python -m cspace_jax.main --config=configs/hidden.py --workdir=WORKDIR

One signal level, many seeds, and at every checkpoint the battery of protocols: overprompting and linear latent
intervention, each with controls of as many random directions of the same length, and patching. Expect the first two to
elicit class 11 (blue, small) earlier and at more similar steps over seeds than naive prompting does.

Figs. 6, 12 and 17 of the paper.

Scales: `smoke` 2 runs, `quick` 5 runs of 3,000 steps, `paper` 5 runs of 20,000 steps.
Time: docs/studies.md; numbers: docs/results.md.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cspace_jax.config.protocol_names import (
    LATENT,
    LATENT_SHARED,
    OVERPROMPT,
    OVERPROMPT_PUBLISHED,
    PATCH,
    RANDOM,
    REPEATED,
    SHUFFLED,
)
from cspace_jax.studies import base

PROTOCOLS = (
    REPEATED,
    OVERPROMPT,
    OVERPROMPT + RANDOM,
    OVERPROMPT + SHUFFLED,
    LATENT,
    LATENT + RANDOM,
    LATENT + SHUFFLED,
    PATCH,
)


def get_config(scale: str | None = None) -> Any:
    """Return the study of protocols at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("hidden", scale)
    config.grid.sep_col = (0.2,)  # weak enough to be memorised as 01 first, strong enough to turn
    config.elicit.protocols = PROTOCOLS
    config.figures = ("fig6", "fig17", "elicitation", "embeddings", "fig12", "fig4", "curves")
    if config.scale == "quick":
        config.grid.seeds = (0, 100, 200, 300, 400)
        config.optim.steps = 3_000
    if config.scale == "paper":
        config.grid.sep_col = (0.174,)
        config.elicit.protocols = (*PROTOCOLS, OVERPROMPT_PUBLISHED, OVERPROMPT_PUBLISHED + RANDOM)
    return config


def published_steps() -> tuple[int, ...]:
    """Return the 220 save steps of the published run.

    The first 20 lie at squares of evenly spaced roots below 4,000, the other 200 are evenly spaced. At `paper` scale
    the battery then costs more than three times the training, so 60 saves are the default.
    """
    early = np.linspace(math.sqrt(50), math.sqrt(3999), 20) ** 2
    return tuple(int(step) for step in np.unique([*early.astype(int), *np.linspace(4000, 20_000, 200).astype(int)]))


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    # Every save of the published run; patching needs their parameters (47 GB at `paper`).
    yield {"optim.steps": 20_000, "save.steps": published_steps(), "save.keep": "all"}
    yield {"grid.sep_col": (0.174, 0.2, 0.25, 0.3), "save.keep": "all"}  # the levels of the published comparison
    shared = [f"{name}{kind}" for name in (LATENT_SHARED, LATENT) for kind in ("", RANDOM, SHUFFLED)]
    one_embedding = {"network.conditioning": "common_linear"}  # shared by all blocks
    yield {**one_embedding, "elicit.protocols": (REPEATED, *shared, PATCH)}
    yield {"elicit.alpha": (0.5, 1.0, 2.0, 4.0), "elicit.beta": (0.1, 0.5, 1.0)}  # a wider sweep of strengths
    joined = [f"{OVERPROMPT}+{name}{kind}" for name in (LATENT, PATCH) for kind in ("", RANDOM)]
    yield {"elicit.protocols": (REPEATED, *joined)}  # joined protocols
