"""The engine executes a grid of runs. It is the only place where runs are stacked.

What is executed are pure functions of one run. A *run group* is the stack of runs that one compiled call advances.
GPU or TPU: one group per device. CPU: one run per group, because there the program of one run, called for each, is the
fastest (docs/performance.md). More devices than runs: several devices share one run (data parallel over microbatches).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from cspace_jax.config.plan import Plan
from cspace_jax.engine.placement import Shared, local_devices, precision, shared_pool
from cspace_jax.engine.schedule import waves
from cspace_jax.training import microbatch
from cspace_jax.tree import take

PyTree = Any
RunGroups = list[PyTree]  # one stacked tree per run group, each on its group's devices


@runtime_checkable
class Trainable(Protocol):
    """The members that the engine needs of a run's static description, a hashable dataclass such as `TrainSpec`.

    `init`, `make_data` and `chunk` are pure functions of one run's arrays; `pool` are arrays on the host that all runs
    share; `shards` is how many devices share a run, each with some of its `microbatches`.
    """

    @property
    def shards(self) -> int: ...

    @property
    def microbatches(self) -> int: ...

    @property
    def pool(self) -> Any: ...

    def init(self, setting: Any, /) -> Any: ...

    def make_data(self, setting: Any, /) -> Any: ...

    def chunk(self, state: Any, setting: Any, data: Any, pool: Any, step: Any, count: Any, /) -> tuple[Any, Any]: ...


class Engine:
    """Execute one wave of runs with compiled programs.

    Args:
      spec: the static description of a run.
      settings: stacked over the wave's runs, every leaf [r, ...].
      plan: how runs execute.
      devices: where run groups go, in turn; None takes those of the plan.

    Raises:
      UserError: the plan asks for more devices than there are.
    """

    def __init__(self, spec: Trainable, settings: PyTree, plan: Plan, devices: Sequence[Any] | None = None):
        self.plan = plan
        self.runs = len(jax.tree.leaves(settings)[0])
        devices = list(devices or local_devices(plan))
        shards = microbatch.choose_shards(spec.microbatches, len(devices) // self.runs)
        self.spec: Any = dataclasses.replace(spec, shards=shards)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.places = _places(devices, shards)
        self._slices = self._cut()
        self.settings: RunGroups = self.scatter(settings)
        self._data: RunGroups | None = None

    def _cut(self) -> list[slice]:
        """Return the runs of each group, as slices of the wave."""
        if self.plan.runs == "loop":
            return waves(self.runs, 1)
        return waves(self.runs, -(-self.runs // len(self.places)))

    def init(self) -> RunGroups:
        """Return the states of all runs before the first step, by group."""
        return self.call(type(self.spec).init, self.spec, self.settings)

    def abstract_state(self) -> PyTree:
        """Return shapes and types of the state stacked over all runs, without computing it."""
        setting = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.settings[0])
        one = abstract_run(self.spec, setting)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((self.runs, *leaf.shape), leaf.dtype), one)

    def train(self, state: RunGroups, step: int, count: int) -> tuple[RunGroups, list[Any]]:
        """Train all runs for `count` steps after `step`, and return their states and metrics by group.

        `state` is donated. The metrics are those of the last step.
        """
        if self._data is None:
            self._data = self.call(type(self.spec).make_data, self.spec, self.settings)
        shared = (self.pool, np.int32(step), np.int32(count))
        arguments = (state, self.settings, self._data)
        outputs = self.call(type(self.spec).chunk, self.spec, *arguments, shared=shared, donate=True)
        return [state for state, _ in outputs], [metrics for _, metrics in outputs]

    def call(
        self, function: Callable, static: Any, *arguments: RunGroups, shared: tuple = (), donate: bool = False
    ) -> RunGroups:
        """Call `function(static, *one run's arguments, *shared)` for every run.

        Returns before the last results are ready. A place with several groups is given one when the one before is
        done: programs that wait in line would each hold their working memory already.

        Args:
          function: pure function of one run; the same function compiles once.
          static: hashable first argument.
          *arguments: stacked trees by group.
          shared: further arguments that all runs share; of a `Shared` one each place gets its own copy.
          donate: whether the buffers of the first argument may be reused for the result.

        Returns:
          Results by group, stacked over its runs.
        """
        results: RunGroups = []
        for i, group in enumerate(zip(*arguments, strict=True)):
            if i >= len(self.places):
                jax.block_until_ready(results[i - len(self.places)])
            mesh = _mesh(self._place(i))
            program = _program(function, static, _layout(self.plan), len(arguments), len(shared), donate, mesh)
            with precision(self.plan):
                results.append(program(*group, *(_at(one, self._place(i)) for one in shared)))
        return results

    @property
    def pool(self) -> Shared:
        """The images that all runs share, as an argument of `call`: one copy per place."""
        return shared_pool(self.spec.pool)

    @property
    def groups(self) -> list[tuple[slice, Sharding]]:
        """The runs of each group and the devices that hold it, in the order of the groups."""
        return [(runs, self._place(i)) for i, runs in enumerate(self._slices)]

    def scatter(self, tree: PyTree) -> RunGroups:
        """Cut a tree stacked over all runs into groups, each in its place."""

        def put(runs: slice, place: Sharding) -> PyTree:
            return jax.device_put(take(tree, runs), place)

        return [put(runs, place) for runs, place in self.groups]

    def _place(self, group: int) -> Sharding:
        """Return the place of a group."""
        return self.places[group % len(self.places)]

    def fetch(self, groups: RunGroups) -> PyTree:
        """Wait for groups, and stack them into one tree of NumPy arrays over all runs.

        Random keys become their data. Every device sends its own runs to the host: no device ever holds those of
        another.
        """
        parts = jax.device_get(jax.tree.map(_numbers, groups))
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _at(argument: Any, place: Sharding) -> Any:
    """Return a place's copy of a `Shared` argument, and any other argument as it is."""
    return argument.at(place) if isinstance(argument, Shared) else argument


