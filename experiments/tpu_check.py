"""Compile the programs of a study for a TPU where there is none, and tell their memory and operations.

    python -m experiments.tpu_check --config=signal:quick --runs=1,8,32 --out=runs/tpu.md
    python -m experiments.tpu_check --config=signal:paper --programs=training --runs=0
    python -m experiments.tpu_check --config=images:quick --config.data.path=MY_PICTURES --runs=1

Needs the extra `tpu`, whose compiler (libtpu) works on any Linux machine. All runs are in one program on one chip; 0
runs are one chip's share of the planned wave, with its microbatch: what `--mode=plan` says of a v5e-8 or v5p-8. A
program takes seconds (smoke), minutes (quick) or up to a quarter of an hour (paper) to compile on two cores. Memory
predicted is that of `--mode=plan`, for training alone; compiled are arguments, temporaries and what of the results has
no place among the arguments. Operations are those of one step of training or of the sampler, because the compiler
counts the body of a loop once.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from etils import epath

import cspace_jax as cs
from cspace_jax.cli import scripts
from cspace_jax.config import Config, fingerprint
from cspace_jax.cost.preview import ACCELERATORS
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic
from cspace_jax.text import one_line

PROGRAMS = ("training", "sampling", "reading", "battery")
_PLANNED = {kind: ACCELERATORS[f"TPU {kind}-8"] for kind in ("v5e", "v5p")}
# By the first part of a topology's name: GB of one chip (makers' data sheets), and chips that share a planned wave.
CHIP_GB = {"v4": 32, "v6e": 32} | {kind: round(one.memory / 1e9) for kind, one in _PLANNED.items()}
CHIPS = {"v4": 4, "v6e": 8} | {kind: one.chips for kind, one in _PLANNED.items()}
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
HEADER = (
    "program", "runs", "predicted, MB", "compiled, MB", "arguments", "temporaries", "predicted / compiled",
    "GFLOP compiled", "closed form", "fits", "compiled in, s",
)  # fmt: skip


class Program(NamedTuple):
    """A program of a study that can be compiled.

    Attributes:
      name: one of `PROGRAMS`.
      runs: that it advances.
      function: of the runs' arguments, jitted.
      arguments: shapes and types of its arguments.
      predicted: bytes that are predicted, 0 where nothing is.
      operations: of one step in closed form, 0 where there is none.
      cut: how many images of a batch its gradients are computed of at once, in words; "" = all.
    """

    name: str
    runs: int
    function: Any
    arguments: tuple[Any, ...]
    predicted: float = 0.0
    operations: float = 0.0
    cut: str = ""


class Compiled(NamedTuple):
    """The compiler's numbers of a program: bytes, operations and seconds; and whether it fits in a chip's memory."""

    program: Program
    arguments: float
    temporaries: float
    results: float
    operations: float
    seconds: float
    fits: bool

    @property
    def total(self) -> float:
        """Return the bytes of arguments, temporaries and results that take no argument's place."""
        return self.arguments + self.temporaries + self.results


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    from cspace_jax.pipeline import image_source

    parser = scripts.Parser(prog="python -m experiments.tpu_check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="signal:smoke", help="study and scale")
    parser.add_argument("--topology", default="v5e:2x2", help="kind and arrangement of chips; one is compiled for")
    parser.add_argument(
        "--runs",
        type=scripts.comma_separated(int),
        default=(1, 8, 32),
        help="runs of a chip; 0 = its share of the planned wave",
    )
    parser.add_argument("--programs", type=scripts.comma_separated(str), default=PROGRAMS, help="which programs")
    parser.add_argument("--cache_dir", default="", help="folder that keeps what the compiler said of a program")
    parser.add_argument("--out", default="", help="file that the table is also written to")
    flags = parser.parse_with_overrides(arguments)
    _check(flags.topology, flags.runs, flags.programs)
    config = cs.load_config(flags.config, **flags.overrides)
    image_source.open_and_check(config)
    place, memory = _chip(flags.topology)
    names = [name for name in flags.programs if name != "battery" or config.elicit.protocols]
    counts = ", ".join(str(runs or "planned") for runs in flags.runs)
    _say(f"{config.study}:{config.scale} for {flags.topology}: {', '.join(names)}, each for {counts} run(s)")
    _say("a program takes seconds at smoke scale, minutes at quick and a quarter of an hour at paper scale to compile")
    if len(names) < len(flags.programs):
        _say("the study asks no battery of protocols")
    found = []
    for number in flags.runs:
        asked, runs = (config, number) if number else planned(config, flags.topology)
        for name in names:
            what = program(asked, name, runs)
            _say(f"compiling {name}{what.cut} of {runs} run(s)")
            found.append(compile_for(place, memory, what, flags.cache_dir))
            _say(f"  {found[-1].seconds:.0f} s, {found[-1].total / 1e6:,.0f} MB")
    text = table(found)
    print(text)
    if flags.out:
        write_atomic(epath.Path(flags.out), f"{text}\n".encode())


def _check(topology: str, runs: Sequence[int], programs: Sequence[str]) -> None:
    if not runs or min(runs) < 0:
        raise UserError(f"runs = {runs}: must be numbers of at least 1, or 0 for the planned wave")
    for name in programs:
        if name not in PROGRAMS:
            raise UserError(f"programs = {name!r}: must be among {', '.join(PROGRAMS)}")
    if topology.partition(":")[0] not in CHIP_GB:
        raise UserError(f"topology = {topology!r}: must begin with {', '.join(sorted(CHIP_GB))}, such as v5e:2x2")


def _chip(topology: str) -> tuple[Any, float]:
    """Return where a program for one chip of a topology lies, and the bytes of that chip.

    Raises:
      UserError: libtpu is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu, the compiler for TPUs, is not installed: pip install -e '.[tpu]'")
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except Exception as error:  # of the plugin, of many kinds
        raise UserError(f"topology = {topology!r}: libtpu cannot compile for it: {one_line(error, 200)}") from error
    return SingleDeviceSharding(described.devices[0]), CHIP_GB[topology.partition(":")[0]] * 1e9


def planned(config: Config, topology: str) -> tuple[Config, int]:
    """Return a study with its planned microbatch, and how many runs of its planned wave one of `CHIPS` chips trains.

    Raises:
      UserError: not even one run of the study is predicted to fit.
    """
    from cspace_jax.config.plan import Plan
    from cspace_jax.cost import fit
    from cspace_jax.cost.memory import Place

    kind, total = topology.partition(":")[0], config.grid.num_runs
    place = Place("vmap", CHIPS[kind], False, CHIP_GB[kind] * 1e9, tpu=True)
    chosen = fit.choose(config, Plan.resolve(config, "tpu"), total, config.engine.wave, lambda _: place)
    if chosen is None:
        raise UserError(f"runs = 0: no wave of {config.study}:{config.scale} is predicted to fit {CHIPS[kind]} {kind}")
    engine = dataclasses.replace(config.engine, microbatch=chosen.microbatch)
    return dataclasses.replace(config, engine=engine), -(-min(chosen.wave or total, total) // CHIPS[kind])


def program(config: Config, name: str, runs: int) -> Program:
    """Return a program of a study for `runs` runs in one batched program, as a TPU would be given it."""
    import jax
    import jax.numpy as jnp

    from cspace_jax.config import grid
    from cspace_jax.config.plan import Plan
    from cspace_jax.cost import memory, operations
    from cspace_jax.engine.engine import training_program
    from cspace_jax.training.run import TrainSpec, init_run, make_data

    plan = Plan.resolve(config, "tpu")
    spec = TrainSpec.from_config(config, plan)
    one = jax.eval_shape(lambda: grid.example_setting(config.grid))
    setting = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs,), leaf.dtype), one)
    state = _shapes(functools.partial(init_run, spec), setting)
    if name == "training":
        data, number = _shapes(functools.partial(make_data, spec), setting), jax.ShapeDtypeStruct((), jnp.int32)
        footprint = memory.outline(config, plan, tpu=True)
        predicted = runs * (footprint.resident + footprint.working) + footprint.fixed
        arguments = (state, setting, data, spec.source.pool_shapes, number, number)
        flops = runs * operations.step_flops(config)
        batch = config.optim.batch_size
        cut = f", {spec.microbatch_size} of {batch}" if spec.microbatches > 1 else ""
        return Program(name, runs, training_program(spec, plan), arguments, predicted, flops, cut)
    return _evaluating(config, spec, name, setting, state.evaluated)


def _evaluating(config: Config, train: Any, name: str, setting: Any, params: Any) -> Program:
    """Return a program of evaluation: naive sampling, the probe's reading of it, or the sampling of the battery."""
    import jax

    from cspace_jax.cost import operations
    from cspace_jax.engine.engine import over_runs
    from cspace_jax.evaluation import probe, prompts, reading, sampling
    from cspace_jax.evaluation.spec import EvalSpec
    from cspace_jax.pipeline.evaluate import most_at_once

    (runs,) = jax.tree.leaves(setting)[0].shape
    of_probe = probe.ProbeSpec.from_config(config)
    at_once = max(1, most_at_once(config.data.image_size) // runs)
    spec = dataclasses.replace(EvalSpec.from_config(config, train, of_probe), at_once=at_once)
    images = operations.evaluation_flops(config) / config.evaluate.sampling_steps
    if name == "battery":
        per_call = config.elicit.images_per_call or at_once
        spec = EvalSpec.of_battery(config, train, of_probe, per_call)
        queries = _shapes(functools.partial(prompts.battery, spec), setting)
        total = jax.tree.leaves(queries)[0].shape[1]
        images = operations.battery_flops(config) / config.evaluate.sampling_steps * spec.shape[0] / total
        cut = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((runs, spec.shape[0], *leaf.shape[2:]), leaf.dtype), queries
        )
        asked = _shapes(functools.partial(prompts.prepare, spec), params, params, setting, cut)
    else:
        asked = _shapes(functools.partial(prompts.naive_prompts, spec), setting)
    if name != "reading":
        function = jax.jit(over_runs(functools.partial(sampling.draw, spec), "vmap", 2))
        return Program(name, runs, function, (params, asked), operations=runs * images)
    drawn = _shapes(functools.partial(sampling.draw, spec), params, asked)
    weights = jax.eval_shape(functools.partial(probe.init_params, of_probe), jax.random.key(0))
    function = jax.jit(over_runs(functools.partial(reading.read, spec), "vmap", 2, 1))
    return Program(name, runs, function, (params, drawn, weights))


def _shapes(function: Callable, *arguments: Any) -> Any:
    """Return shapes and types of what a function of one run gives for stacked runs."""
    import jax

    return jax.eval_shape(jax.vmap(function), *arguments)


def compile_for(place: Any, memory: float, what: Program, cache_dir: str = "") -> Compiled:
    """Compile a program for a place of `memory` bytes and return what the compiler says of it.

    With `cache_dir` what it said is kept there, by the program's text. JAX's own cache of compiled programs is written
    without a TPU but cannot be read (jax 0.10.2).
    """
    import jax

    there = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), what.arguments)
    lowered = what.function.lower(*there)
    (device,) = place.device_set
    words = (lowered.as_text(), device.device_kind, jax.__version__, _version("libtpu"))
    kept = pathlib.Path(cache_dir) / f"{fingerprint(repr(words), 16)}.json"
    if cache_dir and kept.exists():
        said = json.loads(kept.read_text())
    else:
        said = _compile(lowered)
        if cache_dir:
            write_atomic(epath.Path(kept), json.dumps(said))
    needed = said["arguments"] + said["temporaries"] + said["results"]
    return Compiled(what, **said, fits=0 < needed <= memory)


