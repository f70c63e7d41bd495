"""The frozen, hashable dataclasses of a study's configuration and the names its fields may take.

Each field is declared once (`fields.field`): its default is the value of the paper or, where it is silent, of the
reference implementation. Users import the classes from `cspace_jax.config`, which also reads and checks them.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cspace_jax.config.concepts import CONCEPTS, SEPARATIONS, TABLE
from cspace_jax.config.definitions import LEARNED, STAYS_80
from cspace_jax.config.fields import Declared, field
from cspace_jax.config.swept import MAX_SEED, SWEPT, Setting

SCALES = ("smoke", "quick", "paper")
# Whose embedding of the vector, each block's own or a common one, and how blocks project it and the time (reference).
CONDITIONINGS = ("sep_mlp", "sep_linear", "sep_zerolinear", "common_mlp", "common_linear", "common_zerolinear")
SCHEDULES = ("learned_linear", "fixed_linear")
DECAYS = ("constant", "cosine")
CONVOLUTIONS = ("auto", "xla", "canonical", "winograd", "matmul")
MASK_MODES = ("zero", "null", "token")
MASK_IMAGES = ("fixed", "batch")
PLANS = ("known", "auto")
DGP = "dgp"  # the source that renders images of concepts
KEEPS = ("auto", "all", "last")
PRECISIONS = ("default", "float32", "tensorfloat32", "bfloat16")
RUN_PLANS = ("auto", "vmap", "map", "unroll", "loop")
ALL_FIGURES = "all"  # every figure of the registry (plots/registry.py)
MAX_STEPS = 2**31 - 1
MAX_IMAGES = 10_000_000


def axis_of(name: str) -> str:
    """Return the axis of the grid that holds a field of `Setting`."""
    return "seeds" if name == "seed" else name


AXES = tuple(map(axis_of, (*SWEPT, "seed")))  # of the grid, from the slowest to the fastest


def _num_runs(grid: Any) -> int:
    """Return the number of runs of the product grid."""
    return math.prod(len(getattr(grid, one.name)) for one in dataclasses.fields(grid))


def _axis(one: dataclasses.Field) -> tuple[str, Any, Any]:
    """Return name, type and dataclass field of a grid's axis, made of a field of `Setting`."""
    kind = int if one.name == "seed" else float
    default = (0, 100, 200, 300, 400) if one.name == "seed" else (one.default,)
    return axis_of(one.name), tuple[kind, ...], dataclasses.field(default=default, metadata=one.metadata)


if TYPE_CHECKING:

    @dataclasses.dataclass(frozen=True, init=False)
    class GridConfig:
        """A type checker sees this in place of the class below."""

        num_runs: int

        def __init__(self, **axes: Any): ...

        def __getattr__(self, axis: str) -> Any: ...

