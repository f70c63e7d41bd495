"""Pictures of your own: when is each concept of their labels learned?

    python -m cspace_jax.main --config=configs/images.py --config.data.path=MY_PICTURES --workdir=WORKDIR

MY_PICTURES is a folder with labels.csv (column `file`, then one column a concept with 0/1 or two words, perhaps `split`
with train/val/test), or with one folder a class (00, 01, 10, 11), or an .npz file (`images` uint8, `bits`). The class
with two or more bits set is held out, or those of `data.held_out`. `--config.data.tint=True` adds the paper's graded
colour signal: `--config.grid.sep_col="(0.2, 0.4, 0.8)"`.

Scales: `smoke` 2 runs, `quick` 2 runs of 2,400 steps at 16 x 16, `paper` 5 runs of 20,000 steps at 32 x 32.
More: docs/studies.md, docs/sources.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import base


def get_config(scale: str | None = None) -> Any:
    """Return a study of pictures at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = base.get_config("images", scale)
    config.data.source = "images"
    config.data.images_per_class = 0  # all that there are
    config.elicit.concept = ""
    if config.scale != "smoke":
        config.probe.min_accuracy = 0.9  # real pictures are told apart less surely than drawn ones
    return config


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"data.flip": True, "data.jitter": (0.1, 0.1, 0.1, 0.0)}  # augmentation in training
    yield {"data.tint": True, "grid.sep_col": (0.2, 0.4, 0.8)}  # a graded signal on real shapes
    yield {"elicit.protocols": base.INTERVENTIONS}
    yield {"diffusion.p_uncond": 0.1, "evaluate.guidance": 2.0}  # classifier-free guidance
