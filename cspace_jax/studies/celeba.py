"""Natural faces: CelebA with two attributes, the unseen class female and smiling.

    python -m cspace_jax.main --config=configs/celeba.py --config.data.path=CELEBA --workdir=WORKDIR

CELEBA is the folder with `img_align_celeba/` or `img_align_celeba.zip`, `list_attr_celeba.txt` (or .csv) and perhaps
`list_eval_partition.txt`, as downloaded; nothing is downloaded here. Bit 1 of the first concept is "female" (the
attribute Male, exchanged), of the second "smiling": classes 00, 01 and 10 are trained on.

Appendix C.3 and Fig. 14 of the paper.

Scales: `smoke` 2 runs; `quick` 1 run of 2,400 steps at 32 x 32; `paper` 1 run of 1,000,000 steps at 64 x 64, about a
day on an A100 (published speed; --mode=plan says what it takes elsewhere). The published probe's accuracies are not
known. More: docs/studies.md, docs/sources.md.
"""

from collections.abc import Iterator
from typing import Any

from cspace_jax.studies import images


def get_config(scale: str | None = None) -> Any:
    """Return the study of faces at a scale (smoke, quick or paper), a ConfigDict.

    None takes quick on a CPU and paper on an accelerator.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    config = images.get_config(scale)
    config.study = "celeba"
    config.data.source = "celeba"
    config.data.concepts = ("-Male", "Smiling")
    config.data.jitter = (0.1, 0.1, 0.1, 0.1)  # the text names no hue, the published script has one
    config.data.flip = True
    config.network.conditioning = "common_zerolinear"
    config.grid.weight_decay = (1e-5,)
    if config.scale == "quick":
        config.grid.seeds = (0,)
        config.data.image_size = 32
        config.network.channels = (16, 32, 64)  # three levels: attention over 16 x 16 pixels takes most of the time
        config.probe.channels = (16, 16, 16)
        config.data.images_per_class = 2_000
    if config.scale == "paper":
        _paper(config)
    return config


def _paper(config: Any) -> None:
    """Change to the published setting of appendix C.3.

    Where the appendix is silent, the reference implementation decides.
    """
    config.grid.seeds = (0,)
    config.grid.init_scale = (0.02,)
    config.data.image_size = 64  # by direct resize of 178 x 218
    config.data.images_per_class = 30_000
    config.network.groups = 4
    config.optim.steps = 1_000_000
    config.evaluate.samples_per_class = 128
    config.evaluate.loss_images = 2_048  # of about 20,000: the loss of all would take longer than the samples
    config.probe.channels = (64, 64, 128)
    config.probe.blocks = 2
    config.probe.weight_decay = 1e-5


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants of this study, each as the overrides {"X": Y} of --config.X=Y."""
    yield {"data.concepts": ("-Male", "Wearing_Hat"), "data.images_per_class": 6_871}  # published, with fewer pictures
    yield {"data.concepts": ("Black_Hair", "Eyeglasses"), "data.images_per_class": 0}
    yield {"data.concepts": ("-Male", "Smiling", "Black_Hair"), "data.images_per_class": 0}  # eight classes
    yield {"diffusion.p_uncond": 0.1, "evaluate.guidance": 2.0}  # classifier-free guidance
