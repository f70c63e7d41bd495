"""How long a study will take on this machine: operations counted by the compiler over a measured matmul speed."""

import functools
import time

import jax
import jax.numpy as jnp

from cspace_jax.config import Config, grid, save_steps
from cspace_jax.config.plan import Plan
from cspace_jax.data.concepts import CONDITIONING_DIM, classes
from cspace_jax.data.datasets import Dataset
from cspace_jax.engine.placement import at_once, local_devices
from cspace_jax.evaluation import protocols
from cspace_jax.model import vdm
from cspace_jax.training import microbatch
from cspace_jax.training.run import TrainSpec, init_run, make_data, train_step

# Share of the speed of a large matrix product that whole training steps were measured to reach (docs/performance.md).
_EFFICIENCY = {"cpu": 0.5, "gpu": 0.3, "tpu": 0.2}
_OVERHEAD_SECONDS = 60.0  # compilation, probe, figures


def step_flops(config: Config) -> float:
    """Return the floating-point operations of one training step of one run, as the compiler counts them."""
    spec = TrainSpec.from_config(config)
    setting = grid.example_setting(config.grid)
    state = jax.eval_shape(functools.partial(init_run, spec), setting)
    data: Dataset = jax.eval_shape(functools.partial(make_data, spec), setting)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    lowered = jax.jit(lambda *a: train_step(spec, *a)).lower(state, setting, data, step)
    return _flops(lowered)


def sample_flops(config: Config) -> float:
    """Return the operations of sampling for one run at one checkpoint: all classes, and the battery of protocols."""
    spec = TrainSpec.from_config(config)
    state = jax.eval_shape(functools.partial(init_run, spec), grid.example_setting(config.grid))
    size = config.data.image_size
    z = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    gamma_t = jax.ShapeDtypeStruct((1,), jnp.float32)
    c = jax.ShapeDtypeStruct((1, CONDITIONING_DIM), jnp.float32)
    one_image = _flops(jax.jit(lambda p, *a: vdm.eps_hat(p, spec.vdm, *a)).lower(state.params, z, gamma_t, c))
    found = classes(config.data.active)
    guided = config.evaluate.guidance != 1.0
    images = found.num * config.evaluate.samples_per_class * (1 + guided)
    if config.elicit.protocols:
        guided = guided or protocols.uses_guidance(config.elicit)
        per_class = len(protocols.layout(config.elicit)) * config.elicit.samples
        images += per_class * len(found.held_out_ids) * (1 + guided)
    return one_image * images * config.evaluate.sampling_steps


def matmul_speed(size: int = 1024, repeats: int = 5) -> float:
    """Measure the floating-point operations per second of a float32 matrix product on the default device."""
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def estimate_seconds(config: Config, plan: Plan) -> float:
    """Estimate the time of the whole study on this machine, good to about a factor of two."""
    saves = len(save_steps(config.save, config.optim.steps))
    per_run = config.optim.steps * step_flops(config) + saves * sample_flops(config)
    backend = jax.default_backend()
    # CPU devices share the cores.
    devices = 1 if backend == "cpu" else len(local_devices(plan))
    speed = matmul_speed() * _EFFICIENCY.get(backend, 0.2) * devices * jax.process_count()
    return config.grid.num_runs * per_run / speed + _OVERHEAD_SECONDS


def _flops(lowered: jax.stages.Lowered) -> float:
    cost = lowered.cost_analysis()
    return float(cost["flops"]) if cost else 0.0


def describe_plan(config: Config, plan: Plan) -> str:
    """Return how the grid executes, in words."""
    parts = [f"runs {plan.runs}", f"convolution {plan.convolution}", f"{plan.steps_per_call} step(s) per call"]
    batch = config.optim.batch_size
    spec = TrainSpec.from_config(config, plan)
    part = spec.microbatch_size
    parts += [f"gradients of {part} of {batch} images at once"] if part < batch else []
    parts += [f"{plan.devices} device(s)"] if plan.devices else []
    runs = at_once(config, jax.process_count())
    shards = microbatch.choose_shards(spec.microbatches, len(local_devices(plan)) // runs)
    parts += [f"each run on {shards} devices"] if shards > 1 else []
    parts += [f"precision {plan.precision}"] if plan.precision != "default" else []
    return ", ".join(parts)
