"""Classifier-free guidance: does a stronger weight elicit the unseen class sooner?

    python -m cspace_jax.main --config=configs/guidance.py --workdir=WORKDIR

Networks are trained with a tenth of the conditionings dropped, and class 11 is asked for at several guidance weights at
every checkpoint. Expect weight 0, which ignores the prompt, to stay between the classes, and weights of 1 and more to
turn at about the same step.

Fig. 16 of the paper.

Scales: `smoke` 2 runs, `quick` 4 runs of 3,000 steps, `paper` 45 runs of 60,000 steps.
Time: docs/studies.md; numbers: docs/results.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.config.protocol_names import GUIDANCE, OVERPROMPT, REPEATED
from cspace_jax.studies import base

SEP_COL = {
    "smoke": (0.2,),
    "quick": (0.2, 0.35),
    "paper": (0.1, 0.137, 0.174, 0.247, 0.321, 0.432, 0.579, 0.726, 0.8),
}


def get_config(scale: str | None = None) -> Any:
    """Return the study of guidance at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("guidance", scale)
    config.grid.sep_col = SEP_COL[config.scale]
    config.diffusion.p_uncond = 0.1  # of the published runs; the paper's text says 0.2
    config.elicit.protocols = (REPEATED, GUIDANCE)
    config.figures = ("fig16", "elicitation", "fig12")
    if config.scale == "quick":
        config.optim.steps = 3_000
    if config.scale == "paper":
        config.optim.steps = 60_000
        config.save.start, config.save.count = 50, 120
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"elicit.protocols": (REPEATED, GUIDANCE, f"{OVERPROMPT}+{GUIDANCE}")}  # stronger prompts at every weight
    yield {"diffusion.p_uncond": 0.2}  # the paper's text
    yield {"diffusion.null_value": 0.0}  # null conditioning of zeros
