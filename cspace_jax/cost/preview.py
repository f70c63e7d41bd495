"""What a study will take, said before it is started (`--mode=plan`): grid, operations, time and memory."""

import dataclasses
import functools
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax

from cspace_jax.config import Config, grid
from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory, operations
from cspace_jax.cost.memory import GB, Footprint, Place
from cspace_jax.cost.time import describe_plan, estimate_seconds
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.model.unet import count_params
from cspace_jax.text import in_words, minutes

# JAX takes three quarters of a GPU's memory unless it is told otherwise.
ELSEWHERE = {
    "one H100 with 80 GB (JAX takes 75 % of it)": Place("vmap", 1, False, 0.75 * 80 * GB),
    "one TPU v5e-8 (8 x 16 GB)": Place("vmap", 8, False, 16 * GB),
}


def show(config: Config, plan: Plan) -> None:
    """Print the forecast line by line and its progress on standard error; trains and writes nothing."""
    started = time.monotonic()
    for part in (_computation, _memory_here, _memory_elsewhere):
        for line in part(config, plan):
            print(line, flush=True)
    print(f"(this forecast took {minutes(time.monotonic() - started)})")


def _computation(config: Config, plan: Plan) -> Iterator[str]:
    runs, steps = config.grid.num_runs, config.optim.steps
    yield f"study {config.study}, scale {config.scale}: {runs} runs x {steps:,} steps"
    values = {axis: getattr(config.grid, axis) for axis in grid.AXES}
    yield "grid: " + " x ".join(f"{axis} {_short(v)}" for axis, v in values.items() if len(v) > 1 or axis == "seeds")
    yield f"parameters: {operations.parameters(config):,} a run, probe {_probe_parameters(config):,}"
    flops = operations.step_flops(config)
    yield f"operations: {flops / 1e9:.3g} GFLOP a run and step, {flops * runs * steps / 1e15:.3g} PFLOP of training"
    devices = jax.local_devices()
    yield f"execution: {describe_plan(config, plan)}, on {len(devices)} x {devices[0].device_kind}"
    _progress("measuring the device's speed")
    yield f"time on this device: about {minutes(estimate_seconds(config, plan))} for the whole study"


def _short(values: tuple[Any, ...]) -> str:
    return str(values) if len(values) <= 6 else f"({values[0]}, {values[1]}, ... {values[-1]}: {len(values)} values)"


def _probe_parameters(config: Config) -> int:
    spec = probe_network.ProbeSpec.from_config(config)
    return count_params(jax.eval_shape(lambda key: probe_network.init_params(spec, key, 1.0), jax.random.key(0)))


def _memory_here(config: Config, plan: Plan) -> Iterator[str]:
    place = memory.here(config, plan)
    footprint = _analyse(config, plan)
    yield (
        f"memory of a run in training: {in_words(footprint.resident)} stay ({in_words(footprint.state)} of them its "
        f"state), {in_words(footprint.working + footprint.fixed)} more while its program runs"
    )
    owner = "the machine" if place.shared else "each device"
    runs = config.grid.num_runs
    for wave in _doubling(runs):
        peak = memory.peak_bytes(footprint, place, wave)
        note = "" if peak <= place.available else " (does not fit)"
        yield f"  {wave:>6,} run{'s' * (wave > 1)} at once: peak {in_words(peak)}{note}"
    yield f"largest wave that fits {in_words(place.available)} of {owner}: {_fitting(footprint, place, runs)}"


def _doubling(runs: int) -> list[int]:
    """Return 1, 2, 4, ... and `runs` itself."""
    return sorted({*(2**i for i in range(runs.bit_length())), runs})


def _fitting(footprint: Footprint, place: Place, runs: int) -> str:
    most = memory.largest_wave(footprint, place)
    return f"all {runs} runs (up to {most:,})" if most >= runs else f"{most:,} of {runs} runs"


def _memory_elsewhere(config: Config, plan: Plan) -> Iterator[str]:
    stacked = dataclasses.replace(config.engine, runs="vmap", convolution="auto", steps_per_call=0)
    elsewhere = Plan.resolve(dataclasses.replace(config, engine=stacked), "gpu")
    footprint = _analyse(config, elsewhere)
    yield (
        f"with all runs in one program (vmap), as this {jax.default_backend()} backend would compile it (other "
        f"backends differ): {in_words(footprint.resident + footprint.working)} a run"
    )
    for name, place in ELSEWHERE.items():
        yield f"  {name} would hold {_fitting(footprint, place, config.grid.num_runs)}"


@functools.cache
def _analyse(config: Config, plan: Plan) -> Footprint:
    programs = "the program of one run" if plan.runs == "loop" else f"programs ({plan.runs}) of one and of two runs"
    _progress(f"compiling {programs} for the memory they need; at paper scale this takes minutes on a CPU")
    return memory.analyse(config, plan)


def _progress(text: str) -> None:
    print(f"plan: {text}", file=sys.stderr, flush=True)
