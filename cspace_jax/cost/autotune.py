"""With `engine.plan = "auto"` measurements choose how a grid executes.

The fastest of all candidates is taken. What was measured is kept in a file of this machine's user, by device, network,
data and number of runs, so that a study that is started again, or repeated with other seeds, measures nothing.
"""

import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from cspace_jax import machine, startup
from cspace_jax.config import Config, EngineConfig, fingerprint, grid
from cspace_jax.config.plan import Plan
from cspace_jax.cost import fit
from cspace_jax.engine.engine import Engine
from cspace_jax.engine.placement import at_once
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic
from cspace_jax.training import microbatch
from cspace_jax.training.run import TrainSpec
from cspace_jax.tree import take

SECONDS, TURNS = 1.0, 3  # every candidate is timed for, after its compilation, and how often
CHOSEN = ("convolution", "runs", "devices", "steps_per_call")  # fields of EngineConfig that a measurement decides
_MOST_UNROLLED = 4  # runs; a program with a copy for each of more takes minutes to compile


@dataclasses.dataclass(frozen=True)
class Timing:
    """The measurement of one candidate.

    Attributes:
      chosen: its values of the fields convolution, runs, devices and steps_per_call of `EngineConfig`.
      compile_seconds: until the first call was done.
      rate: run-steps per second after that, median over turns; 0 if it could not be measured.
      note: why it could not.
    """

    chosen: dict[str, Any]
    compile_seconds: float = 0.0
    rate: float = 0.0
    note: str = ""


def resolve(config: Config, may_measure: bool) -> Plan:
    """Return the plan of a study, the known one or with `engine.plan = "auto"` the fastest.

    What was measured before on such a device is used again. Without it, and without `may_measure`, the plan is the one
    known to be good for the kind of backend.

    Raises:
      UserError: `engine.plan = "auto"` among many processes, or no candidate can be carried out.
    """
    return Plan.resolve(_decided(config, may_measure), jax.default_backend())


def _decided(config: Config, may_measure: bool) -> Config:
    """Return the configuration with the fields that a measurement decides set, if they are to be measured."""
    if config.engine.plan != "auto":
        return config
    if jax.process_count() > 1:
        raise UserError(
            "engine.plan = 'auto': must be 'known' among many processes; measure in one, then set engine.runs, "
            "engine.convolution and engine.devices"
        )
    known = _remembered(config)
    if known is not None or not may_measure:
        return config if known is None else with_plan(config, known.chosen)
    timings = measure(candidates(config), grid.stack(grid.grid_settings(config.grid)[: _at_once(config)]))
    chosen = best(timings)
    _remember(config, chosen)
    print(table(timings), flush=True)
    return with_plan(config, chosen.chosen)


