"""The forecast of how much memory training needs.

It takes the compiler's own analysis of programs, or a closed form, and scales it to the runs of a wave. Bytes
throughout; a GB is 1e9 bytes. What is counted: states, training sets and settings of all runs of a wave, the working
memory of the programs that run at the same time, and on a CPU the copy that `Engine.fetch` makes when runs in several
groups are saved. What is not: the runtime itself, compilation, evaluation, and host memory beside an accelerator.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from cspace_jax import machine
from cspace_jax.config import Config, grid
from cspace_jax.config.plan import Plan
from cspace_jax.config.setting import Setting
from cspace_jax.cost import activations, on_tpu
from cspace_jax.engine.engine import abstract_run, training_program
from cspace_jax.engine.placement import local_devices
from cspace_jax.errors import UserError
from cspace_jax.training import microbatch
from cspace_jax.training.run import TrainSpec, init_run, make_data

GB = 1e9
_MOST_RUNS = 2**20


@dataclasses.dataclass(frozen=True)
class Footprint:
    """The memory of training, in bytes.

    Attributes:
      state: of one run: parameters, two moments, average, shuffle order, key.
      resident: of one run, what stays between calls: state, setting and training set.
      working: of one run, what is needed only while its program runs.
      fixed: of a running program, whatever the number of its runs.
      pool: of the pictures that all runs share, one copy a device.
    """

    state: float
    resident: float
    working: float
    fixed: float = 0.0
    pool: float = 0.0


@dataclasses.dataclass(frozen=True)
class Place:
    """The devices and the memory that a wave is trained with.

    Attributes:
      layout: `Plan.runs`.
      devices: number of devices that share the runs.
      shared: whether they share one memory, as CPU devices do.
      available: bytes of one device's memory, or of the shared one.
      microbatches: of a batch, which devices that the runs leave over can share (`microbatch.choose_shards`).
      tpu: whether the devices are TPUs, whose compiler stores less and pads arrays to tiles.
    """

    layout: str
    devices: int
    shared: bool
    available: float
    microbatches: int = 1
    tpu: bool = False


def here(config: Config, plan: Plan) -> Place:
    """Return the place that this process would train in. `engine.memory_gb` is considered.

    Raises:
      UserError: the plan asks for more devices than there are.
    """
    backend = jax.default_backend()
    cpu = backend == "cpu"
    available = config.engine.memory_gb * GB or (machine.memory() if cpu else _device_memory())
    spec = TrainSpec.from_config(config, plan)
    return Place(plan.runs, len(local_devices(plan)), cpu, available, spec.microbatches, backend == "tpu")


def state_bytes(config: Config) -> float:
    """Return the bytes of one run's state: parameters, moments, average, shuffle order and key."""
    return _bytes(abstract_run(TrainSpec.from_config(config), _abstract(config)))


@functools.cache
def outline(config: Config, plan: Plan, tpu: bool = False) -> Footprint:
    """Return a footprint from shapes alone, without compiling.

    What stays between calls is counted exactly, the memory of a step by a closed form. The closed form
    (`activations.step_bytes`) is within 15 % of the compiler's analysis on a CPU, and with `tpu` of that of a compiler
    for TPUs where a device's memory is filled (docs/memory.md). What stays is padded there.
    """
    spec, setting = TrainSpec.from_config(config, plan), _abstract(config)
    state = abstract_run(spec, setting)
    data = jax.eval_shape(functools.partial(make_data, spec), setting)
    stays, pool = (state, setting, data), spec.source.pool_shapes
    if not tpu:
        return Footprint(_bytes(state), _bytes(stays), activations.step_bytes(spec), pool=_bytes(pool))
    parts = on_tpu.stages(spec.vdm.network, spec.source.data.image_size, state.params["network"])
    copied = on_tpu.copied_bytes(state if spec.microbatches == 1 else state.params, data)
    working = activations.step_bytes(spec, list(parts)) + copied
    return Footprint(_bytes(state), on_tpu.run_bytes(stays), working, pool=on_tpu.shared_bytes(pool))


