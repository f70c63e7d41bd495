"""The one sampler of all protocols: a run's prompts become images.

Pure functions of ONE run. All queries, classes and samples of a run form one batch [b], b = (query, class, sample),
sample fastest. Random numbers are common: the same starting noise and step noise for every query and checkpoint, so
that differences between them are paired. Repeats of the plain query alone have noise of their own.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cspace_jax import rng
from cspace_jax.evaluation.prompts import Prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm
from cspace_jax.training.microbatch import map_microbatches

_REPEATS = 1_000_000  # keys of repeated noise begin here, beyond any sampling step


def start(spec: EvalSpec, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw the starting noise z_1 of a run's batch [b, h, w, 3], unit normal."""
    return _noise(spec, prompts, jnp.int32(0))


def denoise(
    spec: EvalSpec, params: dict, z: Float[Array, "b h w 3"], prompts: Prompts, i: jax.Array
) -> Float[Array, "b h w 3"]:
    """Take ancestral step i of a run's batch of images.

    The batch is taken by microbatches where the whole would leave the cache or the memory.

    Args:
      spec: static description of the evaluation.
      params: parameters of the run.
      z: the batch [b, h, w, 3], b = queries x classes x samples: `start` at step 0, else the output of the step before.
      prompts: what the run is asked for.
      i: number of steps done, 0 to sampling_steps - 1; may be traced.

    Returns:
      The less noisy images [b, h, w, 3]; after the last step the samples, neither clipped nor rescaled.
    """
    steps = spec.evaluate.sampling_steps

    def step(part: tuple[Any, ...]) -> tuple[tuple[()], jax.Array]:
        z, noise, conditioning, weights, null = part
        guidance = _guidance(spec) if weights is None else weights
        return (), vdm.sample_step(spec.train.vdm, params, z, conditioning, noise, i, steps, guidance, null)

    batch = (z, _noise(spec, prompts, i + 1), prompts.conditioning, prompts.guidance, prompts.null)
    return map_microbatches(step, batch, spec.microbatch_of(len(z)), spec.train.shards)[1]


def draw(spec: EvalSpec, params: dict, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw a run's batch of samples in one compiled loop: `start` and then every `denoise`.

    Returns the samples [b, h, w, 3], unclipped.
    """
    steps = spec.evaluate.sampling_steps
    return jax.lax.fori_loop(0, steps, lambda i, z: denoise(spec, params, z, prompts, i), start(spec, prompts))


def _guidance(spec: EvalSpec) -> float | None:
    return spec.evaluate.guidance if spec.guided and spec.evaluate.guidance != 1.0 else None


def _noise(spec: EvalSpec, prompts: Prompts, i: jax.Array) -> jax.Array:
    queries, num, samples = spec.shape
    size = spec.train.source.data.image_size
    shape = (num * samples, size, size, 3)
    noise = rng.normal(jax.random.fold_in(prompts.key, i), shape)
    if prompts.repeat is None:
        return jnp.tile(noise, (queries, 1, 1, 1))

    def own(number: jax.Array) -> jax.Array:
        key = jax.random.fold_in(prompts.key, _REPEATS + number)
        return jnp.where(number > 0, rng.normal(jax.random.fold_in(key, i), shape), noise)

    return jax.vmap(own)(prompts.repeat).reshape(queries * num * samples, *shape[1:])