def _numbers(leaf: jax.Array) -> jax.Array:
    """Return a leaf as numbers. A typed random key gives its data."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@functools.cache
def abstract_run(spec: Trainable, setting: Any) -> Any:
    """Return shapes and types of one run's state.

    `setting` holds shapes and types too, and is hashable.
    """
    return jax.eval_shape(spec.init, setting)


def training_program(spec: Trainable, plan: Plan) -> Any:
    """Return the program of `Engine.train`.

    Its arguments are states, settings, data, pool and the int32 scalars step and count.
    """
    place = _places(local_devices(plan), spec.shards)[0]
    return _program(type(spec).chunk, spec, _layout(plan), 3, 3, True, _mesh(place))


def _places(devices: Sequence[Any], shards: int) -> list[Sharding]:
    """Return the places of groups: each device, or each `shards` devices that hold the same."""
    if shards == 1:
        return [SingleDeviceSharding(device) for device in devices]
    groups = [devices[i : i + shards] for i in range(0, len(devices) - shards + 1, shards)]
    return [NamedSharding(Mesh(np.array(group), (microbatch.AXIS,)), PartitionSpec()) for group in groups]


def _mesh(place: Sharding) -> Mesh | None:
    """Return the mesh of a place of several devices, None of one device."""
    return place.mesh if isinstance(place, NamedSharding) else None  # type: ignore[return-value]


def _layout(plan: Plan) -> str:
    """Return the layout of a plan for `over_runs`."""
    return "unroll" if plan.runs == "loop" else plan.runs


@functools.cache
def _program(
    function: Callable, static: Any, layout: str, stacked: int, shared: int, donate: bool, mesh: Mesh | None
) -> Callable:
    """Return the jitted program of a function of one run, lifted to stacked runs."""
    lifted = over_runs(functools.partial(function, static), layout, stacked, shared)
    if mesh is not None:
        # All devices are given and return the same; only `map_microbatches` makes a difference between them.
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
        results = [function(*take(rows, r), *common) for r in range(runs)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return lifted
