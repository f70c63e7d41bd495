"""The frozen, hashable dataclasses of a study's configuration and the names its fields may take.

Users import them from `cspace_jax.config`, which also reads and checks them.
"""

import dataclasses
import math

import numpy as np

SCALES = ("smoke", "quick", "paper")
CONCEPTS = ("shape", "x", "y", "color", "size", "bg_color")
CONDITIONINGS = ("sep_mlp", "common_linear", "common_zerolinear")
SCHEDULES = ("learned_linear", "fixed_linear")
DECAYS = ("constant", "cosine")
CONVOLUTIONS = ("auto", "xla", "canonical", "winograd", "matmul")
MASK_MODES = ("zero", "null", "token")
MASK_IMAGES = ("fixed", "batch")
PLANS = ("known", "auto")
PRECISIONS = ("default", "float32", "tensorfloat32", "bfloat16")
NAIVE = "naive"  # the protocol that asks for a class by its own conditioning
RANDOM = "_random"  # suffix of a control: directions of the same length, drawn at random
SHUFFLED = "_shuffled"  # suffix of a control: the same change along another concept
RUN_PLANS = ("auto", "vmap", "map", "unroll", "loop")
FIGURES = (
    *("fig2", "fig3", "fig4", "fig6", "fig7", "fig8", "fig9", "fig10", "fig12", "fig13", "fig16", "fig17"),
    *("elicitation", "embeddings", "product", "curves", "samples", "gif"),
)


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """Axes of the product grid of runs; each field is one axis."""

    seeds: tuple[int, ...] = (0, 100, 200, 300, 400)
    sep_col: tuple[float, ...] = (0.2,)
    sep_size: tuple[float, ...] = (0.4,)
    sep_bg: tuple[float, ...] = (0.2,)
    learning_rate: tuple[float, ...] = (1e-3,)
    weight_decay: tuple[float, ...] = (0.01,)
    init_scale: tuple[float, ...] = (1.0,)
    data_noise: tuple[float, ...] = (1e-3,)
    mask: tuple[float, ...] = (0.0,)

    @property
    def num_runs(self) -> int:
        """Return the number of runs of the product grid."""
        return math.prod(len(getattr(self, field.name)) for field in dataclasses.fields(self))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Images and classes of the data-generating process, and what the swept mask hides (masking.py)."""

    active: tuple[str, ...] = ("color", "size")
    image_size: int = 32
    blur: float = 1.0
    images_per_class: int = 2048
    train_ratio: float = 0.85
    test_images_per_class: int = 32
    mask_concept: str = ""
    mask_class: str = ""
    mask_mode: str = "zero"
    mask_images: str = "fixed"

    @property
    def masked(self) -> tuple[str, str]:
        """Return the concept that is masked and the code of the class whose images it is masked in.

        By default colour (without it the first active concept), and the training class whose only set bit is that of
        the last other concept: with shape and colour the red triangle "10", with colour and size the red small "01".
        """
        concept = self.mask_concept or ("color" if "color" in self.active else self.active[0])
        other = [name for name in self.active if name != concept][-1:]
        return concept, self.mask_class or "".join("1" if name in other else "0" for name in self.active)

    @property
    def pool_images(self) -> int:
        """Return the number of images of the training classes (those with at most one bit set) before the split."""
        return (1 + len(self.active)) * self.images_per_class

    @property
    def train_images(self) -> int:
        """Return the number of images trained on, floor(train_ratio * pool); the rest is for validation."""
        return math.floor(self.train_ratio * self.pool_images)


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """The U-Net that predicts the noise."""

    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    groups: int = 8
    heads: int = 4
    attention: bool = True
    dropout: float = 0.1
    conditioning: str = "sep_mlp"


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Noise schedule and classifier-free guidance in training."""

    schedule: str = "learned_linear"
    gamma_min: float = -5.0
    gamma_max: float = 10.0
    p_uncond: float = 0.0
    null_value: float = -1.0


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW over a fixed number of steps."""

    batch_size: int = 64
    steps: int = 20_000
    clip: float = 0.01
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decay: str = "constant"
    ema: float = 0.0
    log_every: int = 100


@dataclasses.dataclass(frozen=True)
class SaveConfig:
    """Steps at which a run is saved and evaluated; see `save_steps`."""

    start: int = 500
    count: int = 60
    steps: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is measured at a saved step."""

    samples_per_class: int = 32
    sampling_steps: int = 50
    guidance: float = 1.0
    keep_samples: int = 4
    losses: bool = True
    loss_images: int = 0


@dataclasses.dataclass(frozen=True)
class ElicitConfig:
    """The battery of protocols that held-out classes are asked with besides naive prompting, at every saved step.

    Names of protocols: `protocols.parse`; none switches the battery off. `overprompt` holds the factors lambda of
    mu + lambda (mu_1 - mu_0), `alpha` and `beta` the strengths of latent interventions, all combined, `guidance` the
    weights w.
    """

    protocols: tuple[str, ...] = ()
    concept: str = "color"
    samples: int = 32
    overprompt: tuple[float, ...] = (0.0, 0.25, 0.75, 1.25, 1.75)
    alpha: tuple[float, ...] = (0.1, 1.0, 2.0)
    beta: tuple[float, ...] = (0.1,)
    guidance: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    patch_step: int = 0
    images_per_call: int = 0


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """The classifier that reads concepts off samples, and the diverse data it is trained on.

    A row of `data` is (sep_col, sep_size, sep_bg, narrow), narrow meaning a size half-width of sep_size / 8.
    """

    channels: tuple[int, ...] = (32, 32, 32)
    blocks: int = 1
    groups: int = 4
    heads: int = 4
    out_channels: int = 64
    dropout: float = 0.1
    init_scale: float = 0.02
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip: float = 0.01
    images_per_class: int = 1024
    test_images_per_class: int = 64
    data: tuple[tuple[float, float, float, bool], ...] = (
        (0.2, 0.1, 0.2, False),
        (0.8, 0.4, 0.2, False),
        (0.2, 0.2, 0.2, True),
        (0.8, 0.4, 0.2, True),
    )
    min_accuracy: float = 0.995
    seed: int = 0
    cache_dir: str = ""


@dataclasses.dataclass(frozen=True)
class EngineConfig:
    """How the grid is executed; changes speed and memory, results only by rounding (but `precision` does)."""

    plan: str = "known"
    convolution: str = "auto"
    runs: str = "auto"
    devices: int = 0
    steps_per_call: int = 0
    microbatch: int = 0
    precision: str = "default"
    wave: int = 0
    state_seconds: float = 30.0
    memory_gb: float = 0.0


@dataclasses.dataclass(frozen=True)
class Config:
    """One study: a grid of runs and everything they share."""

    study: str
    scale: str
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
    figures: tuple[str, ...] = FIGURES


def save_steps(save: SaveConfig, total: int) -> tuple[int, ...]:
    """Return the increasing steps, in 1..total, at which runs are saved and evaluated.

    An explicit list wins. Otherwise `count` points lie at squares of evenly spaced roots from sqrt(start) to
    sqrt(total), truncated; the last is `total` and repetitions are dropped (reference implementation).
    """
    if save.steps:
        return save.steps
    points = (np.linspace(math.sqrt(save.start), math.sqrt(total), save.count) ** 2).astype(int)
    points = np.maximum(points, save.start)  # the square of a rounded root may fall just below the start
    points[-1] = total
    return tuple(int(step) for step in np.unique(points))


def shares_embedding(conditioning: str) -> bool:
    """Return whether with this kind of conditioning all blocks read one embedding of the vector, not the vector."""
    return conditioning.startswith("common")
