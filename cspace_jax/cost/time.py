"""The forecast of how long a study will take on this machine.

The forecast divides operations in closed form by a measured matmul speed.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cspace_jax.config import Config
from cspace_jax.config.plan import Plan
from cspace_jax.cost import operations
from cspace_jax.engine.placement import at_once, local_devices
from cspace_jax.text import minutes
from cspace_jax.training import microbatch
from cspace_jax.training.run import TrainSpec

# Share of the speed of a large matrix product that whole training steps were measured to reach (docs/performance.md).
_EFFICIENCY = {"cpu": 0.5, "gpu": 0.3, "tpu": 0.2}
FACTOR = 2.0  # on a busy machine with two cores, shares of 0.38 to 0.60 were measured at quick scale instead of 0.5
_OVERHEAD_SECONDS = 60.0  # compilation, probe, figures


def matmul_speed(size: int = 1024, repeats: int = 5) -> float:
    """Measure the floating-point operations per second of a `size` x `size` float32 matrix product.

    The default device is measured, and the fastest of `repeats` counts.
    """
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def estimate_seconds(configs: Sequence[Config], plan: Plan) -> float:
    """Estimate the seconds that a study's grids take on this machine.

    The truth lies within about the factor `FACTOR` either way.
    """
    return sum(stage_seconds(configs, plan).values()) + _OVERHEAD_SECONDS


def stage_seconds(configs: Sequence[Config], plan: Plan) -> dict[str, float]:
    """Estimate the seconds of each stage, stage -> seconds.

    The stages are "training", "evaluation" and, where there are protocols, "battery".
    """
    backend = jax.default_backend()
    # CPU devices share the cores.
    devices = 1 if backend == "cpu" else len(local_devices(plan))
    speed = matmul_speed() * _EFFICIENCY.get(backend, 0.2) * devices * jax.process_count()
    found: dict[str, float] = {}
    for config in configs:
        for name, flops in operations.study_flops(config).items():
            found[name] = found.get(name, 0.0) + flops / speed
    return found


def describe_time(configs: Sequence[Config], plan: Plan) -> str:
    """Return in words how long a study's grids may take on this machine, as a range (`estimate_seconds`)."""
    return _between(estimate_seconds(configs, plan))


def _between(seconds: float) -> str:
    """Return in words the range from `seconds` / `FACTOR` to `seconds` x `FACTOR`."""
    return f"{minutes(seconds / FACTOR)} to {minutes(seconds * FACTOR)}"


def describe_stages(config: Config, plan: Plan) -> str:
    """Return in words the time of the study and of each stage on this machine (`stage_seconds`)."""
    stages = stage_seconds([config], plan)
    each = ", ".join(f"{name} {minutes(seconds)}" for name, seconds in stages.items())
    return f"{_between(sum(stages.values()) + _OVERHEAD_SECONDS)} for the whole study (about {each})"


def describe_plan(config: Config, plan: Plan) -> str:
    """Return in words how the grid executes."""
    parts = [f"runs {plan.runs}", f"convolution {plan.convolution}", f"{plan.steps_per_call} step(s) per call"]
    batch = config.optim.batch_size
    spec = TrainSpec.from_config(config, plan)
    part = spec.microbatch_size
    parts += [f"gradients of {part} of {batch} images at once"] if part < batch else []
    parts += [f"{plan.devices} device(s)"] if plan.devices else []
    runs = at_once(config.grid.num_runs, plan.wave, jax.process_count())
    shards = microbatch.choose_shards(spec.microbatches, len(local_devices(plan)) // runs)
    parts += [f"each run on {shards} devices"] if shards > 1 else []
    parts += [f"precision {plan.precision}"] if plan.precision != "default" else []
    return ", ".join(parts)
