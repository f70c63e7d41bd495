"""What all studies share: every field at the paper's value, and the two smaller scales as changes to it.

A study file calls `get_config(study, scale)` and sets its own grid. Any field can be overridden on the command line:

    python -m cspace_jax.main --config=configs/signal.py:quick --config.optim.steps=4000 --config.grid.seeds="(0, 1, 2)"

Scales: `smoke` (seconds; tests that everything runs, shows nothing), `quick` (minutes on 2 CPU cores; small images and
network, shows the phenomenon at a setting that is not the paper's), `paper` (faithful; one GPU or TPU).
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from cspace_jax.config import FIGURES, SCALES, reading


def get_config(study: str, scale: str | None = None) -> Any:
    """Return the shared configuration of a study at a scale; None takes `default_scale()`.

    Errors: UserError for a scale that does not exist.
    """
    scale = default_scale() if scale is None else scale
    reading.one_of("scale", scale, SCALES)
    config = _paper(study)
    config.scale = scale
    if scale == "quick":
        _shrink_to_quick(config)
    if scale == "smoke":
        _shrink_to_smoke(config)
    return config


def default_scale() -> str:
    """Return `quick` where JAX computes on a CPU and `paper` on an accelerator.

    Asking starts JAX's backend, so a program that must first set up several processes names its scale.
    """
    import jax  # here, so that reading a config at a named scale starts no backend

    return "quick" if jax.default_backend() == "cpu" else "paper"


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants that suit every study, each as the overrides {"X": Y} to be given as --config.X=Y."""
    yield {"grid.weight_decay": (0.05,)}  # ablation of the paper
    yield {"grid.init_scale": (0.1,)}  # ablation of the paper
    yield {"grid.seeds": tuple(range(0, 1000, 100))}  # twice the paper's seeds, narrower intervals
    yield {"network.conditioning": "common_linear"}  # one embedding of the conditioning shared by all blocks
    yield {"diffusion.schedule": "fixed_linear"}  # a noise schedule that does not drift while concepts are learned
    yield {"diffusion.p_uncond": 0.1, "evaluate.guidance": 3.0}  # classifier-free guidance
    yield {"data.active": ("color", "size", "bg_color"), "grid.sep_bg": (0.2,)}  # 2x2x2 classes


