"""The conditional variational diffusion model of ONE run: noise schedule, loss terms, ancestral sampler, guidance.

Sources: reference implementation (vdm_model, model_tools); Kingma et al., "Variational Diffusion Models" (2021).
gamma(t) = b + |w| t is minus the log signal-to-noise ratio; alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma).
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from cspace_jax import rng
from cspace_jax.config import DiffusionConfig, NetworkConfig
from cspace_jax.model import unet

_LN2 = 0.6931471805599453
# Conditioning vectors [b, d], or what every block of the network makes of them (`unet.project_conditioning`).
Conditioning = Float[Array, "b d"] | Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Vdm:
    """Static description of the diffusion model: its network and its diffusion settings."""

    network: unet.UNetSpec
    diffusion: DiffusionConfig

    @classmethod
    def from_config(
        cls, network: NetworkConfig, diffusion: DiffusionConfig, convolution: str, entries: int = 11
    ) -> "Vdm":
        """Build the static description.

        Args:
          network: of the configuration.
          diffusion: of the configuration.
          convolution: the plan's way of computing convolutions.
          entries: length of a conditioning vector; 11 for the paper's six concepts.
        """
        spec = unet.UNetSpec(
            channels=network.channels,
            blocks=network.blocks,
            groups=network.groups,
            heads=network.heads,
            attention=network.attention,
            dropout=network.dropout,
            conditioning=network.conditioning,
            convolution=convolution,
            entries=entries,
        )
        return cls(spec, diffusion)


def init_params(vdm: Vdm, key: jax.Array, init_scale: jax.typing.ArrayLike = 1.0) -> dict:
    """Draw parameters: {"network": ..., "schedule": {"b", "w"}}; a fixed schedule has no trained scalars."""
    params = {"network": unet.init_params(vdm.network, key, init_scale), "schedule": {}}
    if vdm.diffusion.schedule == "learned_linear":
        low, high = vdm.diffusion.gamma_min, vdm.diffusion.gamma_max
        params["schedule"] = {"b": jnp.float32(low), "w": jnp.float32(high - low)}
    return params


def schedule_scalars(vdm: Vdm, params: dict) -> tuple[jax.Array, jax.Array]:
    """Return the scalars (b, |w|) of gamma(t) = b + |w| t."""
    if vdm.diffusion.schedule == "learned_linear":
        return params["schedule"]["b"], jnp.abs(params["schedule"]["w"])
    low, high = vdm.diffusion.gamma_min, vdm.diffusion.gamma_max
    return jnp.float32(low), jnp.float32(high - low)


def gamma(vdm: Vdm, params: dict, t: jax.typing.ArrayLike) -> jax.Array:
    """Return the noise schedule, minus the log signal-to-noise ratio, at times t in [0, 1], in their shape."""
    b, w = schedule_scalars(vdm, params)
    return b + w * jnp.asarray(t, jnp.float32)


def alpha_sigma(gamma_t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the signal and the noise amplitude of gammas, in their shape.

    Both are in 0..1, and their squares add up to 1.
    """
    return jnp.sqrt(jax.nn.sigmoid(-gamma_t)), jnp.sqrt(jax.nn.sigmoid(gamma_t))


def eps_hat(
    vdm: Vdm,
    params: dict,
    z: Float[Array, "b h w c"],
    gamma_t: Float[Array, " b"],
    c: Conditioning,
    dropout_keys: jax.Array | None = None,
) -> Float[Array, "b h w c"]:
    """Predict the noise in noisy images.

    The network's time is gamma rescaled by the schedule's INITIAL end points, also while the schedule is being learned,
    so it can leave [0, 1] (reference implementation).

    Args:
      vdm: static description.
      params: parameters of one run.
      z: noisy images [b, h, w, c].
      gamma_t: minus the log signal-to-noise ratio of each image [b].
      c: conditioning vectors [b, d], or their projections by block.
      dropout_keys: switch dropout on, one an image [b]; None for evaluation and sampling.

    Returns:
      The predicted noise [b, h, w, c].
    """
    low, high = vdm.diffusion.gamma_min, vdm.diffusion.gamma_max
    return unet.apply(vdm.network, params["network"], z, (gamma_t - low) / (high - low), c, dropout_keys)


def antithetic_times(key: jax.Array, batch: int) -> Float[Array, " b"]:
    """Draw low-discrepancy times t0 + i / batch [b] in [0, 1), with one t0 ~ U(0, 1 / batch)."""
    t0 = jax.random.uniform(key, ()) / batch
    return t0 + jnp.arange(batch, dtype=jnp.float32) / batch


@struct.dataclass
class LossTerms:
    """Terms of the variational bound per sample, in bits per dimension; each has shape [b]."""

    diffusion: jax.Array
    latent: jax.Array
    reconstruction: jax.Array

    @property
    def total(self) -> jax.Array:
        """Negative variational lower bound."""
        return self.diffusion + self.latent + self.reconstruction


@struct.dataclass
class LossNoise:
    """Random inputs of one loss evaluation: times [b] and two unit normal images [b, h, w, c]."""

    t: jax.Array
    eps: jax.Array
    eps_0: jax.Array


def draw_loss_noise(key: jax.Array, shape: tuple[int, ...]) -> LossNoise:
    """Draw times and noises for a batch of images of `shape` [b, h, w, c]."""
    key_t, key_eps, key_eps_0 = jax.random.split(key, 3)
    return LossNoise(
        t=antithetic_times(key_t, shape[0]),
        eps=rng.normal(key_eps, shape),
        eps_0=rng.normal(key_eps_0, shape),
    )