def analyse(config: Config, plan: Plan) -> Footprint:
    """Return the footprint from the compiler's analysis of the training program.

    The program is compiled once or twice. A layout that stacks runs is compiled for one run and for two: what the
    second adds is taken to be a run's share.

    Raises:
      UserError: the backend does not tell the memory of its programs, or the plan asks for too many devices.
    """
    state, pool = state_bytes(config), _bytes(TrainSpec.from_config(config).source.pool_shapes)
    resident, working = _program_bytes(config, plan, 1)
    if plan.runs == "loop":
        return Footprint(state, resident, working, pool=pool)
    both_resident, both_working = _program_bytes(config, plan, 2)
    share = max(both_working - working, 0.0)
    return Footprint(state, both_resident - resident, share, max(working - share, 0.0), pool)


def _program_bytes(config: Config, plan: Plan, runs: int) -> tuple[float, float]:
    """Compile the training program of `runs` runs and return the bytes of its arguments and those beyond them."""
    spec = TrainSpec.from_config(config, plan)
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs,), leaf.dtype), _abstract(config))
    state = jax.eval_shape(jax.vmap(functools.partial(init_run, spec)), stacked)
    data = jax.eval_shape(jax.vmap(functools.partial(make_data, spec)), stacked)
    number, pool = jax.ShapeDtypeStruct((), jnp.int32), spec.source.pool_shapes
    lowered = training_program(spec, plan).lower(state, stacked, data, pool, number, number)
    # On a CPU the level of optimisation changes the code of a buffer's loops, not the buffers.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    found = lowered.compile(compiler_options=options).memory_analysis()
    if found is None:
        raise UserError(f"the {jax.default_backend()} backend does not tell the memory of its programs")
    beyond = found.output_size_in_bytes - found.alias_size_in_bytes + found.temp_size_in_bytes
    return float(found.argument_size_in_bytes) - _bytes(pool), float(max(beyond, 0))


def peak_bytes(footprint: Footprint, place: Place, runs: int) -> float:
    """Return the predicted peak bytes of training a wave of `runs` >= 1 runs.

    It is that of the fullest device, or of the shared memory. Run groups are those of `Engine`. In a loop all runs stay
    in memory while each device runs the program of one.
    """
    shards = microbatch.choose_shards(place.microbatches, place.devices // runs)
    places = place.devices // shards
    group = 1 if place.layout == "loop" else -(-runs // places)
    groups = -(-runs // group)
    on_first = min(-(-groups // places) * group, runs)
    held = runs * shards if place.shared else on_first
    programs = min(groups, places) * shards if place.shared else 1
    stepping = programs * (footprint.working * group + footprint.fixed)
    # Devices send their runs to the host, where they are put together: the memory of CPU devices, and of no other.
    saving = runs * footprint.state if place.shared and groups > 1 else 0.0
    copies = places * shards if place.shared else 1
    return copies * footprint.pool + held * footprint.resident + max(stepping, saving)


def largest_wave(footprint: Footprint, place: Place) -> int:
    """Return the most runs at once that are predicted to fit. It is 0 if not even one does."""
    low, high = 0, _MOST_RUNS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(footprint, place, middle) else (low, middle - 1)
    return low


def fits(footprint: Footprint, place: Place, runs: int) -> bool:
    """Return whether a wave of `runs` >= 1 runs is predicted to fit."""
    return peak_bytes(footprint, place, runs) <= place.available


def _abstract(config: Config) -> Setting:
    """Return the shapes and types of one run's setting."""
    return jax.eval_shape(lambda: grid.example_setting(config.grid))


def _bytes(tree: Any) -> float:
    """Return the bytes of a tree of arrays, without padding."""

    def one(leaf: Any) -> int:
        return leaf.size * leaf.dtype.itemsize

    return float(sum(map(one, jax.tree.leaves(tree))))


def _device_memory() -> float:
    """Return the bytes of the smallest local device's memory. The result is infinity where none tells."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    known = [float(limit) for limit in limits if limit]
    return min(known) if known else float("inf")
