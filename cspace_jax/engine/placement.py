"""The devices that a plan uses, and the context in which its programs are traced."""

import contextlib
from typing import Any

import jax
from jax.sharding import Sharding, SingleDeviceSharding

from cspace_jax.config.plan import Plan
from cspace_jax.errors import UserError


def precision(plan: Plan) -> contextlib.AbstractContextManager:
    """Return the context of a plan's precision, in which its programs are traced and called."""
    if plan.precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(plan.precision)


def local_devices(plan: Plan) -> list[Any]:
    """Return the local devices that a plan uses, in JAX's order.

    Raises:
      UserError: it asks for more than there are.
    """
    local = jax.local_devices()
    if plan.devices > len(local):
        raise UserError(f"engine.devices = {plan.devices}: must be at most {len(local)}, the local devices; 0 = all")
    return local[: plan.devices or None]


class Shared:
    """Keep arrays that all runs share, one copy on each device.

    A copy is sent when it is first asked for.

    Args:
      tree: arrays on the host.
    """

    def __init__(self, tree: Any):
        self.tree = tree
        self._copies: dict[Any, Any] = {}  # by device

    def at(self, place: Sharding) -> Any:
        """Return the arrays at a place.

        For a place of several devices they are made of the copies on each.
        """
        copies = [self._on(device) for device in place.addressable_devices_indices_map(())]  # in their order
        if isinstance(place, SingleDeviceSharding):
            return copies[0]

        def joined(*leaves: jax.Array) -> jax.Array:
            return jax.make_array_from_single_device_arrays(leaves[0].shape, place, list(leaves))

        return jax.tree.map(joined, *copies)

    def _on(self, device: Any) -> Any:
        """Return the copy on a device, sent there if it is missing."""
        if device not in self._copies:
            self._copies[device] = jax.device_put(self.tree, SingleDeviceSharding(device))
        return self._copies[device]


_latest = Shared(())


def shared_pool(pool: Any) -> Shared:
    """Return the copies of a source's pool, and let go of those of the pool before.

    All engines of a process take the same copies: a pool is on each device once, whatever the runs and waves.
    """
    global _latest
    if _latest.tree is not pool:
        _latest = Shared(pool)
    return _latest


def at_once(runs: int, wave: int, processes: int = 1) -> int:
    """Return how many runs the largest wave has where `processes` processes share `runs` runs.

    `wave` is the most runs of a wave, 0 = no limit.
    """
    share = -(-runs // processes)
    return min(wave or share, share)
