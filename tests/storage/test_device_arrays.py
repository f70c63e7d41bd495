"""Arrays on devices that share nothing with those on the host."""

import jax
import jax.numpy as jnp
import numpy as np
from checkpoints import abstract, assert_same_bits

from cspace_jax.storage import device_arrays, leaves


def aligned(array):
    """A copy that begins where a CPU's arrays do, so that JAX would take it as it is."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_leaves_come_to_the_device_as_copies_and_keys_as_keys():
    keys = jax.random.split(jax.random.key(3), 2)
    state = {"key": keys, "w": jnp.arange(8.0).reshape(2, 4), "legacy": jnp.zeros((2, 2), jnp.uint32)}
    arrays = {name: aligned(array) for name, array in leaves.on_host(state).items()}
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = device_arrays.to_device(abstract(state), arrays, (place,) * 3)
    for array in arrays.values():
        array[...] = 0  # neither is an array of the host changed by a donation
    assert_same_bits(found, state)
    assert {name: device_arrays.is_key(leaf) for name, leaf in found.items()} == {
        "key": True, "w": False, "legacy": False
    }  # fmt: skip
