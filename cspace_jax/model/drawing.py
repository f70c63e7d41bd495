"""Drawing of a network's parameters: all those of one size at once.

Flax derives a key for every parameter (`fold_in` of a hash of its path) and draws every parameter by itself. For a
network with 96 drawn arrays that makes a program with 164 loops of the random generator, which is slow to compile
(docs/performance.md). Here Flax only notes what it would fold in and draw; all keys are then made at once, and the
parameters of one size are drawn at once. The numbers are the same to the bit, by JAX's default generator (threefry).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

PyTree = Any


@struct.dataclass
class Draw:
    """A parameter that is still to be drawn, U(+-bound).

    Attributes:
      number: uint32 scalar that is folded into the network's key.
      bound: half of the width of the distribution.
      shape: of the parameter.
    """

    number: jax.Array
    bound: float = struct.field(pytree_node=False)
    shape: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def size(self) -> int:
        """Number of its entries."""
        return math.prod(self.shape)


def _refuse(*_: Any) -> Any:
    raise TypeError("a noted key draws nothing: parameters come from zeros, ones or `uniform`")


# Keys that only note the number that Flax folds into them.
_NOTED = jax.extend.random.define_prng_impl(
    key_shape=(1,),
    seed=_refuse,
    split=_refuse,
    random_bits=_refuse,
    fold_in=lambda key, number: jnp.reshape(number, (1,)).astype(jnp.uint32),
    name="noted",
    tag="noted",
)


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default initialiser of convolutions and linear layers: U(+-1/sqrt(fan_in)) for weight and bias."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Any:
        if jax.random.key_impl(key) == _NOTED:
            return Draw(jax.random.key_data(key)[0], bound, shape)
        return _uniform(key, math.prod(shape), bound).reshape(shape)

    return init


def _uniform(key: jax.Array, size: int, bound: Any) -> jax.Array:
    # Drawn flat like `rng.normal`: a network's start compiles three times faster.
    return jax.random.uniform(key, (size,), jnp.float32, -bound, bound)


def parameter(module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]) -> Any:
    """Return a module's parameter, an array, made by `init` where there is none.

    Flax's own `param` traces `init` whenever the network is traced, to compare shapes: a third of the time of a trace.

    Raises:
      ValueError: the parameter that is there has another shape.
    """
    if not module.has_variable("params", name):
        value = module.param(name, init, shape)
        return jnp.zeros(shape) if isinstance(value, Draw) else value
    value = module.get_variable("params", name)
    if value.shape != shape:
        raise ValueError(f"{'/'.join(module.path)}/{name} has the shape {value.shape}, must be {shape}")
    return value


def init_params(init: Callable[[jax.Array], PyTree], key: jax.Array) -> PyTree:
    """Return `init(key)`, the parameters of a Flax module whose layers make them by `parameter`.

    Args:
      init: of a key, its parameters.
      key: typed PRNG key.
    """
    noted = init(jax.random.wrap_key_data(jnp.zeros(1, jnp.uint32), impl=_NOTED))
    leaves, treedef = jax.tree.flatten(noted, is_leaf=lambda leaf: isinstance(leaf, Draw))
    places = sorted((i for i, leaf in enumerate(leaves) if isinstance(leaf, Draw)), key=lambda i: leaves[i].size)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.stack([leaves[place].number for place in places]))
    done = 0
    for size, group in itertools.groupby(places, key=lambda place: leaves[place].size):
        here = list(group)
        bounds = np.array([leaves[place].bound for place in here], np.float32)
        values = jax.vmap(_uniform, (0, None, 0))(keys[done : done + len(here)], size, bounds)
        for place, value in zip(here, values, strict=True):
            leaves[place] = value.reshape(leaves[place].shape)
        done += len(here)
    return jax.tree.unflatten(treedef, leaves)
