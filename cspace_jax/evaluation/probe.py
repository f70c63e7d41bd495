"""The probe's network: a small U-Net, pooled over the image, and a head with two logits for every concept.

Sources: reference implementation; paper section 3.1 and appendix A.2 (which differ from each other in the pooling; the
reference takes the maximum).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, Int

from cspace_jax import rng
from cspace_jax.config import Config
from cspace_jax.config.plan import PLAIN, Plan
from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from cspace_jax.model import drawing, torch_weights, unet
from cspace_jax.model.layers import GroupNorm, Linear, gelu

_HEAD_EPS = 1e-5  # PyTorch's default, unlike the 1e-6 inside the U-Net


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """Static description of the probe; hashable, so it can be a static argument.

    Attributes:
      unet: the backbone; its groups are also those of the head.
      num_concepts: concepts read, two logits each.
    """

    unet: unet.UNetSpec
    num_concepts: int

    @classmethod
    def from_config(cls, config: Config, plan: Plan = PLAIN) -> "ProbeSpec":
        """Collect the static parts of a configuration under a plan."""
        probe = config.probe
        backbone = unet.UNetSpec(
            channels=probe.channels,
            blocks=probe.blocks,
            groups=probe.groups,
            heads=probe.heads,
            dropout=probe.dropout,
            conditioning="none",
            out_channels=probe.out_channels,
            convolution=plan.convolution,
        )
        return cls(backbone, len(source_of(config.data).classes.active))


class _Head(nn.Module):
    """Map pooled features to logits: norm, linear, GELU, norm, linear."""

    groups: int
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = GroupNorm(self.groups, _HEAD_EPS, name="norm_0")(x)
        x = gelu(Linear(x.shape[-1], name="dense_0")(x))
        x = GroupNorm(self.groups, _HEAD_EPS, name="norm_1")(x)
        return Linear(self.outputs, name="dense_1")(x)


def _head(spec: ProbeSpec) -> _Head:
    return _Head(spec.unet.groups, 2 * spec.num_concepts)


def init_params(spec: ProbeSpec, key: jax.Array, init_scale: jax.typing.ArrayLike = 0.02) -> dict:
    """Draw the parameters {"backbone": ..., "head": ...} of a probe.

    Only the backbone is multiplied by `init_scale` (reference implementation).
    """
    backbone_key, head_key = jax.random.split(key)
    features = jnp.zeros((1, spec.unet.out_channels))
    head = drawing.init_params(lambda key: _head(spec).init(key, features)["params"], head_key)
    return {"backbone": unet.init_params(spec.unet, backbone_key, init_scale), "head": head}


def logits(
    spec: ProbeSpec, params: dict, images: Float[Array, "b h w 3"], dropout_keys: jax.Array | None = None
) -> Float[Array, "b concept 2"]:
    """Return the logits of both bit values of every concept.

    Args:
      spec: static description of the probe.
      params: as made by `init_params` for it.
      images: in [0, 1], any size divisible by 2 ** (levels - 1); features are max-pooled over all pixels.
      dropout_keys: switch dropout on, one an image; None for reading.
    """
    features = unet.apply(spec.unet, params["backbone"], images, dropout_keys=dropout_keys)
    pooled = features.max(axis=(1, 2))
    pairs: Any = _head(spec).apply({"params": params["head"]}, pooled)
    return pairs.reshape(-1, spec.num_concepts, 2)


def probabilities(spec: ProbeSpec, params: dict, images: Float[Array, "b h w 3"]) -> Float[Array, "b concept"]:
    """Return P(bit = 1) of every image and concept, in [0, 1]: the coordinates in concept space.

    `images` are in [0, 1], as those of `logits`.
    """
    return jax.nn.softmax(logits(spec, params, images), axis=-1)[..., 1]


def cross_entropy(pairs: Float[Array, "b concept 2"], bits: Int[Array, "b concept"]) -> Float[Array, "b"]:
    """Return the cross-entropy [b] in nats of logits against the true bits (0 or 1), summed over concepts."""
    return optax.softmax_cross_entropy_with_integer_labels(pairs, bits).sum(axis=-1)


def loss(
    spec: ProbeSpec,
    params: dict,
    images: Float[Array, "b h w 3"],
    bits: Int[Array, "b concept"],
    dropout_keys: jax.Array | None = None,
) -> Float[Array, ""]:
    """Return the cross-entropy in nats against the true `bits`, summed over concepts and averaged over images.

    `dropout_keys` [b] switch dropout on, as those of `logits`.
    """
    return cross_entropy(logits(spec, params, images, dropout_keys), bits).mean()


def from_torch(spec: ProbeSpec, path: str) -> dict:
    """Read a probe of the reference implementation (.npz, or .pth with PyTorch) as parameters for `logits`.

    Raises:
      UserError: the file is missing, or its arrays' names or shapes do not fit `spec`.
    """
    params = torch_weights.probe_params(spec.unet, torch_weights.read_state_dict(path))
    try:
        check_fit(spec, params)
    except ValueError as error:
        raise UserError(f"weights file {path!r} does not fit the probe: {error}") from error
    return jax.tree.map(jnp.asarray, params)


@functools.cache
def _shapes(spec: ProbeSpec) -> Any:
    return jax.eval_shape(lambda key: init_params(spec, key), rng.run_key(0))


def check_fit(spec: ProbeSpec, params: dict) -> None:
    """Check that `params` has the names and shapes of this probe.

    Raises:
      ValueError: names or a shape differ.
    """
    wanted = _shapes(spec)
    flat: dict[str, Any] = dict(traverse_util.flatten_dict(params, sep="/"))
    flat_wanted: dict[str, Any] = dict(traverse_util.flatten_dict(wanted, sep="/"))
    if set(flat) != set(flat_wanted):
        raise ValueError(f"its arrays differ in {', '.join(sorted(set(flat) ^ set(flat_wanted)))}")
    for name, array in flat.items():
        if array.shape != flat_wanted[name].shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {flat_wanted[name].shape}")
