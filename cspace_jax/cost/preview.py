"""The forecast of what a study will take, before it is started (`--mode=plan`).

It covers grid, operations, time, disk and memory.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from cspace_jax.config import Config, grid
from cspace_jax.config.plan import Plan
from cspace_jax.cost import disk, fit, memory, operations
from cspace_jax.cost.memory import GB, Footprint, Place
from cspace_jax.cost.time import describe_plan, describe_stages
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.model.unet import count_params
from cspace_jax.text import counted, in_words, minutes

Analyse = Callable[[Config, Plan], Footprint]
# Reached by one run of the paper network on an H100 (docs/devices.md). Nothing else was measured, so the same share
# is taken for all.
SHARE_OF_PEAK = 0.07


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """An accelerator that a study may be planned for.

    Attributes:
      chips: devices that share the runs.
      memory: bytes that JAX takes of one chip: three quarters of a GPU's unless it is told otherwise.
      peak: operations a second of one chip, for float32 products at JAX's default precision (TF32, bfloat16).
      tpu: whether it is a TPU, whose memory is predicted by another closed form (`memory.outline`).
    """

    chips: int
    memory: float
    peak: float
    tpu: bool = False


# Makers' data sheets: dense products, without sparsity.
ACCELERATORS = {
    "H100 80 GB": Accelerator(1, 0.75 * 80 * GB, 495e12),
    "A100 80 GB": Accelerator(1, 0.75 * 80 * GB, 156e12),
    "TPU v5e-8": Accelerator(8, 16 * GB, 197e12, tpu=True),
    "TPU v5p-8": Accelerator(4, 95 * GB, 459e12, tpu=True),
}


def show(config: Config, plan: Plan, compile_programs: bool = False) -> None:
    """Print the forecast line by line, and its progress on standard error.

    It trains and writes nothing. Memory is predicted from shapes, in seconds; with `compile_programs` by the compiler,
    which takes minutes at paper scale on a CPU.

    Raises:
      UserError: the plan asks for too many devices, or the backend does not tell the memory of its programs.
    """
    started = time.monotonic()
    analyse = _compiled if compile_programs else memory.outline
    for part in (_computation, _disk, functools.partial(_memory_here, analyse), functools.partial(_elsewhere, analyse)):
        for line in part(config, plan):
            print(line, flush=True)
    print(f"(this forecast took {minutes(time.monotonic() - started)})")


def _computation(config: Config, plan: Plan) -> Iterator[str]:
    """Yield the lines on grid, parameters, operations, execution and time."""
    runs, steps = config.grid.num_runs, config.optim.steps
    yield f"study {config.study}, scale {config.scale}: {counted(runs, 'run')} x {steps:,} steps"
    values = {axis: getattr(config.grid, axis) for axis in grid.AXES}
    yield "grid: " + " x ".join(f"{axis} {_short(v)}" for axis, v in values.items() if len(v) > 1 or axis == "seeds")
    yield f"parameters: {operations.parameters(config):,} a run, probe {_probe_parameters(config):,}"
    parts = operations.study_flops(config)
    yield (
        f"operations: {operations.step_flops(config) / 1e9:.3g} GFLOP a run and step; "
        + ", ".join(f"{name} {flops / 1e15:.3g}" for name, flops in parts.items())
        + f", together {sum(parts.values()) / 1e15:.3g} PFLOP"
    )
    devices = jax.local_devices()
    yield f"execution: {describe_plan(config, plan)}, on {len(devices)} x {devices[0].device_kind}"
    _progress("measuring the device's speed")
    yield f"time on this device: {describe_stages(config, plan)}"


def _short(values: tuple[Any, ...]) -> str:
    """Return the values of an axis as text, shortened if there are more than six."""
    return str(values) if len(values) <= 6 else f"({values[0]}, {values[1]}, ... {values[-1]}: {len(values)} values)"


def _probe_parameters(config: Config) -> int:
    """Return the number of parameters of the probe."""
    spec = probe_network.ProbeSpec.from_config(config)
    return count_params(jax.eval_shape(lambda key: probe_network.init_params(spec, key, 1.0), jax.random.key(0)))


def _disk(config: Config, plan: Plan) -> Iterator[str]:
    """Yield the line on disk space."""
    parameters, states = len(disk.kept_steps(config)) * disk.save_bytes(config), disk.state_bytes(config)
    kept = len(config.save.keep_states)
    which = "two states to resume from, for a moment" + (f", and {kept} that are kept" if kept else "")
    pool = memory.outline(config, plan).pool
    parts = [disk.describe(config), f"{in_words(states)} of {which}"]
    parts += [f"{in_words(pool)} of decoded pictures in data.cache_dir"] if pool else []
    yield f"disk at most: {in_words(parameters + states + pool)}: {', '.join(parts)}"


def _memory_here(analyse: Analyse, config: Config, plan: Plan) -> Iterator[str]:
    """Yield the lines on the memory of this machine."""
    place = memory.here(config, plan)
    footprint = memory.outline(config, plan, place.tpu) if analyse is memory.outline else analyse(config, plan)
    source = "from shapes; --compile asks the compiler" if analyse is memory.outline else "as compiled here"
    yield (
        f"memory of a run in training ({source}): {in_words(footprint.resident)} stay ({in_words(footprint.state)} of "
        f"them its state), {in_words(footprint.working + footprint.fixed)} more while its program runs"
    )
    if footprint.pool:
        yield f"pictures: {in_words(footprint.pool)} on each device, shared by all runs"
    owner = "the machine" if place.shared else "each device"
    runs = config.grid.num_runs
    for wave in _doubling(runs):
        peak = memory.peak_bytes(footprint, place, wave)
        note = "" if peak <= place.available else " (does not fit)"
        yield f"  {wave:>6,} run{'s' * (wave > 1)} at once: peak {in_words(peak)}{note}"
    yield f"largest wave that fits {in_words(place.available)} of {owner}: {_fitting(footprint, place, runs)}"


def _doubling(runs: int) -> list[int]:
    """Return the numbers 1, 2, 4, ... up to `runs`, and `runs` itself."""
    return sorted({*(2**i for i in range(runs.bit_length())), runs})


def _fitting(footprint: Footprint, place: Place, runs: int) -> str:
    """Return in words how many of the runs fit at once."""
    most = memory.largest_wave(footprint, place)
    return f"all {runs} runs (up to {most:,})" if most >= runs else f"{most:,} of {runs} runs"


def _elsewhere(analyse: Analyse, config: Config, plan: Plan) -> Iterator[str]:
    """Yield the lines on time and waves on accelerators, with all runs of a chip in one program."""
    stacked = dataclasses.replace(config.engine, runs="vmap", convolution="auto", steps_per_call=0)
    there = Plan.resolve(dataclasses.replace(config, engine=stacked), "gpu")
    needs = [one.resident + one.working for one in (analyse(config, there), memory.outline(config, there, tpu=True))]
    yield (
        f"elsewhere, at {SHARE_OF_PEAK:.0%} of the peak (measured on one H100 only), "
        f"{in_words(needs[0])} a run, {in_words(needs[1])} on a TPU:"
    )
    parts = operations.study_flops(config)
    for name, one in ACCELERATORS.items():
        speed = SHARE_OF_PEAK * one.peak * one.chips
        times = ", ".join(f"{stage} {minutes(flops / speed)}" for stage, flops in parts.items())
        place = Place("vmap", one.chips, False, one.memory, tpu=one.tpu)
        yield f"  {name} ({one.chips} x {in_words(one.memory)}): {times}; {_waves(config, there, place)}"


def _waves(config: Config, plan: Plan, place: Place) -> str:
    """Return in words in how many waves the grid would be trained at a place.

    Wave and microbatch are chosen as training at that place would choose them.
    """
    runs = config.grid.num_runs
    chosen = fit.choose(config, plan, runs, config.engine.wave, lambda _: place)
    if chosen is None:
        return "does not fit"
    wave, batch = chosen.wave or runs, config.optim.batch_size
    waves = f"{counted(runs, 'run')} in " + (
        "one wave" if wave >= runs else f"{-(-runs // wave)} waves of at most {wave}"
    )
    return f"{waves}, gradients of {chosen.microbatch} of {batch} images at once" if chosen.microbatch else waves


@functools.cache
def _compiled(config: Config, plan: Plan) -> Footprint:
    """Return the footprint as the compiler tells it, and say that it takes time."""
    programs = "the program of one run" if plan.runs == "loop" else f"programs ({plan.runs}) of one and of two runs"
    _progress(f"compiling {programs} for the memory they need; at paper scale this takes minutes on a CPU")
    return memory.analyse(config, plan)


def _progress(text: str) -> None:
    """Print a line of progress on standard error."""
    print(f"plan: {text}", file=sys.stderr, flush=True)