def _compile(lowered: Any) -> dict[str, float]:
    """Return bytes, operations and seconds of the compilation; all but the seconds 0 where the memory is too small."""
    import jax

    started = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        nothing = dict.fromkeys(("arguments", "temporaries", "results", "operations"), 0.0)
        return {**nothing, "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    found, counted = compiled.memory_analysis(), compiled.cost_analysis() or {}
    return {
        "arguments": found.argument_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "results": max(found.output_size_in_bytes - found.alias_size_in_bytes, 0),
        "operations": counted.get("flops", 0.0),
        "seconds": seconds,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def table(found: Sequence[Compiled]) -> str:
    """Return what was compiled as a table in Markdown; "-" where nothing is predicted or known."""
    rows = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for one in found:
        what = one.program
        sizes = (what.predicted, one.total, one.arguments, one.temporaries)
        share = f"{what.predicted / one.total:.2f}" if what.predicted and one.total else "-"
        flops = (f"{value / 1e9:,.3g}" if value else "-" for value in (one.operations, what.operations))
        mb = (f"{value / 1e6:,.1f}" if value else "-" for value in sizes)
        cells = (
            f"{what.name}{what.cut}",
            str(what.runs),
            *mb,
            share,
            *flops,
            "yes" if one.fits else "no",
            f"{one.seconds:.0f}",
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _say(text: str) -> None:
    print(f"tpu_check: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    os.environ.pop("XLA_FLAGS", None)  # libtpu ends the process at a flag that it does not know
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "0")  # what is written for a TPU cannot be read here
    scripts.start(run)