def loss_terms(
    vdm: Vdm,
    params: dict,
    data_noise: jax.typing.ArrayLike,
    x: Float[Array, "b h w c"],
    c: Float[Array, "b d"],
    noise: LossNoise,
    dropout_keys: jax.Array | None = None,
) -> LossTerms:
    """Compute the three terms of the bound (facts of the reference implementation; nothing is detached).

    Args:
      vdm: static description.
      params: parameters of one run.
      data_noise: standard deviation of the decoder's Gaussian, in image units.
      x: images in [0, 1].
      c: conditioning vectors.
      noise: times and noises.
      dropout_keys: training only, one a sample.

    Returns:
      Terms per sample in bits per dimension.
    """
    b, w = schedule_scalars(vdm, params)
    gamma_t = b + w * noise.t
    alpha_t, sigma_t = (a[:, None, None, None] for a in alpha_sigma(gamma_t))
    predicted = eps_hat(vdm, params, alpha_t * x + sigma_t * noise.eps, gamma_t, c, dropout_keys)
    diffusion = 0.5 * w * _sum_pixels((predicted - noise.eps) ** 2)
    variance_1 = jax.nn.sigmoid(b + w)
    kl = variance_1 + (1.0 - variance_1) * x**2 - jnp.log(jnp.maximum(variance_1, 1e-15)) - 1.0
    alpha_0, sigma_0 = alpha_sigma(b)
    residual = (sigma_0 / alpha_0) * noise.eps_0 / data_noise
    reconstruction = 0.5 * residual**2 + jnp.log(data_noise) + 0.5 * jnp.log(2.0 * jnp.pi)

    to_bits = 1.0 / (x[0].size * _LN2)
    return LossTerms(
        diffusion=diffusion * to_bits,
        latent=0.5 * _sum_pixels(kl) * to_bits,
        reconstruction=_sum_pixels(reconstruction) * to_bits,
    )


def _sum_pixels(x: jax.Array) -> jax.Array:
    return x.sum((1, 2, 3))


def drop_conditioning(null_value: float, c: Float[Array, "b d"], dropped: Bool[Array, " b"]) -> Float[Array, "b d"]:
    """Return the vectors [b, d], those of dropped samples [b] filled with `null_value` (training for guidance)."""
    return jnp.where(dropped[:, None], null_value, c)


def guided_eps(
    vdm: Vdm,
    params: dict,
    z: jax.Array,
    gamma_t: jax.Array,
    c: Conditioning,
    guidance: jax.typing.ArrayLike | None,
    null: Conditioning | None = None,
) -> jax.Array:
    """Predict noise [b, h, w, c] with classifier-free guidance: eps_null + w (eps_cond - eps_null).

    `guidance` is the weight w, and None is plain conditional. The weight is one number or one a sample, [b]. `null`
    stands in place of vectors filled with `diffusion.null_value`; it must be given where conditionings are projected.
    """
    if guidance is None:
        return eps_hat(vdm, params, z, gamma_t, c)
    if null is None:
        null = jax.tree.map(lambda leaf: jnp.full_like(leaf, vdm.diffusion.null_value), c)
    z, gamma_t, c = jax.tree.map(lambda *pair: jnp.concatenate(pair), (z, gamma_t, c), (z, gamma_t, null))
    both = eps_hat(vdm, params, z, gamma_t, c)
    conditional, unconditional = jnp.split(both, 2)
    weight = jnp.asarray(guidance)[..., None, None, None]
    return unconditional + weight * (conditional - unconditional)


def sample_step(
    vdm: Vdm,
    params: dict,
    z: Float[Array, "b h w c"],
    c: Conditioning,
    noise: Float[Array, "b h w c"],
    i: jax.typing.ArrayLike,
    steps: int,
    guidance: jax.typing.ArrayLike | None = None,
    null: Conditioning | None = None,
) -> Float[Array, "b h w c"]:
    """Take ancestral step i = 0 .. steps - 1 of a uniform time grid from 1 to 0.

    Noise is added at every step, the last included; the output is neither clipped nor rescaled (reference).

    Args:
      vdm: static description.
      params: parameters of one run.
      z: z_1, unit normal, at the first step; afterwards the output of the step before.
      c: conditioning vectors, or their projections.
      noise: unit normal noise of this step.
      i: number of steps done, may be traced.
      steps: number of network evaluations of the whole sampler.
      guidance: weight w of classifier-free guidance, one or one a sample; None switches it off.
      null: conditioning of the unconditional prediction; None is the null vector.

    Returns:
      The less noisy images; after the last step the samples, unclipped.
    """
    gamma_t = gamma(vdm, params, (steps - i) / steps)
    gamma_s = gamma(vdm, params, (steps - i - 1) / steps)
    alpha_t, sigma_t = alpha_sigma(gamma_t)
    alpha_s, sigma_s = alpha_sigma(gamma_s)
    # 1 - exp(gamma_s - gamma_t), without cancellation where the two are close.
    decay = -jnp.expm1(gamma_s - gamma_t)
    eps = guided_eps(vdm, params, z, jnp.full(z.shape[0], gamma_t), c, guidance, null)
    mean = alpha_s / alpha_t * (z - decay * sigma_t * eps)
    return mean + sigma_s * jnp.sqrt(decay) * noise
