"""Reading: the concepts, colours and kept images of finished samples. Pure functions of ONE run."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm
from cspace_jax.training.microbatch import map_microbatches


@struct.dataclass
class Reading:
    """The concepts, colours and kept images of a run's samples.

    Attributes:
      prob_samples: probability of bit value 1, in 0..1, [query, class, sample, concept].
      mean_rgb: mean colour of the object, in 0..1, [query, class, channel].
      samples: a few images of the first query, uint8 [class, kept, h, w, 3].
      schedule_b: intercept of the noise schedule, scalar.
      schedule_w: its slope, scalar.
    """

    prob_samples: jax.Array
    mean_rgb: jax.Array
    samples: jax.Array
    schedule_b: jax.Array
    schedule_w: jax.Array


def read(spec: EvalSpec, params: dict, z: Float[Array, "b h w 3"], probe_params: dict) -> Reading:
    """Read the concepts of a run's finished samples with the probe, in parts where memory asks for it.

    Args:
      spec: static description of the evaluation; b = queries x classes x samples = the product of `spec.shape`.
      params: parameters of the run, whose noise schedule is read.
      z: finished samples [b, h, w, 3]; kept images are clipped to [0, 1].
      probe_params: parameters of the probe.

    Returns:
      The reading. Probabilities are NaN for a sample that holds a number that is not finite.
    """
    queries, num, samples = spec.shape
    images = z.reshape(queries, num, samples, *z.shape[1:])

    def see(part: jax.Array) -> tuple[tuple[()], tuple[jax.Array, jax.Array]]:
        return (), (_keep_nan(probe_network.probabilities(spec.probe, probe_params, part), part), object_color(part))

    prob, color = map_microbatches(see, z, spec.part_of(len(z)))[1]
    b, w = vdm.schedule_scalars(spec.train.vdm, params)
    kept = jnp.clip(images[0, :, : spec.evaluate.keep_samples], 0.0, 1.0)
    return Reading(
        prob_samples=prob.reshape(queries, num, samples, -1),
        mean_rgb=color.reshape(queries, num, samples, 3).mean(2),
        samples=jnp.round(kept * 255.0).astype(jnp.uint8),
        schedule_b=b,
        schedule_w=w,
    )


def _keep_nan(prob: jax.Array, z: jax.Array) -> jax.Array:
    # A maximum over pixels may drop NaNs, and a run that diverged must not look like a measurement.
    broken = ~jnp.isfinite(z).all((1, 2, 3))
    return jnp.where(broken[:, None], jnp.nan, prob)


def object_color(images: Float[Array, "b h w 3"]) -> Float[Array, "b 3"]:
    """Estimate the mean RGB of the object in each image, in [0, 1].

    The background is the median colour of the border pixels; the object is where the colour differs from it by more
    than half of the largest difference in the image. A plain estimator of ours, for images without a mask.
    """
    images = jnp.clip(images, 0.0, 1.0)
    border = jnp.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    background = jnp.median(border, axis=1)[:, None, None, :]
    distance = jnp.abs(images - background).sum(-1)
    inside = distance > 0.5 * distance.max((1, 2), keepdims=True)
    return (images * inside[..., None]).sum((1, 2)) / jnp.maximum(inside.sum((1, 2)), 1)[:, None]