else:
    GridConfig = dataclasses.make_dataclass(
        "GridConfig",
        [_axis(one) for one in dataclasses.fields(Setting)],
        namespace={
            "__doc__": "Axes of the product grid of runs; each is a field of `Setting`, all combinations are trained.",
            "__module__": __name__,
            "num_runs": property(_num_runs),
        },
        frozen=True,
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Images and classes, and what the swept mask hides (data/masking.py).

    `source` says where images come from: "dgp" draws them (the fields `active` and `blur`), "images" and "celeba" read
    pictures from `path` (`concepts`, `crop`, `jitter`, `flip`, `tint`), "FILE.py:NAME" is a generator of the user's.
    """

    active: tuple[str, ...] = field(
        ("color", "size"), f"bits of a class: 2 to {len(CONCEPTS)} of {', '.join(CONCEPTS)}"
    )
    image_size: int = field(
        32, "pixels a side; divisible by 2 ** (levels - 1) of both networks", at_least=4, at_most=1024
    )
    blur: float = field(1.0, "sigma in pixels of the Gaussian that softens the object's edge; 0 = none", at_least=0)
    images_per_class: int = field(
        2048,
        "per training class, before the split; of pictures: trained on, 0 = all that there are",
        at_least=0,
        at_most=MAX_IMAGES,
    )
    train_ratio: float = field(
        0.85, "share of the images that is trained on; the rest gives the validation loss", above=0, below=1
    )
    test_images_per_class: int = field(
        32, "images per held-out class for the test loss", at_least=1, at_most=MAX_IMAGES
    )
    mask_concept: str = field(
        "", "the active concept that grid.mask hides in training; '' = color, without it the first active one"
    )
    mask_class: str = field(
        "", "bits of the training class it is hidden in, such as '01'; '' = the one with the last other bit set"
    )
    mask_mode: str = field(
        "zero", "what hidden entries become: zero, null (diffusion.null_value), token (a learned vector)",
        one_of=MASK_MODES,
    )  # fmt: skip
    mask_images: str = field(
        "fixed", "fixed: a random subset for good; batch: drawn anew for every batch", one_of=MASK_IMAGES
    )
    held_out: tuple[str, ...] = field((), "bits of the classes that are never trained on; () = two or more bits set")
    source: str = field(DGP, "dgp, images, celeba, or a generator in a Python file, FILE.py:NAME")
    path: str = field(
        "", "folder with labels.csv or one folder a class, .npz file, or the folder of CelebA", affects_results=False
    )
    concepts: tuple[str, ...] = field(
        (), "concepts of pictures, a minus exchanges the two values: ('-Male', 'Smiling'); () = all of the labels"
    )
    crop: int = field(0, "pixels a side of the central square of a picture that is used; 0 = all of it", at_least=0)
    jitter: tuple[float, float, float, float] = field(
        (0.0, 0.0, 0.0, 0.0), "random brightness, contrast, saturation and hue of pictures in training",
        at_least=0, at_most=0.5,
    )  # fmt: skip
    flip: bool = field(False, "mirror pictures at random in training")
    tint: bool = field(False, "add the concept color to pictures: brightness mixes background and colour")
    cache_dir: str = field(
        "", "where decoded pictures are kept; '' = the cache folder of the user", affects_results=False
    )

    @property
    def masked(self) -> tuple[str, str]:
        """Return the concept that is masked and the code of the class whose images hide it."""
        return masked_of(self.active, self.mask_concept, self.mask_class)

    @property
    def pool_images(self) -> int:
        """Return the number of drawn images of the training classes before the split."""
        return len(trained_of(len(self.active), self.held_out)) * self.images_per_class

    @property
    def train_images(self) -> int:
        """Return the number of drawn images trained on, floor(train_ratio * pool). The rest is for validation."""
        return math.floor(self.train_ratio * self.pool_images)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The U-Net that predicts the noise."""

    channels: tuple[int, ...] = field((64, 128, 256), "per level; each level halves the image", at_least=1)
    blocks: int = field(2, "residual blocks per level and direction", at_least=1, at_most=64)
    groups: int = field(8, "of the group normalisations; divides every entry of channels", at_least=1)
    heads: int = field(4, "of the attention at the lowest level; divides the last entry of channels", at_least=1)
    attention: bool = field(True, "self-attention between the two middle blocks")
    dropout: float = field(0.1, "in every residual block, while training", at_least=0, below=1)
    conditioning: str = field(
        "sep_mlp", "how blocks read the concepts: apart or through one common MLP, and by what", one_of=CONDITIONINGS
    )


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Noise schedule and classifier-free guidance in training."""

    schedule: str = field("learned_linear", "gamma(t) = b + |w| t, learned or fixed", one_of=SCHEDULES)
    # Within +-50 exp(gamma) stays finite in float32.
    gamma_min: float = field(
        -5.0, "minus log signal-to-noise ratio at t = 0, initially; below gamma_max", at_least=-50, at_most=50
    )
    gamma_max: float = field(10.0, "the same at t = 1", at_least=-50, at_most=50)
    p_uncond: float = field(
        0.0, "probability that a training image gets the null conditioning; 0 = no guidance", at_least=0, below=1
    )
    null_value: float = field(-1.0, "every entry of the null conditioning")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW over a fixed number of steps."""

    batch_size: int = field(64, "images per step and run", at_least=1)
    steps: int = field(20_000, "updates per run", at_least=1, at_most=MAX_STEPS)
    clip: float = field(0.01, "global gradient norm that is clipped to, schedule scalars included", above=0)
    b1: float = field(0.9, "AdamW, decay of the mean", at_least=0, below=1)
    b2: float = field(0.999, "AdamW, decay of the square", at_least=0, below=1)
    eps: float = field(1e-8, "AdamW; with the clip above it acts as a slow warm-up", above=0)
    decay: str = field(
        "constant", "factor on the learning rate over the run: constant, or half a cosine to 0", one_of=DECAYS
    )
    ema: float = field(
        0.0, "decay of the weight average that is evaluated; 0 = evaluate the weights themselves", at_least=0, below=1
    )
    log_every: int = field(100, "steps between lines of metrics.jsonl", at_least=1, affects_results=False)


@dataclasses.dataclass(frozen=True)
class SaveConfig:
    """Steps at which a run is saved and evaluated: at squares of evenly spaced roots; see `save_steps`."""

    start: int = field(500, "first saved step", at_least=1)
    count: int = field(60, "number of saved steps; the last is optim.steps", at_least=1, at_most=100_000)
    steps: tuple[int, ...] = field((), "explicit steps; win over start and count when not empty", at_least=1)
    keep: str = field(
        "auto", "saves whose parameters stay on disk: auto is all while they take at most limit_gb, else last",
        one_of=KEEPS, affects_results=False,
    )  # fmt: skip
    keep_steps: tuple[int, ...] = field(
        (), "saved steps whose parameters stay besides the last; win over keep when not empty", at_least=1,
        affects_results=False,
    )  # fmt: skip
    keep_states: tuple[int, ...] = field(
        (), "saved steps whose full state stays, three times the parameters, for --mode=replay to start from",
        at_least=1, affects_results=False,
    )  # fmt: skip
    limit_gb: float = field(
        20.0, "disk in 1e9 bytes that all parameters may take before auto keeps the last", at_least=0,
        affects_results=False,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is measured at a saved step."""

    samples_per_class: int = field(32, "per run, class and checkpoint", at_least=1)
    sampling_steps: int = field(50, "of the ancestral sampler", at_least=1)
    guidance: float = field(
        1.0, "guidance weight w; 1 = plain conditional, others need diffusion.p_uncond > 0", at_least=0
    )
    keep_samples: int = field(4, "images stored per run, class and checkpoint, at most samples_per_class", at_least=0)
    losses: bool = field(True, "also measure validation and test loss")
    loss_images: int = field(0, "most validation images the loss is measured on; 0 = all", at_least=0)


@dataclasses.dataclass(frozen=True)
class ElicitConfig:
    """The battery of protocols that held-out classes are asked with besides naive prompting, at every saved step."""

    protocols: tuple[str, ...] = field(
        (),
        "overprompt, overprompt_published, latent, latent_shared (for common_*), guidance, patch; joined 'a+b'; "
        "controls 'a_random', 'a_shuffled'; () = none",
        affects_results=False,
    )
    concept: str = field(
        "color",
        "the active concept that is exaggerated; '' = the first, each = each in turn and all at once",
        affects_results=False,
    )
    # A setting is chosen on one half of the samples and scored on the other.
    samples: int = field(32, "per run, query, class and checkpoint", at_least=2, affects_results=False)
    overprompt: tuple[float, ...] = field(
        (0.0, 0.25, 0.75, 1.25, 1.75), "factors lambda of mu + lambda (mu_1 - mu_0)", affects_results=False
    )
    alpha: tuple[float, ...] = field(
        (0.1, 1.0, 2.0), "strength of the amplified embedding of a latent intervention", affects_results=False
    )
    beta: tuple[float, ...] = field(
        (0.1,), "strength of the removed one; all pairs with alpha are tried", affects_results=False
    )
    guidance: tuple[float, ...] = field(
        (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0), "weights w", at_least=0, affects_results=False
    )
    patch_step: int = field(
        0, "saved step whose conditioning projections patching uses; 0 = the last", at_least=0, affects_results=False
    )
    images_per_call: int = field(
        0, "most images of a run sampled at once; 0 = what the device holds", at_least=0, affects_results=False
    )


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """The classifier that reads concepts off samples, trained once on diverse data and shared by all runs."""

    channels: tuple[int, ...] = field((32, 32, 32), "per level of its U-Net", at_least=1)
    blocks: int = field(1, "residual blocks per level and direction", at_least=1, at_most=64)
    groups: int = field(4, "of the group normalisations; divides channels and out_channels", at_least=1)
    heads: int = field(4, "of its attention", at_least=1)
    out_channels: int = field(64, "feature maps that are max-pooled into the head", at_least=1)
    dropout: float = field(0.1, "while training", at_least=0, below=1)
    init_scale: float = field(0.02, "factor on the initial parameters of its U-Net", above=0)
    steps: int = field(10_000, "updates", at_least=1, at_most=MAX_STEPS)
    batch_size: int = field(64, "images per step", at_least=1)
    learning_rate: float = field(1e-3, "of AdamW", above=0)
    weight_decay: float = field(0.01, "of AdamW", at_least=0)
    clip: float = field(0.01, "global gradient norm that is clipped to", above=0)
    images_per_class: int = field(1024, "training images per class and row of data", at_least=1, at_most=MAX_IMAGES)
    test_images_per_class: int = field(
        64, "held-out images per class and row of data, at the class means", at_least=1, at_most=MAX_IMAGES
    )
    data: tuple[tuple[float, float, float, bool], ...] = field(
        ((0.2, 0.1, 0.2, False), (0.8, 0.4, 0.2, False), (0.2, 0.2, 0.2, True), (0.8, 0.4, 0.2, True)),
        f"rows ({', '.join(SEPARATIONS)}, narrow); narrow: sizes spread by {TABLE['size'].narrow_spread:g} sep_size, "
        f"not {TABLE['size'].spread:g} sep_size",
    )
    min_accuracy: float = field(
        0.995, "held-out accuracy below which evaluation stops with an error", at_least=0, at_most=1
    )
    seed: int = field(0, "of its data and weights", at_least=0, at_most=MAX_SEED)
    cache_dir: str = field("", "where trained probes are kept and looked up; '' = WORKDIR/probe", affects_results=False)


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the grid is executed; changes speed and memory, results only by rounding (but `precision` does)."""

    plan: str = field(
        "known", "known: auto and 0 below take what suits the backend; auto: what is measured fastest", one_of=PLANS,
        affects_results=False,
    )  # fmt: skip
    convolution: str = field(
        "auto", "how convolutions are computed (model/convolution.py)", one_of=CONVOLUTIONS, affects_results=False
    )
    runs: str = field(
        "auto", "how runs are laid out: one program, a loop, a copy each", one_of=RUN_PLANS, affects_results=False
    )
    devices: int = field(0, "most local devices that take part; 0 = all", at_least=0, affects_results=False)
    steps_per_call: int = field(
        0, "most training steps in a compiled call; 0 = chosen for the backend", at_least=0, affects_results=False
    )
    microbatch: int = field(
        0,
        "samples whose gradient is computed at once; 0 = chosen for the backend and the memory",
        at_least=0,
        affects_results=False,
    )
    # More than rounding.
    precision: str = field("default", "of products; default is that of the backend", one_of=PRECISIONS)
    # Checkpoints lie in one folder a wave.
    wave: int = field(0, "most runs trained at once; 0 = as many as memory is predicted to hold", at_least=0)
    state_seconds: float = field(
        30.0, "least time between two full states to resume from", at_least=0, affects_results=False
    )
    memory_gb: float = field(
        0.0, "memory of one device (CPU: of the machine) in 1e9 bytes; 0 = ask the device", at_least=0,
        affects_results=False,
    )  # fmt: skip


def _required(text: str, names: tuple[str, ...] = ()) -> Any:
    return dataclasses.field(metadata={"declared": Declared(text, names=names)})


@dataclasses.dataclass(frozen=True)
class Config:
    """One study: a grid of runs and everything they share."""

    study: str = _required("name of the study, kept with the results")
    scale: str = _required("smoke (seconds, shows nothing), quick (small, minutes on a CPU) or paper", SCALES)
    grid: GridConfig = GridConfig()
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    optim: OptimConfig = OptimConfig()
    save: SaveConfig = SaveConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    elicit: ElicitConfig = ElicitConfig()
    probe: ProbeConfig = ProbeConfig()
    engine: EngineConfig = EngineConfig()
    figures: tuple[str, ...] = field((ALL_FIGURES,), "which figures are drawn: names, or all", affects_results=False)
    learned: str = field(STAYS_80, "definition of learned that is shown", one_of=tuple(LEARNED), affects_results=False)


def trained_of(concepts: int, held_out: Sequence[str] = ()) -> list[str]:
    """Return the codes of the trained classes: all but `held_out`, or without it those with at most one bit set."""
    names = map("".join, itertools.product("01", repeat=concepts))
    return [name for name in names if (name not in held_out if held_out else name.count("1") <= 1)]


def masked_of(active: Sequence[str], concept: str = "", klass: str = "") -> tuple[str, str]:
    """Return the concept that is masked in training, and the code of the class in whose images it is masked.

    Empty names are filled in. By default colour (without it the first active concept), and the class whose only set bit
    is that of the last other concept: with shape and colour the red triangle "10", with colour and size the red small
    "01".
    """
    concept = concept or ("color" if "color" in active else active[0])
    other = [name for name in active if name != concept][-1:]
    return concept, klass or "".join("1" if name in other else "0" for name in active)


def shares_embedding(conditioning: str) -> bool:
    """Return whether all blocks read one common embedding of the conditioning vector with this conditioning."""
    return conditioning.startswith("common")
