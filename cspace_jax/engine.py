"""Execution of a grid of runs: the only place where runs are stacked.

Everything to the left of this module is a pure function of one run. A `Plan` says how those functions execute over the
leading run axis; it changes speed and rounding, never results.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cspace_jax import dgp, train
from cspace_jax.config import Config, EngineConfig
from cspace_jax.setting import Setting
from cspace_jax.train import RunState, StepMetrics, TrainSpec


@dataclasses.dataclass(frozen=True)
class Plan:
    """How runs execute.

    Attributes:
      convolution: "xla" or "matmul" (conv.py).
      runs: "vmap" (one batched program), "map" (a compiled loop) or "unroll" (one copy of the program per run).
      steps_per_call: training steps per compiled call; the host only sees the last one's metrics.
    """

    convolution: str
    runs: str
    steps_per_call: int


def choose_plan(engine: EngineConfig, backend: str) -> Plan:
    """Fill the fields left to us ("auto" or 0) with what was measured best on a backend (BUILD_NOTES.md).

    On a CPU convolutions are matmuls (XLA's grouped convolutions and convolutions in loops are slow there) and one
    call is one step, because a loop saves nothing. Elsewhere 50 steps a call hide the cost of launching.
    """
    cpu = backend == "cpu"
    return Plan(
        convolution=("matmul" if cpu else "xla") if engine.convolution == "auto" else engine.convolution,
        runs="vmap" if engine.runs == "auto" else engine.runs,
        steps_per_call=engine.steps_per_call or (1 if cpu else 50),
    )


def over_runs(function: Callable, layout: str, in_axes: tuple[int | None, ...]) -> Callable:
    """Lift a function of one run to stacked arguments.

    Args:
      function: pure function of one run.
      layout: "vmap", "map" or "unroll".
      in_axes: per positional argument, 0 for stacked over runs or None for shared.

    Returns:
      A function whose outputs have a leading run axis.
    """
    if layout == "vmap":
        return jax.vmap(function, in_axes=in_axes)

    def call(arguments: tuple, stacked: tuple) -> Any:
        rows = iter(stacked)
        return function(*(next(rows) if axis == 0 else a for a, axis in zip(arguments, in_axes, strict=True)))

    def lifted(*arguments: Any) -> Any:
        stacked = tuple(a for a, axis in zip(arguments, in_axes, strict=True) if axis == 0)
        if layout == "map":
            return jax.lax.map(functools.partial(call, arguments), stacked)
        runs = len(jax.tree.leaves(stacked)[0])
        results = [call(arguments, jax.tree.map(lambda a, r=r: a[r], stacked)) for r in range(runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return lifted


def waves(runs: int, size: int) -> list[slice]:
    """Cut `runs` runs into consecutive waves of at most `size` runs (0 = one wave)."""
    size = size or runs
    return [slice(start, min(start + size, runs)) for start in range(0, runs, size)]


def take_runs(setting: Setting, runs: slice) -> Setting:
    """Return the stacked settings of some runs."""
    return jax.tree.map(lambda leaf: leaf[runs], setting)


class Engine:
    """Compiled training of one wave of runs.

    Args:
      config: the study.
      settings: stacked over the wave's runs [r].
      plan: how runs execute.
    """

    def __init__(self, config: Config, settings: Setting, plan: Plan):
        self.plan = plan
        self.settings = settings
        self.spec: TrainSpec = train.make_spec(config, plan.convolution)
        self.data: dgp.Dataset = _prepare(train.make_data, self.spec, settings)

    def init(self) -> RunState:
        """Return the stacked state before the first step."""
        return _prepare(train.init_run, self.spec, self.settings)

    def abstract_state(self) -> RunState:
        """Return shapes and types of the stacked state, without computing it."""
        return jax.eval_shape(lambda settings: _stacked(train.init_run, self.spec)(settings), self.settings)

    def train(self, state: RunState, step: int, count: int) -> tuple[RunState, StepMetrics]:
        """Train all runs for `count` steps after `step`; `state` is donated. Metrics [r] are of the last step."""
        return _train(self.spec, self.plan.runs, count, state, self.settings, self.data, jnp.int32(step))


def chunks(start: int, stop: int, stops: list[int], most: int) -> list[tuple[int, int]]:
    """Cut steps start .. stop into calls (first step, count) of at most `most` that end at every one of `stops`."""
    edges = sorted({s for s in stops if start < s < stop} | {start, stop})
    calls = []
    for low, high in zip(edges, edges[1:], strict=False):
        calls += [(s, min(most, high - s)) for s in range(low, high, most)]
    return calls


def _stacked(function: Callable, spec: TrainSpec) -> Callable:
    return jax.vmap(functools.partial(function, spec))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _prepare(function: Callable, spec: TrainSpec, settings: Setting) -> Any:
    return _stacked(function, spec)(settings)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _train(
    spec: TrainSpec,
    layout: str,
    count: int,
    state: RunState,
    settings: Setting,
    data: dgp.Dataset,
    step: jax.Array,
) -> tuple[RunState, StepMetrics]:
    def one(state: RunState, setting: Setting, data: dgp.Dataset, step: jax.Array) -> tuple[RunState, StepMetrics]:
        return train.train_chunk(spec, state, setting, data, step, count)

    return over_runs(one, layout, (0, 0, 0, None))(state, settings, data, step)
