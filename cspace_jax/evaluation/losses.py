"""Validation and test losses of a checkpoint, batch by batch. Pure functions of ONE run."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from cspace_jax import rng
from cspace_jax.config.schema import EvaluateConfig
from cspace_jax.config.setting import Setting
from cspace_jax.data.source import Items, Source
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm
from cspace_jax.training.microbatch import map_microbatches
from cspace_jax.tree import take


@struct.dataclass
class LossData:
    """A run's validation or test images, cut into batches.

    Attributes:
      batch: `Items` whose leaves are [n, b, ...]: n batches of b images.
      key: random key of times and noise.
    """

    batch: Items
    key: jax.Array


def loss_batches(spec: EvalSpec) -> tuple[int, int]:
    """Return (batches, batch size) of `spec.split` ("validation" or "test"), as `batches_of`."""
    return batches_of(spec.train.source, spec.evaluate, spec.train.optim.batch_size, spec.split)


def batches_of(source: Source, evaluate: EvaluateConfig, batch_size: int, split: str) -> tuple[int, int]:
    """Return (batches, batch size) of "validation" or "test"; images that fill no batch are left out.

    `evaluate.loss_images` limits the validation images.
    """
    size = {"validation": source.validation_images, "test": source.test_images}[split]
    if split == "validation" and evaluate.loss_images:
        size = min(size, evaluate.loss_images)
    batch = min(batch_size, size)
    return (size // batch, batch) if batch else (0, 0)


def loss_data(spec: EvalSpec, setting: Setting) -> LossData:
    """Draw the images of `spec.split`, without their pixels, and cut them into batches.

    Returns:
      `Items` [n, b] with (n, b) = `loss_batches(spec)`, and the key of their times and noise. The images that fill no
      batch are left out.

    Raises:
      KeyError: `spec.split` is neither "validation" nor "test".
    """
    key = rng.run_key(setting.seed)
    source = spec.train.source
    draw = {"validation": source.validation, "test": source.test}[spec.split]
    dataset = draw(setting, rng.stream(key, "data"))
    count, size = loss_batches(spec)
    batch = jax.tree.map(lambda leaf: leaf[: count * size].reshape(count, size, *leaf.shape[1:]), dataset)
    stream = {"validation": 1, "test": 2}[spec.split]
    return LossData(batch, jax.random.fold_in(rng.stream(key, "eval"), stream))


def loss_batch(
    spec: EvalSpec, params: dict, setting: Setting, data: LossData, pool: Any, i: jax.Array
) -> Float[Array, "4"]:
    """Return total, diffusion, latent and reconstruction loss [4] of batch i, in bits per dimension.

    Dropout and the dropping of conditioning are off; times and noises are the same at every checkpoint.
    """
    terms = _terms(spec, params, setting, data, pool, i)
    return jnp.stack([t.mean() for t in (terms.total, terms.diffusion, terms.latent, terms.reconstruction)])


def exchange_batch(
    spec: EvalSpec, params: dict, setting: Setting, data: LossData, pool: Any, i: jax.Array
) -> Float[Array, "concept"]:
    """Return the rise of the loss of batch i when one concept is named wrongly, [concept].

    It is in bits per dimension. The conditioning is moved by the difference of the class means with and without that
    concept's other value; images, times and noises stay. It tells how much the model relies on each concept's entries:
    a stand-in for the concept signal where no pairs of images exist. A measure of ours.
    """
    source = spec.train.source
    means, klass = source.means(setting), take(data.batch, i).klass
    right = _terms(spec, params, setting, data, pool, i).total.mean()
    rises = []
    for bit in reversed(range(len(source.classes.active))):  # the first concept is the highest bit of the class index
        moved = means[klass ^ (1 << bit)] - means[klass]
        rises.append(_terms(spec, params, setting, data, pool, i, moved).total.mean() - right)
    return jnp.stack(rises)


def _terms(
    spec: EvalSpec, params: dict, setting: Setting, data: LossData, pool: Any, i: jax.Array,
    moved: jax.Array | None = None,
) -> vdm.LossTerms:  # fmt: skip
    batch = take(data.batch, i)
    images = spec.train.source.images(pool, batch)
    noise = vdm.draw_loss_noise(jax.random.fold_in(data.key, i), images.shape)
    conditioning = spec.train.source.conditionings(batch)
    conditioning = conditioning if moved is None else conditioning + moved

    def terms(part: tuple[Any, ...]) -> tuple[tuple[()], vdm.LossTerms]:
        return (), vdm.loss_terms(spec.train.vdm, params, setting.data_noise, *part)

    return map_microbatches(terms, (images, conditioning, noise), spec.part_of(len(images)))[1]
