"""What a model can produce: protocols become conditioning vectors, one sampler draws, the probe reads.

Pure functions of ONE run. A protocol is data: the arrays of `Prompts`. All protocols, classes and samples of a run form
one batch [b], b = (protocol, class, sample), sample fastest. Random numbers are common: the same starting noise and
step noise for every protocol and checkpoint, so that differences between them are paired.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from cspace_jax import dgp, probe, rng, vdm
from cspace_jax.concepts import classes
from cspace_jax.config import Config, EvaluateConfig
from cspace_jax.probe import ProbeSpec
from cspace_jax.setting import Setting
from cspace_jax.train import TrainSpec

PROTOCOLS = ("naive",)


@dataclasses.dataclass(frozen=True)
class EvalSpec:
    """Everything static about evaluation."""

    train: TrainSpec
    evaluate: EvaluateConfig
    probe: ProbeSpec

    @property
    def shape(self) -> tuple[int, int, int]:
        """(protocols, classes, samples per class)."""
        return len(PROTOCOLS), classes(self.train.data.active).num, self.evaluate.samples_per_class


def make_spec(train_spec: TrainSpec, config: Config, probe_spec: ProbeSpec) -> EvalSpec:
    """Collect the static parts of an evaluation."""
    return EvalSpec(train_spec, config.evaluate, probe_spec)


@struct.dataclass
class Prompts:
    """What one run is asked for, and the key of the noise it answers with.

    Attributes:
      conditioning: [b, 11].
      key: random key of the samples.
    """

    conditioning: jax.Array
    key: jax.Array


def naive_prompts(spec: EvalSpec, setting: Setting) -> Prompts:
    """Ask for every class by its own conditioning (naive prompting, paper section 4).

    Training classes are asked for at random values within their ranges, held-out classes at their exact means; the
    vectors are drawn once per run and used at every checkpoint (reference implementation).
    """
    key = rng.run_key(setting.seed)
    _, _, samples = spec.shape
    conditioning = dgp.generation_conditionings(rng.stream(key, "data"), setting, spec.train.data, samples)
    return Prompts(conditioning.reshape(-1, conditioning.shape[-1]), jax.random.fold_in(rng.stream(key, "eval"), 0))


def start(spec: EvalSpec, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw the starting noise z_1 of a run's batch."""
    return _noise(spec, prompts, jnp.int32(0))


def denoise(
    spec: EvalSpec, z: Float[Array, "b h w 3"], params: dict, prompts: Prompts, i: jax.Array
) -> Float[Array, "b h w 3"]:
    """Take ancestral step i of a run's batch."""
    noise = _noise(spec, prompts, i + 1)
    steps, guidance = spec.evaluate.sampling_steps, _guidance(spec)
    return vdm.sample_step(params, spec.train.vdm, z, prompts.conditioning, noise, i, steps, guidance)


def draw(spec: EvalSpec, params: dict, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw a run's batch of samples in one compiled loop: `start` and then every `denoise`."""
    steps = spec.evaluate.sampling_steps
    return jax.lax.fori_loop(0, steps, lambda i, z: denoise(spec, z, params, prompts, i), start(spec, prompts))


def _guidance(spec: EvalSpec) -> float | None:
    return None if spec.evaluate.guidance == 1.0 else spec.evaluate.guidance


def _noise(spec: EvalSpec, prompts: Prompts, i: jax.Array) -> jax.Array:
    protocols, num, samples = spec.shape
    size = spec.train.data.image_size
    noise = rng.normal(jax.random.fold_in(prompts.key, i), (num * samples, size, size, 3))
    return jnp.tile(noise, (protocols, 1, 1, 1))


@struct.dataclass
class Reading:
    """What a run's samples show.

    Attributes:
      prob_samples: probability of bit value 1, [protocol, class, sample, concept].
      mean_rgb: mean colour of the object, [protocol, class, channel].
      samples: a few images of the first protocol, uint8 [class, kept, h, w, 3].
      schedule_b: intercept of the noise schedule, scalar.
      schedule_w: its slope, scalar.
    """

    prob_samples: jax.Array
    mean_rgb: jax.Array
    samples: jax.Array
    schedule_b: jax.Array
    schedule_w: jax.Array


def read(spec: EvalSpec, z: Float[Array, "b h w 3"], params: dict, probe_params: dict) -> Reading:
    """Read the concepts of a run's finished samples with the probe."""
    protocols, num, samples = spec.shape
    images = z.reshape(protocols, num, samples, *z.shape[1:])
    prob = probe.probabilities(probe_params, spec.probe, z)
    b, w = vdm.schedule_scalars(params, spec.train.vdm)
    kept = jnp.clip(images[0, :, : spec.evaluate.keep_samples], 0.0, 1.0)
    return Reading(
        prob_samples=_keep_nan(prob, z).reshape(protocols, num, samples, -1),
        mean_rgb=object_color(z).reshape(protocols, num, samples, 3).mean(2),
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


@struct.dataclass
class LossData:
    """A run's validation or test images, cut into batches: `batch` is a Dataset [n, b], `key` seeds times and noise."""

    batch: dgp.Dataset
    key: jax.Array


def loss_batches(spec: EvalSpec, split: str) -> tuple[int, int]:
    """Return (batches, batch size) of a split, "validation" or "test"; images that fill no batch are left out.

    `evaluate.loss_images` limits the validation images.
    """
    data = spec.train.data
    size = {
        "validation": data.pool_images - data.train_images,
        "test": len(classes(data.active).held_out_ids) * data.test_images_per_class,
    }[split]
    if split == "validation" and spec.evaluate.loss_images:
        size = min(size, spec.evaluate.loss_images)
    batch = min(spec.train.optim.batch_size, size)
    return (size // batch, batch) if batch else (0, 0)


def loss_data(split: str, spec: EvalSpec, setting: Setting) -> LossData:
    """Draw the images of a split, as concept vectors."""
    key = rng.run_key(setting.seed)
    data_key = rng.stream(key, "data")
    if split == "validation":
        dataset = dgp.make_dataset(data_key, setting, spec.train.data)[1]
    else:
        dataset = dgp.test_set(data_key, setting, spec.train.data)
    count, size = loss_batches(spec, split)
    batch = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), dataset)
    stream = {"validation": 1, "test": 2}[split]
    return LossData(batch, jax.random.fold_in(rng.stream(key, "eval"), stream))


def loss_batch(spec: EvalSpec, params: dict, setting: Setting, data: LossData, i: jax.Array) -> Float[Array, "4"]:
    """Return total, diffusion, latent and reconstruction loss of batch i in bits per dimension.

    Dropout and the dropping of conditioning are off; times and noises are the same at every checkpoint.
    """
    batch = jax.tree.map(lambda leaf: leaf[i], data.batch)
    images = dgp.images(batch, spec.train.data)
    noise = vdm.draw_loss_noise(jax.random.fold_in(data.key, i), images.shape)
    conditioning = dgp.conditionings(batch, spec.train.data)
    terms = vdm.loss_terms(params, spec.train.vdm, images, conditioning, noise, setting.data_noise)
    return jnp.stack([t.mean() for t in (terms.total, terms.diffusion, terms.latent, terms.reconstruction)])
