"""Layers of the U-Nets with PyTorch's initialisation: convolution, linear, group normalisation, GELU, dropout."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from cspace_jax.model.convolution import conv_1x1, conv_2x2_down, conv_2x2_up, conv_3x3
from cspace_jax.model.drawing import parameter, uniform

NORM_EPS = 1e-6


def gelu(x: jax.Array) -> jax.Array:
    """Return the GELU of every entry, with the exact error function."""
    # By erf, as PyTorch computes it: jax.nn.gelu takes erfc, which costs twice as much on a CPU.
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def drop_out(keys: Key[Array, " b"], x: Float[Array, "b *s"], rate: float) -> Float[Array, "b *s"]:
    """Set each entry to zero with probability `rate` in [0, 1), and divide the others by 1 - rate.

    The probability is `rate` rounded to a multiple of 1/65536. Every sample has a key of its own, so that its draw is
    the same in whatever part of a batch it is computed.
    """
    size = math.prod(x.shape[1:])

    def draw(key: jax.Array) -> jax.Array:
        # Drawn flat, which compiles faster, and two entries from each random word, which halves the time.
        words = jax.random.bits(key, (-(-size // 2),), jnp.uint32)
        return jnp.concatenate([words & 0xFFFF, words >> 16])[:size]

    kept = jax.vmap(draw)(keys).reshape(x.shape) >= round(rate * 0x10000)
    return jnp.where(kept, x / (1.0 - rate), 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def group_norm(
    x: Float[Array, "b *s c"],
    added: Float[Array, "b c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    groups: int,
    eps: float,
) -> Float[Array, "b *s c"]:
    """Normalise x + added over space and channel groups; `added` is the same at every pixel.

    `groups` divides c, and `eps` is added to the variance. Statistics are taken per channel first and then combined per
    group with the exact formula for pooled variance: no transposition of the large tensor, and no cancellation, because
    each pass subtracts its own mean. The gradient is written out: what is known per sample and channel is computed once
    and not again for every pixel, and the gradient of `added` needs no sum over pixels.
    """
    return _group_norm_forward(x, added, scale, bias, groups, eps)[0]


def _group_norm_forward(
    x: jax.Array, added: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    space = tuple(range(1, x.ndim - 1))
    mean_c = x.mean(space)
    var_c = jnp.mean(jnp.square(x - jnp.expand_dims(mean_c, space)), space)
    moved = mean_c + added
    shift = moved - _pooled(moved, groups)
    rstd = jax.lax.rsqrt(_pooled(var_c + shift * shift, groups) + eps)
    gain = rstd * scale
    offset = bias + shift * gain
    y = (x - jnp.expand_dims(mean_c, space)) * jnp.expand_dims(gain, space) + jnp.expand_dims(offset, space)
    return y, (x, mean_c, shift, rstd, scale)


def _group_norm_backward(
    groups: int, eps: float, residuals: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    x, mean_c, shift, rstd, scale = residuals
    space = tuple(range(1, x.ndim - 1))
    spread = x - jnp.expand_dims(mean_c, space)
    # Of one sample and channel, means over pixels.
    dbias = g.mean(space)
    dscale = rstd * (jnp.mean(g * spread, space) + shift * dbias)
    slope = -jnp.square(rstd) * _pooled(scale * dscale, groups)
    level = slope * shift - rstd * _pooled(scale * dbias, groups)
    gain = rstd * scale
    dx = g * jnp.expand_dims(gain, space) + spread * jnp.expand_dims(slope, space) + jnp.expand_dims(level, space)
    pixels = math.prod(x.shape[1:-1])
    return dx, pixels * (gain * dbias + level), pixels * dscale.sum(0), pixels * dbias.sum(0)


group_norm.defvjp(_group_norm_forward, _group_norm_backward)


def _pooled(x: jax.Array, groups: int) -> jax.Array:
    """Replace the channels of x [b, c] by the means over their groups."""
    b, c = x.shape
    mean = x.reshape(b, groups, c // groups).mean(-1, keepdims=True)
    return jnp.broadcast_to(mean, (b, groups, c // groups)).reshape(b, c)


class Conv(nn.Module):
    """Convolution with bias; `kind` is "3x3", "1x1", "down" or "up"."""

    features: int
    kind: str
    method: str
    zero_init: bool = False

    @nn.compact
    def parts(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the convolution before its bias, and the bias."""
        size = {"3x3": 3, "1x1": 1, "down": 2, "up": 2}[self.kind]
        shape = (size, size, x.shape[-1], self.features)
        # PyTorch computes the fan-in of a transposed convolution from its output channels.
        fan_in = size * size * (self.features if self.kind == "up" else x.shape[-1])
        init = nn.initializers.zeros if self.zero_init else uniform(fan_in)
        kernel = parameter(self, "kernel", init, shape)
        bias = parameter(self, "bias", init, (self.features,))
        if self.kind == "1x1":
            return conv_1x1(x, kernel), bias
        op = {"3x3": conv_3x3, "down": conv_2x2_down, "up": conv_2x2_up}[self.kind]
        return op(x, kernel, self.method), bias

    def __call__(self, x: jax.Array) -> jax.Array:
        y, bias = self.parts(x)
        return y + bias


class Linear(nn.Module):
    """Linear layer with PyTorch's initialisation."""

    features: int
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero_init else uniform(x.shape[-1])
        kernel = parameter(self, "kernel", init, (x.shape[-1], self.features))
        return x @ kernel + parameter(self, "bias", init, (self.features,))


class GroupNorm(nn.Module):
    """Affine group normalisation of x + added, [b, h, w, c] and [b, c]."""

    groups: int
    eps: float = NORM_EPS

    @nn.compact
    def __call__(self, x: jax.Array, added: jax.Array | None = None) -> jax.Array:
        scale = parameter(self, "scale", nn.initializers.ones, (x.shape[-1],))
        bias = parameter(self, "bias", nn.initializers.zeros, (x.shape[-1],))
        added = jnp.zeros((x.shape[0], x.shape[-1])) if added is None else added
        return group_norm(x, added, scale, bias, self.groups, self.eps)


class MLP(nn.Module):
    """Two linear layers of the same width, GELU after both."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return gelu(Linear(self.features, name="dense_1")(gelu(Linear(self.features, name="dense_0")(x))))


class Projection(nn.Module):
    """Map an embedding to a block's channels, in the way the second word of `conditioning` names."""

    features: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.kind == "mlp":
            return MLP(self.features, name="mlp")(x)
        return Linear(self.features, zero_init=self.kind == "zerolinear", name="linear")(x)
