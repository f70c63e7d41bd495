"""Host arrays put on devices as arrays that nothing else refers to."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def to_device(abstract_state: PyTree, arrays: dict[str, np.ndarray], shardings: tuple[Any, ...]) -> PyTree:
    """Put host arrays on devices as copies that nothing else refers to.

    The arrays come in the order of the tree's leaves. `shardings` holds a sharding for each leaf, or None for the
    default device. The result has the tree's form, with typed keys in place of their data.
    """
    leaves, treedef = jax.tree.flatten(abstract_state)
    own = _owner(tuple(_key_impl(leaf) for leaf in leaves), shardings)
    return jax.tree.unflatten(treedef, own(list(arrays.values())))


@functools.cache
def _owner(impls: tuple[Any, ...], shardings: tuple[Any, ...]) -> Callable[[list[np.ndarray]], list[jax.Array]]:
    """Return the program that copies host arrays to devices and makes typed keys of their data.

    A host array handed to a device may be shared with it, and its donation would then overwrite memory in use; outputs
    of a computation are owned by JAX. An identity would be forwarded, hence the explicit copy.
    """

    def own(values: list[jax.Array]) -> list[jax.Array]:
        copies = map(jnp.copy, values)
        return [v if i is None else jax.random.wrap_key_data(v, impl=i) for v, i in zip(copies, impls, strict=True)]

    return jax.jit(own, out_shardings=list(shardings))


def _key_impl(leaf: Any) -> Any:
    """Return the generator of a typed key, None for any other leaf. An abstract leaf has it only while traced."""
    impl: list[Any] = [None]
    if is_key(leaf):
        jax.eval_shape(lambda key: impl.append(jax.random.key_impl(key)), jax.ShapeDtypeStruct((), leaf.dtype))
    return impl[-1]


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a typed random key."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
