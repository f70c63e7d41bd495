"""Validation and test losses of a checkpoint, batch by batch. Pure functions of ONE run."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from cspace_jax import rng
from cspace_jax.config.setting import Setting
from cspace_jax.data import datasets
from cspace_jax.data.concepts import classes
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm


@struct.dataclass
class LossData:
    """A run's validation or test images, cut into batches: `batch` is a Dataset [n, b], `key` seeds times and noise."""

    batch: datasets.Dataset
    key: jax.Array


def loss_batches(spec: EvalSpec) -> tuple[int, int]:
    """Return (batches, batch size) of `spec.split`; images that fill no batch are left out.

    `evaluate.loss_images` limits the validation images.
    """
    data = spec.train.data
    size = {
        "validation": data.pool_images - data.train_images,
        "test": len(classes(data.active).held_out_ids) * data.test_images_per_class,
    }[spec.split]
    if spec.split == "validation" and spec.evaluate.loss_images:
        size = min(size, spec.evaluate.loss_images)
    batch = min(spec.train.optim.batch_size, size)
    return (size // batch, batch) if batch else (0, 0)


def loss_data(spec: EvalSpec, setting: Setting) -> LossData:
    """Draw the images of `spec.split`, as concept vectors."""
    key = rng.run_key(setting.seed)
    data_key = rng.stream(key, "data")
    if spec.split == "validation":
        dataset = datasets.make_dataset(spec.train.data, setting, data_key)[1]
    else:
        dataset = datasets.test_set(spec.train.data, setting, data_key)
    count, size = loss_batches(spec)
    batch = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), dataset)
    stream = {"validation": 1, "test": 2}[spec.split]
    return LossData(batch, jax.random.fold_in(rng.stream(key, "eval"), stream))


def loss_batch(spec: EvalSpec, params: dict, setting: Setting, data: LossData, i: jax.Array) -> Float[Array, "4"]:
    """Return total, diffusion, latent and reconstruction loss of batch i in bits per dimension.

    Dropout and the dropping of conditioning are off; times and noises are the same at every checkpoint.
    """
    batch = jax.tree.map(lambda leaf: leaf[i], data.batch)
    images = datasets.images(spec.train.data, batch)
    noise = vdm.draw_loss_noise(jax.random.fold_in(data.key, i), images.shape)
    conditioning = datasets.conditionings(spec.train.data, batch)
    terms = vdm.loss_terms(spec.train.vdm, params, setting.data_noise, images, conditioning, noise)
    return jnp.stack([t.mean() for t in (terms.total, terms.diffusion, terms.latent, terms.reconstruction)])