def _paper(study: str) -> Any:
    """Return every field at the value of the paper and, where it is silent, of the reference implementation."""
    config: Any = ConfigDict()
    config.study = study  # name of the study, kept with the results
    config.scale = "paper"  # smoke, quick or paper

    # Each field is one axis of the grid of runs: all combinations are trained.
    config.grid = ConfigDict()
    config.grid.seeds = (0, 100, 200, 300, 400)  # data, initial weights, batches, noise and samples of a run
    config.grid.sep_col = (0.2,)  # colour signal: red-blue distance per channel, in (0, 0.8]
    config.grid.sep_size = (0.4,)  # size signal: large-small distance of the radius (image spans [-1, 1]), in (0, 0.7]
    config.grid.sep_bg = (0.2,)  # background signal: light-dark distance, in (0, 0.8]; used when bg_color is active
    config.grid.learning_rate = (1e-3,)  # of AdamW
    config.grid.weight_decay = (0.01,)  # of AdamW, on every parameter
    config.grid.init_scale = (1.0,)  # factor on every initial parameter
    config.grid.data_noise = (1e-3,)  # standard deviation of the likelihood in the reconstruction term
    config.grid.mask = (0.0,)  # share, in [0, 1], of one class's training images whose concept is hidden

    config.data = ConfigDict()
    config.data.active = ("color", "size")  # bits of a class: 2 or 3 of shape, x, y, color, size, bg_color
    config.data.image_size = 32  # pixels a side; divisible by 2 ** (levels - 1) of both networks
    config.data.blur = 1.0  # sigma in pixels of the Gaussian that softens the object's edge; 0 = none
    config.data.images_per_class = 2048  # per training class, before the split
    config.data.train_ratio = 0.85  # share of the images that is trained on; the rest gives the validation loss
    config.data.test_images_per_class = 32  # images per held-out class for the test loss
    # What grid.mask hides: the entries of a concept in the conditioning of images of a class, only in training.
    config.data.mask_concept = ""  # an active concept; "" = color, without it the first active one
    config.data.mask_class = ""  # bits of a training class, such as "01"; "" = the one with the last other bit set
    config.data.mask_mode = "zero"  # what entries become: zero, null (diffusion.null_value), token (a learned vector)
    config.data.mask_images = "fixed"  # fixed: a random subset for good; batch: drawn anew for every batch

    config.network = ConfigDict()
    config.network.channels = (64, 128, 256)  # per level; each level halves the image
    config.network.blocks = 2  # residual blocks per level and direction
    config.network.groups = 8  # of the group normalisations; divides every entry of channels
    config.network.heads = 4  # of the attention at the lowest level; divides the last entry of channels
    config.network.attention = True  # self-attention between the two middle blocks
    config.network.dropout = 0.1  # in every residual block, while training
    config.network.conditioning = "sep_mlp"  # how blocks read the concepts: sep_mlp, common_linear, common_zerolinear

    config.diffusion = ConfigDict()
    config.diffusion.schedule = "learned_linear"  # gamma(t) = b + |w| t, learned_linear or fixed_linear
    config.diffusion.gamma_min = -5.0  # minus log signal-to-noise ratio at t = 0, initially
    config.diffusion.gamma_max = 10.0  # the same at t = 1
    config.diffusion.p_uncond = 0.0  # probability that a training image gets the null conditioning; 0 = no guidance
    config.diffusion.null_value = -1.0  # every entry of the null conditioning

    config.optim = ConfigDict()
    config.optim.batch_size = 64  # images per step and run
    config.optim.steps = 20_000  # updates per run
    config.optim.clip = 0.01  # global gradient norm that is clipped to, schedule scalars included
    config.optim.b1 = 0.9  # AdamW, decay of the mean
    config.optim.b2 = 0.999  # AdamW, decay of the square
    config.optim.eps = 1e-8  # AdamW; with the clip above it acts as a slow warm-up
    config.optim.decay = "constant"  # factor on the learning rate over the run: constant or cosine (to 0)
    config.optim.ema = 0.0  # decay of the weight average that is evaluated; 0 = evaluate the weights themselves
    config.optim.log_every = 100  # steps between lines of metrics.jsonl

    # Checkpoints lie at squares of evenly spaced roots, dense at the start of training.
    config.save = ConfigDict()
    config.save.start = 500  # first saved step
    config.save.count = 60  # number of saved steps; the last is optim.steps
    config.save.steps = ()  # explicit list of steps; wins over start and count when not empty

    config.evaluate = ConfigDict()
    config.evaluate.samples_per_class = 32  # per run, class and checkpoint
    config.evaluate.sampling_steps = 50  # of the ancestral sampler
    config.evaluate.guidance = 1.0  # guidance weight w; 1 = plain conditional, others need p_uncond > 0
    config.evaluate.keep_samples = 4  # images stored per run, class and checkpoint, at most samples_per_class
    config.evaluate.losses = True  # also measure validation and test loss
    config.evaluate.loss_images = 0  # most validation images the loss is measured on; 0 = all

    # Further protocols that held-out classes are asked with at every save: none, or the battery of configs/hidden.py.
    config.elicit = ConfigDict()
    # overprompt, overprompt_published, latent, latent_shared (for common_*), guidance, patch; joined "a+b"; controls
    # "a_random", "a_shuffled"
    config.elicit.protocols = ()
    config.elicit.concept = "color"  # the concept that is exaggerated
    config.elicit.samples = 32  # per run, query, class and checkpoint
    config.elicit.overprompt = (0.0, 0.25, 0.75, 1.25, 1.75)  # lambda of mu + lambda (mu_1 - mu_0)
    config.elicit.alpha = (0.1, 1.0, 2.0)  # strength of the amplified embedding of a latent intervention
    config.elicit.beta = (0.1,)  # strength of the removed one; all pairs with alpha are tried
    config.elicit.guidance = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # weights w
    config.elicit.patch_step = 0  # saved step whose conditioning projections patching uses; 0 = the last
    config.elicit.images_per_call = 0  # most images of a run sampled at once; 0 = what the device holds

    # The classifier that reads concepts off samples, trained once on diverse data and shared by all runs.
    config.probe = ConfigDict()
    config.probe.channels = (32, 32, 32)  # per level of its U-Net
    config.probe.blocks = 1  # residual blocks per level and direction
    config.probe.groups = 4  # of the group normalisations; divides channels and out_channels
    config.probe.heads = 4  # of its attention
    config.probe.out_channels = 64  # feature maps that are max-pooled into the head
    config.probe.dropout = 0.1  # while training
    config.probe.init_scale = 0.02  # factor on the initial parameters of its U-Net
    config.probe.steps = 10_000  # updates
    config.probe.batch_size = 64  # images per step
    config.probe.learning_rate = 1e-3  # of AdamW
    config.probe.weight_decay = 0.01  # of AdamW
    config.probe.clip = 0.01  # global gradient norm that is clipped to
    config.probe.images_per_class = 1024  # training images per class and row of data
    config.probe.test_images_per_class = 64  # held-out images per class and row of data, at the class means
    # Rows (sep_col, sep_size, sep_bg, narrow); narrow sizes spread by sep_size / 8 instead of 3 sep_size / 8.
    config.probe.data = ((0.2, 0.1, 0.2, False), (0.8, 0.4, 0.2, False), (0.2, 0.2, 0.2, True), (0.8, 0.4, 0.2, True))
    config.probe.min_accuracy = 0.995  # held-out accuracy below which evaluation stops with an error
    config.probe.seed = 0  # of its data and weights
    config.probe.cache_dir = ""  # where trained probes are kept and looked up; "" = WORKDIR/probe

    # How the grid is executed on the device; never changes a result beyond rounding, except for the precision.
    config.engine = ConfigDict()
    config.engine.plan = "known"  # known: auto and 0 below take what suits the backend; auto: what is measured fastest
    config.engine.convolution = "auto"  # auto or one of model/convolution.py: xla, canonical, winograd, matmul
    config.engine.runs = "auto"  # auto, vmap, map, unroll or loop
    config.engine.devices = 0  # most local devices that take part; 0 = all
    config.engine.steps_per_call = 0  # training steps per compiled call; 0 = chosen for the backend
    config.engine.microbatch = 0  # samples whose gradient is computed at once; 0 = chosen for the backend
    config.engine.precision = "default"  # of products: default (of the backend), float32, tensorfloat32 or bfloat16
    config.engine.wave = 0  # most runs trained at once; 0 = all
    config.engine.state_seconds = 30.0  # least time between two full states to resume from
    config.engine.memory_gb = 0.0  # memory of one device (CPU: of the machine) in 1e9 bytes; 0 = ask the device

    config.figures = FIGURES  # which figures are drawn
    return config


