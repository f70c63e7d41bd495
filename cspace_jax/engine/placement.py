"""Where a plan puts runs: the devices it uses, the context its programs are traced in, the size of a wave."""

import contextlib
from typing import Any

import jax
from jax.sharding import Sharding

from cspace_jax.config.plan import Plan
from cspace_jax.errors import UserError


def precision(plan: Plan) -> contextlib.AbstractContextManager:
    """Return the context in which a plan's programs are traced and called."""
    if plan.precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(plan.precision)


def local_devices(plan: Plan) -> list[Any]:
    """Return the local devices that a plan uses.

    Raises:
      UserError: it asks for more than there are.
    """
    local = jax.local_devices()
    if plan.devices > len(local):
        raise UserError(f"engine.devices = {plan.devices}: must be at most {len(local)}, the local devices; 0 = all")
    return local[: plan.devices or None]


class Shared:
    """Arrays that all runs share: one copy at each place, sent there when it is first asked for.

    Args:
      tree: arrays on the host.
    """

    def __init__(self, tree: Any):
        self.tree = tree
        self._copies: dict[Sharding, Any] = {}

    def at(self, place: Sharding) -> Any:
        """Return the copy of a place."""
        if place not in self._copies:
            self._copies[place] = jax.device_put(self.tree, place)
        return self._copies[place]


_latest = Shared(())


def shared_pool(pool: Any) -> Shared:
    """Return the copies of a source's pool; those of the pool before it are let go.

    All engines of a process take the same copies: a pool is on each device once, whatever the runs and waves.
    """
    global _latest
    if _latest.tree is not pool:
        _latest = Shared(pool)
    return _latest


def at_once(runs: int, wave: int, processes: int = 1) -> int:
    """Return the number of runs of the largest wave of one of `processes` processes that share `runs` runs."""
    share = -(-runs // processes)
    return min(wave or share, share)
