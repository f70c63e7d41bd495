"""All studies share this configuration: every field at the paper's value, and two smaller scales as changes to it.

A study file calls `get_config(study, scale)` and sets its own grid. Any field can be overridden on the command line:

    python -m cspace_jax.main --config=configs/signal.py:quick --config.optim.steps=4000 --config.grid.seeds="(0, 1, 2)"

Scales: `smoke` (seconds; tests that everything runs, shows nothing), `quick` (minutes on 2 CPU cores; small images and
network, shows the phenomenon at a setting that is not the paper's), `paper` (faithful; one GPU or TPU).
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from cspace_jax import startup
from cspace_jax.config import SCALES, Config, reading, to_dict
from cspace_jax.config.protocol_names import LATENT, OVERPROMPT, RANDOM, REPEATED
from cspace_jax.text import closest

# Both interventions with their random controls, and as many plain queries.
INTERVENTIONS = (REPEATED, OVERPROMPT, OVERPROMPT + RANDOM, LATENT, LATENT + RANDOM)


def get_config(study: str, scale: str | None = None) -> Any:
    """Return the shared configuration of a study at a scale, a ConfigDict. None takes `default_scale()`.

    Raises:
      UserError: the scale does not exist, or without one JAX's backend cannot be started.
    """
    scale = default_scale() if scale is None else scale
    reading.one_of("scale", scale, SCALES)
    config = to_config_dict(Config(study=study, scale=scale))
    if scale == "quick":
        _shrink_to_quick(config)
    if scale == "smoke":
        _shrink_to_smoke(config)
    return config


def to_config_dict(config: Config) -> Any:
    """Return the configuration as a ConfigDict, whose tuples a command line can override."""
    fields = _Group()
    for name, value in _with_tuples(to_dict(config)).items():
        fields[name] = _Group(value) if isinstance(value, dict) else value
    return fields.lock()


class _Group(ConfigDict):
    """This ConfigDict takes ranges, arrays and whole floats too, and no field that does not exist."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.is_locked and key not in self:
            raise AttributeError(f"unknown field {key!r}{closest(key, self)}")
        value = reading.sequence(value)
        if isinstance(value, float) and type(self.get(key)) is int and value.is_integer():
            value = int(value)
        super().__setitem__(key, value)


def _with_tuples(value: Any) -> Any:
    """Return a tree of dicts with tuples in place of lists.

    Tuples are the only sequences that a command line can override.
    """
    if isinstance(value, dict):
        return {name: _with_tuples(one) for name, one in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def default_scale() -> str:
    """Return `quick` where JAX computes on a CPU and `paper` on an accelerator.

    Asking starts JAX's backend, so a program that must first set up several processes names its scale.

    Raises:
      UserError: JAX's backend cannot be started, or a setting of `startup.FIXED` is held at another value.
    """
    startup.set_up_jax()
    return "quick" if startup.start_backend() == "cpu" else "paper"


def sweep() -> Iterator[dict[str, Any]]:
    """Yield variants that suit every study.

    Each is the overrides {"X": Y} to be given as --config.X=Y.
    """
    yield {"grid.weight_decay": (0.05,)}  # ablation of the paper
    yield {"grid.init_scale": (0.1,)}  # ablation of the paper
    yield {"grid.seeds": tuple(range(0, 1000, 100))}  # twice the paper's seeds, narrower intervals
    yield {"network.conditioning": "common_linear"}  # one embedding of the conditioning shared by all blocks
    yield {"diffusion.schedule": "fixed_linear"}  # a noise schedule that does not drift while concepts are learned
    yield {"diffusion.p_uncond": 0.1, "evaluate.guidance": 3.0}  # classifier-free guidance
    yield {"data.active": ("color", "size", "bg_color"), "grid.sep_bg": (0.2,)}  # 2x2x2 classes


def _shrink_to_quick(config: Any) -> None:
    """Change to the small setting that shows the paper's effects in minutes on 2 CPU cores.

    It was found by search. What was tried and what each change does: docs/quick-settings.md.
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
    """Change to the smallest setting that exercises every part. Its numbers mean nothing."""
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
