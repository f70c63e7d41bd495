"""The U-Net of the reference implementation: noise predictor of the diffusion model and backbone of the probe.

Hidden behind `init_params` and `apply`: the rest of the project sees plain nested dicts of arrays, which stack over
runs.
Sources: reference implementation (networks and blocks); paper appendix A.2.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from cspace_jax.config.schema import shares_embedding
from cspace_jax.errors import UserError
from cspace_jax.model import drawing
from cspace_jax.model.layers import MLP, Conv, GroupNorm, Projection, drop_out, gelu

TIME_FREQUENCIES = 32  # sine and cosine each
TIME_FEATURES = 256
TIME_SCALE = 1000.0
COMMON_FEATURES = 64


@dataclasses.dataclass(frozen=True)
class UNetSpec:
    """Static description of one U-Net; hashable, so it can be a static argument.

    Attributes:
      channels: channels of each resolution level, finest first.
      blocks: residual blocks per level and direction.
      groups: groups of every GroupNorm.
      heads: attention heads at the coarsest level.
      attention: whether the middle has self-attention.
      dropout: element-wise dropout rate inside residual blocks, [0, 1).
      conditioning: "<sep|common>_<mlp|linear|zerolinear>", or "none" for a network without time and conditioning.
      in_channels: channels of the image.
      out_channels: channels of the output; if it differs from `in_channels` the input joins through a 3x3 convolution.
      convolution: how convolutions are computed, one of `convolution.METHODS`; changes rounding only.
      entries: length d of a conditioning vector; 11 for the paper's six concepts.
    """

    channels: tuple[int, ...]
    blocks: int
    groups: int
    heads: int
    attention: bool = True
    dropout: float = 0.0
    conditioning: str = "sep_mlp"
    in_channels: int = 3
    out_channels: int = 3
    convolution: str = "matmul"
    entries: int = 11


def time_features(t: Float[Array, " b"]) -> Float[Array, "b 64"]:
    """Return sinusoidal features [b, 64] of the normalised time [b].

    The time is in 0 to 1, and may leave that range when the schedule is learned. Frequencies run from 1 to 1e-4 with
    both ends included (reference implementation).
    """
    exponents = jnp.arange(TIME_FREQUENCIES, dtype=jnp.float32) / (TIME_FREQUENCIES - 1)
    angles = (t * TIME_SCALE)[:, None] * jnp.power(10.0, -4.0 * exponents)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ResidualBlock(nn.Module):
    """Residual block: norm, GELU, conv, add time and vector projections, norm, GELU, dropout, conv, add the skip."""

    features: int
    spec: UNetSpec

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        embeddings: dict[str, jax.Array],
        projected: jax.Array | None,
        dropout_keys: jax.Array | None,
    ) -> jax.Array:
        spec, features = self.spec, self.features
        h = gelu(GroupNorm(spec.groups, name="norm_0")(x))
        h, bias = Conv(features, "3x3", spec.convolution, name="conv_0").parts(h)
        kind = spec.conditioning.split("_")[-1]
        added = [Projection(features, kind, name=f"project_{name}")(e) for name, e in embeddings.items()]
        added += [] if projected is None else [projected]
        offset = sum(added, jnp.broadcast_to(bias, (x.shape[0], features)))
        h = gelu(GroupNorm(spec.groups, name="norm_1")(h, offset))
        if dropout_keys is not None:
            number = list(block_features(spec)).index(str(self.name))
            h = drop_out(jax.vmap(lambda key: jax.random.fold_in(key, number))(dropout_keys), h, spec.dropout)
        h = Conv(features, "3x3", spec.convolution, zero_init=True, name="conv_1")(h)
        if x.shape[-1] != features:
            x = Conv(features, "1x1", spec.convolution, name="skip")(x)
        return x + h


class Attention(nn.Module):
    """Multi-head self-attention over pixels, added to its input; channel index = d * heads + head."""

    spec: UNetSpec

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        heads = self.spec.heads
        normed = GroupNorm(self.spec.groups, name="norm")(x)

        def split(name: str) -> jax.Array:
            return Conv(c, "1x1", self.spec.convolution, name=name)(normed).reshape(b, h * w, c // heads, heads)

        query, key, value = split("q"), split("k"), split("v")
        logits = jnp.einsum("bqdn,bkdn->bnqk", query, key) * (c // heads) ** -0.5
        mixed = jnp.einsum("bnqk,bkdn->bqdn", jax.nn.softmax(logits, axis=-1), value)
        return x + Conv(c, "1x1", self.spec.convolution, name="out")(mixed.reshape(b, h, w, c))


class UNet(nn.Module):
    """U-Net with one skip per down-sampling, taken after the last block of a level."""

    spec: UNetSpec

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        t: jax.Array | None,
        c: jax.Array | Mapping[str, jax.Array] | None,
        dropout_keys: jax.Array | None,
    ) -> jax.Array:
        spec = self.spec
        projected: Mapping[str, jax.Array] = c if isinstance(c, Mapping) else {}
        embeddings: dict[str, jax.Array] = {}
        if t is not None and c is not None:
            embeddings["time"] = MLP(TIME_FEATURES, name="embed_time")(time_features(t))
        if c is not None and not isinstance(c, Mapping):
            shared = shares_embedding(spec.conditioning)
            embeddings["vector"] = MLP(COMMON_FEATURES, name="embed_vector")(c) if shared else c

        def block(x: jax.Array, features: int, name: str) -> jax.Array:
            return ResidualBlock(features, spec, name=name)(x, embeddings, projected.get(name), dropout_keys)

        def convolve(x: jax.Array, features: int, kind: str, name: str, zero_init: bool = False) -> jax.Array:
            return Conv(features, kind, spec.convolution, zero_init, name=name)(x)

        x = convolve(z, spec.channels[0], "3x3", "conv_in")
        x, skips = _descend(spec, x, block, convolve)
        x = block(x, spec.channels[-1], "mid_block_0")
        if spec.attention:
            x = Attention(spec, name="mid_attention")(x)
        x = block(x, spec.channels[-1], "mid_block_1")
        x = _ascend(spec, x, skips, block, convolve)
        x = gelu(GroupNorm(spec.groups, name="norm_out")(x))
        x = convolve(x, spec.out_channels, "3x3", "conv_out", zero_init=True)
        if spec.out_channels == spec.in_channels:
            return x + z
        return x + convolve(z, spec.out_channels, "3x3", "conv_residual", zero_init=True)


def _descend(spec: UNetSpec, x: jax.Array, block: Callable, convolve: Callable) -> tuple[jax.Array, list[jax.Array]]:
    skips = []
    for level, features in enumerate(spec.channels):
        for i in range(spec.blocks):
            x = block(x, features, f"down_{level}_block_{i}")
        if level < len(spec.channels) - 1:
            skips.append(x)
            x = convolve(x, features, "down", f"down_{level}_conv")
    return x, skips


def _ascend(spec: UNetSpec, x: jax.Array, skips: list[jax.Array], block: Callable, convolve: Callable) -> jax.Array:
    for level in reversed(range(len(spec.channels))):
        for i in range(spec.blocks):
            x = block(x, spec.channels[level], f"up_{level}_block_{i}")
        if level > 0:
            x = convolve(x, spec.channels[level - 1], "up", f"up_{level}_conv")
            x = jnp.concatenate([x, skips[level - 1]], axis=-1)
    return x


def init_params(spec: UNetSpec, key: jax.Array, init_scale: jax.typing.ArrayLike = 1.0) -> dict:
    """Draw the parameters of one network, PyTorch's way, and multiply every one by `init_scale` (reference).

    Args:
      spec: the network.
      key: typed PRNG key.
      init_scale: scalar, may be traced; norm weights and biases are scaled too.

    Returns:
      Nested dict of float32 arrays.
    """
    size = 2 ** (len(spec.channels) - 1)
    z = jnp.zeros((1, size, size, spec.in_channels))
    conditioned = spec.conditioning != "none"
    t, c = (jnp.zeros(1), jnp.zeros((1, spec.entries))) if conditioned else (None, None)
    params = drawing.init_params(lambda key: UNet(spec).init({"params": key}, z, t, c, None)["params"], key)
    return jax.tree.map(lambda p: p * jnp.asarray(init_scale, p.dtype), params)


def apply(
    spec: UNetSpec,
    params: dict,
    z: Float[Array, "b h w ci"],
    t: Float[Array, " b"] | None = None,
    c: Float[Array, "b d"] | Mapping[str, jax.Array] | None = None,
    dropout_keys: Key[Array, " b"] | None = None,
) -> Float[Array, "b h w co"]:
    """Evaluate the network.

    Args:
      spec: static description of the network.
      params: as made by `init_params` for it.
      z: noisy images (or images, for the probe).
      t: normalised time (gamma - gamma_min) / (gamma_max - gamma_min); None for an unconditioned network.
      c: conditioning vectors, or what every block makes of them (`project_conditioning`, perhaps edited); None for an
        unconditioned network.
      dropout_keys: switch dropout on, one a sample; None for evaluation and sampling.

    Returns:
      Predicted noise, or features if `out_channels` differs from `in_channels`.
    """
    output: Any = UNet(spec).apply({"params": params}, z, t, c, dropout_keys if spec.dropout > 0 else None)
    return output


def block_features(spec: UNetSpec) -> dict[str, int]:
    """Return the width of every residual block by its name, in the order of the forward pass."""
    levels = [(level, i, width) for level, width in enumerate(spec.channels) for i in range(spec.blocks)]
    down = {f"down_{level}_block_{i}": width for level, i, width in levels}
    middle = {"mid_block_0": spec.channels[-1], "mid_block_1": spec.channels[-1]}
    up = {f"up_{level}_block_{i}": width for level, i, width in sorted(levels, key=lambda one: (-one[0], one[1]))}
    return down | middle | up


def embed_conditioning(spec: UNetSpec, params: dict, c: Float[Array, "b d"]) -> Float[Array, "b e"]:
    """Return the input of every block's projection.

    It is the shared embedding [b, 64], or `c` [b, d] itself where none is shared.

    Raises:
      UserError: the parameters hold no shared embedding but the network has one.
    """
    if not shares_embedding(spec.conditioning):
        return c
    embedded: Any = MLP(COMMON_FEATURES).apply({"params": _held(spec, params, "embed_vector")}, c)
    return embedded


def project_embedding(spec: UNetSpec, params: dict, embedding: Float[Array, "b e"]) -> dict[str, jax.Array]:
    """Return the summand of every residual block: block name -> [b, width of the block].

    `embedding` is the result of `embed_conditioning`.

    Raises:
      ValueError: the network has no conditioning.
      UserError: the parameters are of another kind of conditioning.
    """
    if spec.conditioning == "none":
        raise ValueError("the network has no conditioning to project")
    kind = spec.conditioning.split("_")[-1]
    layer = "mlp" if kind == "mlp" else "linear"
    projected: dict[str, Any] = {}
    for name, features in block_features(spec).items():
        held = {layer: _held(spec, params, name, "project_vector", layer)}
        projected[name] = Projection(features, kind).apply({"params": held}, embedding)
    return projected


def _held(spec: UNetSpec, params: dict, *path: str) -> dict:
    for name in path:
        if name not in params:
            kind, place = f"network.conditioning = {spec.conditioning!r}", "/".join(path)
            raise UserError(f"{kind}: the parameters hold no {place}, they are of another kind of conditioning")
        params = params[name]
    return params


def project_conditioning(spec: UNetSpec, params: dict, c: Float[Array, "b d"]) -> dict[str, jax.Array]:
    """Return the summand of every residual block for conditioning vectors: block name -> [b, width of the block].

    It depends on neither image nor time, so a sampler computes it once; and it is where latent interventions act and
    where one network's conditioning can be patched into another (reference implementation).

    Raises:
      ValueError, UserError: as `embed_conditioning` and `project_embedding`.
    """
    return project_embedding(spec, params, embed_conditioning(spec, params, c))


def count_params(params: dict) -> int:
    """Count the scalars in a parameter tree."""
    return sum(int(p.size) for p in jax.tree.leaves(params))