def _shrink_to_quick(config: Any) -> None:
    """Change to the small setting, found by search, that shows the paper's effects in minutes on 2 CPU cores.

    What was tried and what each change does: BUILD_NOTES.md.
    """
    config.grid.seeds = (0, 100)
    config.grid.sep_size = (0.25,)  # stronger, and no colour signal is strong enough to be followed first
    config.grid.learning_rate = (3e-3,)
    config.data.image_size = 16  # at 12 pixels a size signal this strong is followed first at every colour
    config.data.blur = 0.5
    config.network.channels = (32, 64)  # narrower networks learn the held-out class late or never
    config.network.blocks = 1
    config.network.dropout = 0.0
    config.diffusion.schedule = "fixed_linear"  # with the learned one nothing is learned in so few steps
    config.diffusion.gamma_min, config.diffusion.gamma_max = -7.0, 8.0  # less noise is left in the samples
    config.optim.batch_size = 16
    config.optim.steps = 2_400
    config.optim.clip = 1.0  # the paper's 0.01 is a warm-up of thousands of steps
    config.optim.ema = 0.99  # a small network at this learning rate wavers from step to step
    config.optim.log_every = 50
    config.save.start, config.save.count = 150, 16
    config.evaluate.samples_per_class = 16
    config.evaluate.sampling_steps = 20
    config.evaluate.loss_images = 64
    config.elicit.samples = 16
    config.probe.channels = (16, 16)
    config.probe.out_channels = 32
    config.probe.dropout = 0.0
    config.probe.learning_rate = 2e-3
    config.probe.steps = 1_000
    config.probe.images_per_class = 512
    # In place of the paper's last row: weak colours at all sizes, the images that weak levels of the sweep draw.
    config.probe.data = ((0.2, 0.1, 0.2, False), (0.8, 0.4, 0.2, False), (0.2, 0.2, 0.2, True), (0.2, 0.4, 0.2, False))


def _shrink_to_smoke(config: Any) -> None:
    """Change to the smallest setting that exercises every part; its numbers mean nothing."""
    config.grid.seeds = (0, 100)
    config.data.image_size = 8
    config.data.blur = 0.5
    config.data.images_per_class = 32
    config.data.test_images_per_class = 4
    config.network.channels = (8, 16)
    config.network.blocks = 1
    config.network.groups = 4
    config.optim.batch_size = 8
    config.optim.steps = 6
    config.optim.log_every = 2
    config.save.start, config.save.count = 2, 3  # steps 2, 3 and 6
    config.evaluate.samples_per_class = 3
    config.evaluate.sampling_steps = 3
    config.evaluate.keep_samples = 2
    config.elicit.samples = 4
    config.probe.channels = (8, 8)
    config.probe.out_channels = 8
    config.probe.steps = 4
    config.probe.batch_size = 16
    config.probe.images_per_class = 8
    config.probe.test_images_per_class = 4
    config.probe.min_accuracy = 0.0  # four steps teach a probe nothing
