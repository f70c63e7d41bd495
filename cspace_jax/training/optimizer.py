"""The optimiser of the reference implementation: global-norm clipping followed by AdamW.

Both act on ALL parameters, norm weights, biases and the two schedule scalars included (reference implementation).
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cspace_jax.config import OptimConfig

MEDIAN_ENTRIES = 2**13


def decay_factor(optim: OptimConfig) -> optax.Schedule:
    """Return the learning-rate factor as a function of the number of updates done.

    It is constant 1, or for "cosine" half a cosine from 1 to 0 at `optim.steps`.
    """
    if optim.decay == "cosine":
        return optax.cosine_decay_schedule(1.0, optim.steps)
    return optax.constant_schedule(1.0)


def make_optimizer(optim: OptimConfig, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    """Build clip + AdamW; `learning_rate` and `weight_decay` are scalars, traced where they vary over a grid."""
    factor = decay_factor(optim)
    return optax.chain(
        optax.stateless(lambda grads, _: clip_by_global_norm(grads, optim.clip)),
        optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_schedule(lambda count: -learning_rate * factor(count)),
    )


def global_norm(tree: Any) -> jax.Array:
    """Return the L2 norm over all entries of all arrays, a scalar."""
    return optax.tree.norm(tree)


def clip_by_global_norm(grads: Any, max_norm: float) -> Any:
    """Scale gradients down to a global norm of at most `max_norm`, and return them.

    The divisor is norm + 1e-6, as in PyTorch.

    optax's own clip divides by the norm alone; at a clip of 0.01 the difference is visible in the golden step.
    """
    scale = jnp.minimum(1.0, max_norm / (global_norm(grads) + 1e-6))
    return jax.tree.map(lambda g: g * scale, grads)


def median_entries(state: optax.OptState) -> jax.Array:
    """Return AdamW's means at the entries that `clipped_median` looks at, [at most 8,192].

    They are every k-th of all entries, k odd.

    Up to 8,192 parameters these are all of them. An odd k meets every channel of an even number of them.
    """
    leaves = jax.tree.leaves(optax.tree.get(state, "mu"))
    ends = list(itertools.accumulate(leaf.size for leaf in leaves))
    stride = -(-ends[-1] // MEDIAN_ENTRIES) | 1
    starts = [-(end - leaf.size) % stride for end, leaf in zip(ends, leaves, strict=True)]
    return jnp.concatenate([leaf.ravel()[start::stride] for start, leaf in zip(starts, leaves, strict=True)])


def clipped_median(optim: OptimConfig, before: jax.Array, after: jax.Array) -> jax.Array:
    """Return the median of the absolute values of the clipped gradient's entries at one step, a scalar.

    Compared with eps it tells how much of a step eps takes away. The gradient is taken from AdamW's means m, as
    (m' - b1 m) / (1 - b1), which rounds to about 1e-6 of it: asking for the gradient itself changes how XLA lays out
    the step, and so the rounding of all that is trained; and all of the means would take a second copy of them. The
    median of n of the entries is the quantile 1/2 +- 1/sqrt(4 n) of all: 0.6 % where some are left out. A NaN counts as
    larger than any number, so that more than half of the entries must be NaN before the median is.

    Args:
      optim: its b1.
      before: `median_entries` of the state before the step.
      after: those of the state after it.
    """
    low, high = _middle(jnp.abs(after - optim.b1 * before))
    return (0.5 * low + 0.5 * high) / (1.0 - optim.b1)


def _middle(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return both middle entries of non-negative float32 numbers [n]; the same one twice if n is odd.

    Without a sort, which takes much longer: the bits of such numbers, read as an integer, are ordered as the numbers
    are, and 31 counts find those of the lower entry from the first bit to the last.
    """
    bits, n = jax.lax.bitcast_convert_type(x, jnp.int32), math.prod(x.shape)

    def narrow(i: jax.Array, found: jax.Array) -> jax.Array:
        trial = found | (jnp.int32(1 << 30) >> i)
        return jnp.where((bits < trial).sum() < (n + 1) // 2, trial, found)

    low = jax.lax.fori_loop(0, 31, narrow, jnp.int32(0))
    above = jnp.min(jnp.where(bits > low, bits, jnp.iinfo(jnp.int32).max))
    high = low if n % 2 else jnp.where((bits <= low).sum() > n // 2, low, above)
    return tuple(jax.lax.bitcast_convert_type(one, jnp.float32) for one in (low, high))  # type: ignore[return-value]