def candidates(config: Config) -> list[Config]:
    """Return the study with every plan that is worth a measurement.

    Fields that the user has set stay as they are. On a CPU, runs are called one by one, on all devices or on one with
    all threads; elsewhere they are stacked.
    """
    given, runs = config.engine, _at_once(config)
    if jax.default_backend() == "cpu":
        layouts, convolutions = ("loop",), ("winograd", "canonical")
        local = jax.local_device_count()
        spec = TrainSpec.from_config(config, Plan.resolve(config, "cpu"))
        useful = runs * microbatch.choose_shards(spec.microbatches, local // runs)
        devices = tuple(dict.fromkeys((min(local, useful), 1)))
    else:
        layouts = ("vmap", "map", *(("unroll",) if 1 < runs <= _MOST_UNROLLED else ()))
        convolutions, devices = ("xla", "matmul"), (0,)
    choices = {
        "runs": layouts if given.runs == "auto" else (given.runs,),
        "convolution": convolutions if given.convolution == "auto" else (given.convolution,),
        "devices": (given.devices,) if given.devices else devices,
    }
    products = itertools.product(*choices.values())
    return [with_plan(config, dict(zip(choices, values, strict=True))) for values in products]


def with_plan(config: Config, chosen: dict[str, Any]) -> Config:
    """Return the study with fields of `EngineConfig` set and no further measurement asked for."""
    return dataclasses.replace(config, engine=dataclasses.replace(config.engine, plan="known", **chosen))


def measure(configs: Sequence[Config], settings: Any, seconds: float = SECONDS) -> list[Timing]:
    """Compile every plan and time them in turns, so that a slow moment of the machine hits all of them.

    Args:
      configs: the same study, each with its plan.
      settings: of the runs that are trained, stacked.
      seconds: how long a plan is timed in each of the turns, or one call if that takes longer.

    Returns:
      A timing for each of `configs`, in their order. A plan that cannot be carried out has a note.
    """
    started = [_start_or_explain(config, settings) for config in configs]
    rates: list[list[float]] = [[] for _ in started]
    for _ in range(TURNS):
        for i, (timing, runner) in enumerate(started):
            if runner is not None:
                try:
                    rates[i].append(speed(runner, seconds))
                except jax.errors.JaxRuntimeError as error:
                    started[i] = dataclasses.replace(timing, note=_first_line(error)), None
    return [
        timing if timing.note else dataclasses.replace(timing, rate=statistics.median(measured))
        for (timing, _), measured in zip(started, rates, strict=True)
    ]


def start(config: Config, plan: Plan, settings: Any) -> tuple[Timing, Engine]:
    """Compile the plan of a study for runs with these stacked settings, and train them for one call.

    Returns the timing of that call, without a rate, and the engine.

    Raises:
      jax.errors.JaxRuntimeError: the device cannot carry it out.
      NotImplementedError: the backend cannot lower it.
    """
    started = time.perf_counter()
    runner = Engine(TrainSpec.from_config(config, plan), settings, plan)
    _train(runner, runner.init(), 0)
    return Timing(_fields(config.engine, plan), time.perf_counter() - started), runner


def speed(runner: Engine, seconds: float) -> float:
    """Measure the run-steps per second of a started engine for at least `seconds`.

    Its state is made anew and not kept.

    Raises:
      jax.errors.JaxRuntimeError: the device cannot carry it out.
    """
    state = jax.block_until_ready(runner.init())
    started = time.perf_counter()
    calls, took = 0, 0.0
    while not calls or took < seconds:
        state, _ = _train(runner, state, calls)
        calls += 1
        took = time.perf_counter() - started
    return calls * runner.plan.steps_per_call * runner.runs / took


def _train(runner: Engine, state: Any, call: int) -> Any:
    """Train one call of steps and wait for it."""
    steps = runner.plan.steps_per_call
    return jax.block_until_ready(runner.train(state, call * steps, steps))


def _start_or_explain(config: Config, settings: Any) -> tuple[Timing, Engine | None]:
    """Return the first timing and the engine of a plan, or a note and None."""
    plan = Plan.resolve(config, jax.default_backend())
    fields = _fields(config.engine, plan)
    print(f"measuring {' '.join(f'{k}={v}' for k, v in fields.items())}", file=sys.stderr, flush=True)
    try:
        fitting = fit.require(config, plan, _at_once(config), config.engine.wave)
    except UserError as error:  # does not fit
        return Timing(fields, note=str(error)), None
    some = take(settings, slice(fitting.wave or None))
    try:
        return start(config, fitting, some)
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:  # out of memory, or not lowered on this backend
        return Timing(fields, note=_first_line(error)), None


def _first_line(error: Exception) -> str:
    """Return the first line of an error, at most 80 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:80]


def _fields(given: EngineConfig, plan: Plan) -> dict[str, Any]:
    """Return the fields of a plan that a measurement decides."""
    return {name: getattr(plan, name) for name in CHOSEN} | {"devices": given.devices}


def best(timings: list[Timing]) -> Timing:
    """Return the timing with the highest rate.

    Raises:
      UserError: none could be measured.
    """
    fastest = max(timings, key=lambda timing: timing.rate)
    if fastest.rate <= 0:
        raise UserError(f"engine.plan = 'auto': no plan can be carried out here ({fastest.note}); try engine.wave = 1")
    return fastest


def table(timings: list[Timing]) -> str:
    """Return the timings as text, one line each, with a mark at the chosen plan.

    Raises:
      UserError: none could be measured.
    """
    devices = jax.local_devices()
    lines = [f"engine.plan = 'auto': training on {len(devices)} x {devices[0].device_kind}, run-steps per second"]
    chosen = best(timings)
    for timing in sorted(timings, key=lambda timing: -timing.rate):
        fields = ", ".join(f"{name} {value}" for name, value in timing.chosen.items())
        result = timing.note or f"{timing.rate:,.1f} (first call {timing.compile_seconds:.0f} s)"
        lines.append(f"  {fields}: {result}{'  <- chosen' if timing is chosen else ''}")
    return "\n".join(lines)


def _at_once(config: Config) -> int:
    """Return how many runs go at once."""
    return at_once(config.grid.num_runs, config.engine.wave)


def cache_file() -> epath.Path:
    """Return the file that keeps the measurements of this user's machine."""
    return epath.Path(startup.cache_folder()) / "plans.json"


def key(config: Config) -> str:
    """Return the fingerprint of everything that a measurement holds for.

    That is device, processor, JAX, network, data, optimiser and batch, runs at once, candidates, and the user's steps
    per call, precision, memory and microbatch.
    """
    devices = jax.local_devices()
    spec = TrainSpec.from_config(config)
    optim = dataclasses.replace(config.optim, steps=1, log_every=1)
    data = dataclasses.replace(config.data, images_per_class=1, test_images_per_class=1)
    # The seconds that a number of runs takes do not hang on which runs they are. What was measured among fewer plans
    # does not hold: an older version's fastest on a CPU is the slowest there now.
    plans = [[getattr(one.engine, name) for name in CHOSEN] for one in candidates(config)]
    given = config.engine
    limits = given.steps_per_call, given.precision, given.memory_gb, given.microbatch
    decisive = (
        plans,
        limits,
        devices[0].device_kind,
        machine.processor(),
        len(devices),
        jax.__version__,
        spec.vdm,
        data,
        optim,
        _at_once(config),
    )
    return fingerprint(repr(decisive))


def _remembered(config: Config) -> Timing | None:
    """Return the timing that an earlier measurement chose, None if there is none."""
    found = _read_cache().get(key(config))
    try:
        return Timing(**found) if isinstance(found, dict) else None
    except TypeError:  # written by another version
        return None


def _remember(config: Config, chosen: Timing) -> None:
    """Keep a measurement, or say that it cannot be kept."""
    kept = _read_cache() | {key(config): dataclasses.asdict(chosen)}
    try:
        write_atomic(cache_file(), json.dumps(kept, indent=1))
    except UserError as error:
        print(f"what was measured is not kept: {error}", file=sys.stderr)


def _read_cache() -> dict[str, Any]:
    """Return the kept measurements. A missing or damaged file gives {}."""
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):  # none yet, or damaged: it is measured again
        return {}
    return found if isinstance(found, dict) else {}
