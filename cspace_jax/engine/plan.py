"""The plan: how the pure functions of one run execute over a grid.

It changes speed and rounding, and results only by its precision, which the user alone sets.
"""

import contextlib
import dataclasses
from typing import Any

import jax

from cspace_jax.config import Config
from cspace_jax.errors import UserError
from cspace_jax.training import microbatch as microbatch_module
from cspace_jax.training.run import TrainSpec, make_train_spec

_CACHE_BYTES = 2**20  # of one core


@dataclasses.dataclass(frozen=True)
class Plan:
    """How runs execute.

    Attributes:
      convolution: one of `conv.METHODS`.
      runs: "vmap" (one batched program), "map" (a compiled loop), "unroll" (one program with a copy per run) or "loop"
        (the program of one run, called for each run).
      steps_per_call: training steps per compiled call; the host only sees the last one's metrics.
      microbatch: samples whose gradient is computed at once; 0 = as many as the cache holds.
      cache_bytes: of a core, for the parts of a batch; 0 = batches are not cut (`train.TrainSpec.part`).
      devices: how many local devices take part; 0 = all.
      precision: of the products of float32 numbers, "default" or one of JAX's `jax_default_matmul_precision`; numbers
        that are stored, and statistics, stay float32.
    """

    convolution: str
    runs: str
    steps_per_call: int
    microbatch: int = 0
    cache_bytes: int = 0
    devices: int = 0
    precision: str = "default"


def choose_plan(config: Config, backend: str) -> Plan:
    """Fill the fields left to us ("auto" or 0) with what was measured best on a backend (BUILD_NOTES.md).

    On a CPU batched convolutions are slow: each run has a program of its own, called for 25 steps so that its state
    stays in the cache. Large batches pass through the network in parts that do, and wide convolutions take Winograd's
    products. Elsewhere 50 steps a call hide the cost of launching.
    """
    given, cpu = config.engine, backend == "cpu"
    return Plan(
        convolution=("winograd" if cpu else "xla") if given.convolution == "auto" else given.convolution,
        runs=("loop" if cpu else "vmap") if given.runs == "auto" else given.runs,
        steps_per_call=given.steps_per_call or (25 if cpu else 50),
        microbatch=given.microbatch,
        cache_bytes=_CACHE_BYTES if cpu else 0,
        devices=given.devices,
        precision=given.precision,
    )


def train_spec(config: Config, plan: Plan, shards: int = 1) -> TrainSpec:
    """Return the static description of training under a plan, with `shards` devices to each run."""
    return make_train_spec(config, plan.convolution, plan.microbatch, plan.cache_bytes, shards)


def choose_shards(config: Config, plan: Plan, runs: int, devices: int) -> int:
    """Return how many devices share each run: as many as are left over by the runs and divide the parts of a batch."""
    return microbatch_module.choose_shards(train_spec(config, plan).gradient_parts, devices // runs)


def precision(plan: Plan) -> contextlib.AbstractContextManager:
    """Return the context in which a plan's programs are traced and called."""
    if plan.precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(plan.precision)


def local_devices(plan: Plan) -> list[Any]:
    """Return the local devices that a plan uses.

    Errors: UserError if it asks for more than there are.
    """
    local = jax.local_devices()
    if plan.devices > len(local):
        raise UserError(f"engine.devices = {plan.devices}: must be at most {len(local)}, the local devices; 0 = all")
    return local[: plan.devices or None]


def at_once(config: Config, processes: int = 1) -> int:
    """Return the number of runs of the largest wave of one of `processes` processes."""
    share = -(-config.grid.num_runs // processes)
    return min(config.engine.wave or share, share)
