"""Execution of a grid of runs: the only place where runs are stacked.

Everything to the left of this module is a pure function of one run. A `Plan` says how those functions execute over the
runs; it changes speed and rounding, and results only by its precision, which the user alone sets. Runs are held in
parcels: a parcel is a stack of runs that one call of one compiled program advances in one place: on a device, or on
several that share a run, where there are more devices than runs. A GPU or TPU has one parcel with all its runs; a CPU
has one parcel per run, because there the program of one run, called for each, is the fastest (BUILD_NOTES.md).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from cspace_jax.config import Config
from cspace_jax.config.setting import Setting
from cspace_jax.engine.plan import Plan, choose_shards, local_devices, precision, train_spec
from cspace_jax.engine.schedule import waves
from cspace_jax.training import microbatch
from cspace_jax.training.run import RunState, StepMetrics, TrainSpec, init_run, make_data, train_chunk

PyTree = Any
Parcels = list[PyTree]  # one stacked tree per parcel, each in its parcel's place


class Engine:
    """Compiled execution of one wave of runs.

    Args:
      config: the study.
      settings: stacked over the wave's runs [r].
      plan: how runs execute.
      devices: where parcels go, in turn; None takes those of the plan.
    """

    def __init__(self, config: Config, settings: Setting, plan: Plan, devices: Sequence[Any] | None = None):
        self.plan = plan
        self.runs = jnp.shape(settings.seed)[0]
        devices = list(devices or local_devices(plan))
        shards = choose_shards(config, plan, self.runs, len(devices))
        self.spec: TrainSpec = train_spec(config, plan, shards)
        self.places = _places(devices, shards)
        self._first = devices[0]
        self._slices = self._cut()
        self.settings: Parcels = self.scatter(settings)
        self._data: Parcels | None = None

    def _cut(self) -> list[slice]:
        if self.plan.runs == "loop":
            return waves(self.runs, 1)
        return waves(self.runs, -(-self.runs // len(self.places)))

    def init(self) -> Parcels:
        """Return the states of all runs before the first step."""
        return self.call(init_run, self.spec, self.settings)

    def abstract_state(self) -> RunState:
        """Return shapes and types of the state stacked over all runs, without computing it."""
        setting = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.settings[0])
        one = jax.eval_shape(functools.partial(init_run, self.spec), setting)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((self.runs, *leaf.shape), leaf.dtype), one)

    def train(self, state: Parcels, step: int, count: int) -> tuple[Parcels, list[StepMetrics]]:
        """Train all runs for `count` steps after `step`; `state` is donated. Metrics are of the last step."""
        if self._data is None:
            self._data = self.call(make_data, self.spec, self.settings)
        both = (np.int32(step), np.int32(count))
        outputs = self.call(train_chunk, self.spec, state, self.settings, self._data, shared=both, donate=True)
        return [state for state, _ in outputs], [metrics for _, metrics in outputs]

    def call(
        self, function: Callable, static: Any, *arguments: Parcels, shared: tuple = (), donate: bool = False
    ) -> Parcels:
        """Call `function(static, *one run's arguments, *shared)` for every run.

        Returns before the last results are ready. A place with several parcels is given one when the one before is
        done: programs that wait in line would each hold their working memory already.

        Args:
          function: pure function of one run; the same function compiles once.
          static: hashable first argument.
          *arguments: stacked trees by parcel.
          shared: further arguments that all runs share.
          donate: whether the buffers of the first argument may be reused for the result.

        Returns:
          Results by parcel, stacked over its runs.
        """
        results: Parcels = []
        for i, parcel in enumerate(zip(*arguments, strict=True)):
            if i >= len(self.places):
                jax.block_until_ready(results[i - len(self.places)])
            mesh = _mesh(self._place(i))
            program = _program(function, static, _layout(self.plan), len(arguments), len(shared), donate, mesh)
            with precision(self.plan):
                results.append(program(*parcel, *shared))
        return results

    def scatter(self, tree: PyTree) -> Parcels:
        """Cut a tree stacked over all runs into parcels, each in its place."""

        def put(runs: slice, i: int) -> PyTree:
            return jax.device_put(jax.tree.map(lambda leaf: leaf[runs], tree), self._place(i))

        return [put(runs, i) for i, runs in enumerate(self._slices)]

    def gather(self, parcels: Parcels) -> PyTree:
        """Stack parcels into one tree over all runs, on the first device; a single one there stays as it is."""
        local = [jax.device_put(parcel, self._first) for parcel in parcels]
        if len(local) == 1:
            return local[0]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *local)

    def _place(self, parcel: int) -> Sharding:
        return self.places[parcel % len(self.places)]

    def fetch(self, parcels: Parcels) -> PyTree:
        """Wait for parcels and stack them into one tree of NumPy arrays over all runs."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(parcels))


def training_program(spec: TrainSpec, plan: Plan) -> Any:
    """Return the program of `Engine.train`: of states, settings, data and the int32 scalars step and count."""
    place = _places(local_devices(plan), spec.shards)[0]
    return _program(train_chunk, spec, _layout(plan), 3, 2, True, _mesh(place))


def _places(devices: Sequence[Any], shards: int) -> list[Sharding]:
    """Return the places of parcels: each device, or each group of `shards` that hold the same."""
    if shards == 1:
        return [SingleDeviceSharding(device) for device in devices]
    groups = [devices[i : i + shards] for i in range(0, len(devices) - shards + 1, shards)]
    return [NamedSharding(Mesh(np.array(group), (microbatch.AXIS,)), PartitionSpec()) for group in groups]


def _mesh(place: Sharding) -> Mesh | None:
    return place.mesh if isinstance(place, NamedSharding) else None  # type: ignore[return-value]


def _layout(plan: Plan) -> str:
    return "unroll" if plan.runs == "loop" else plan.runs


@functools.cache
def _program(
    function: Callable, static: Any, layout: str, stacked: int, shared: int, donate: bool, mesh: Mesh | None
) -> Callable:
    lifted = over_runs(functools.partial(function, static), layout, stacked, shared)
    if mesh is not None:
        # All devices are given and return the same; only `parts.over_parts` makes a difference between them.
        same = PartitionSpec()
        lifted = jax.shard_map(lifted, mesh=mesh, in_specs=same, out_specs=same, check_vma=False)
    return jax.jit(lifted, donate_argnums=(0,) if donate else ())


def over_runs(function: Callable, layout: str, stacked: int, shared: int = 0) -> Callable:
    """Lift a function of one run to arguments stacked over runs.

    Args:
      function: pure function of one run.
      layout: "vmap", "map" or "unroll".
      stacked: number of leading arguments with a run axis.
      shared: number of further arguments that all runs share.

    Returns:
      A function whose outputs have a leading run axis.
    """
    if layout == "vmap":
        return jax.vmap(function, in_axes=(0,) * stacked + (None,) * shared)

    def lifted(*arguments: Any) -> Any:
        rows, common = arguments[:stacked], arguments[stacked:]
        if layout == "map":
            return jax.lax.map(lambda row: function(*row, *common), rows)
        runs = len(jax.tree.leaves(rows)[0])
        results = [function(*jax.tree.map(lambda leaf, r=r: leaf[r], rows), *common) for r in range(runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return lifted
