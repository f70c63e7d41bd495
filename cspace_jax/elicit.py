"""What a model can produce: queries become conditionings, one sampler draws, the probe reads.

Pure functions of ONE run. What is asked for is data: the arrays of `Prompts`. All queries, classes and samples of a run
form one batch [b], b = (query, class, sample), sample fastest. Random numbers are common: the same starting noise and
step noise for every query and checkpoint, so that differences between them are paired.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from cspace_jax import dgp, parts, probe, protocols, rng, unet, vdm
from cspace_jax.concepts import classes
from cspace_jax.config import Config, EvaluateConfig
from cspace_jax.config_schema import ElicitConfig
from cspace_jax.probe import ProbeSpec
from cspace_jax.protocols import Query
from cspace_jax.setting import Setting
from cspace_jax.train import TrainSpec


@dataclasses.dataclass(frozen=True)
class EvalSpec:
    """Everything static about evaluation.

    `shape` is (queries, classes, samples per class) of one batch; `battery` tells batteries apart whose protocols were
    redefined.
    """

    train: TrainSpec
    evaluate: EvaluateConfig
    probe: ProbeSpec
    elicit: ElicitConfig
    shape: tuple[int, int, int]
    battery: str = ""


def make_spec(train_spec: TrainSpec, config: Config, probe_spec: ProbeSpec) -> EvalSpec:
    """Collect the static parts of naive prompting of every class."""
    shape = (1, classes(config.data.active).num, config.evaluate.samples_per_class)
    return EvalSpec(train_spec, config.evaluate, probe_spec, config.elicit, shape)


def make_battery_spec(
    train_spec: TrainSpec, config: Config, probe_spec: ProbeSpec, images_per_call: int = 0
) -> EvalSpec:
    """Collect the static parts of the battery of protocols on the held-out classes.

    The first element of `shape` is the number of queries of one batch: all, or as many as `images_per_call` images of a
    run hold, in batches of equal length.
    """
    held_out = len(classes(config.data.active).held_out_ids)
    total = len(protocols.layout(config.elicit))
    most = max(1, images_per_call // (held_out * config.elicit.samples)) if images_per_call else total
    calls = -(-total // most)
    shape = (-(-total // calls), held_out, config.elicit.samples)
    evaluate = dataclasses.replace(config.evaluate, keep_samples=0)
    return EvalSpec(train_spec, evaluate, probe_spec, config.elicit, shape, protocols.fingerprint(config.elicit))


@struct.dataclass
class Prompts:
    """What one run is asked for, and the key of the noise it answers with.

    Attributes:
      conditioning: vectors [b, 11], or their projections by block.
      key: random key of the samples.
      guidance: weight of each sample [b]; None takes the weight of the configuration.
      null: the null conditioning, in the form of `conditioning`; None is the null vector.
    """

    conditioning: vdm.Conditioning
    key: jax.Array
    guidance: jax.Array | None = None
    null: vdm.Conditioning | None = None


def naive_prompts(spec: EvalSpec, setting: Setting) -> Prompts:
    """Ask for every class by its own conditioning (naive prompting, paper section 4).

    Training classes are asked for at random values within their ranges, held-out classes at their exact means; the
    vectors are drawn once per run and used at every checkpoint (reference implementation).
    """
    key = rng.run_key(setting.seed)
    _, _, samples = spec.shape
    conditioning = dgp.generation_conditionings(rng.stream(key, "data"), setting, spec.train.data, samples)
    return Prompts(conditioning.reshape(-1, conditioning.shape[-1]), jax.random.fold_in(rng.stream(key, "eval"), 0))


def battery(spec: EvalSpec, setting: Setting) -> Query:
    """Build all queries of the battery [queries, held-out classes, ...], naive prompting first."""
    key = jax.random.fold_in(rng.stream(rng.run_key(setting.seed), "eval"), 3)
    return protocols.queries(spec.elicit, spec.train.data.active, setting, key, spec.evaluate.guidance)


def prepare(spec: EvalSpec, params: dict, patch: dict, queries: Query, setting: Setting) -> Prompts:
    """Turn the queries of one batch [q, held-out classes, ...] into prompts: embed, project, patch, edit, repeat.

    Args:
      spec: static description of the battery.
      params: parameters that are asked.
      patch: parameters whose conditioning projections patched queries use.
      queries: of one batch.
      setting: the run's numbers.
    """
    flat: Query = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), queries)
    network = spec.train.vdm.network
    stream = rng.stream(rng.run_key(setting.seed), "eval")

    def choose(own: Any, other: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(flat.patched[:, None], b, a), own, other)

    def embed(c: jax.Array) -> jax.Array:
        return choose(*(unet.embed_conditioning(one["network"], network, c) for one in (params, patch)))

    def project(v: jax.Array) -> dict[str, jax.Array]:
        return choose(*(unet.project_embedding(one["network"], network, v) for one in (params, patch)))

    null = jnp.full_like(flat.conditioning, spec.train.vdm.diffusion.null_value)
    asked, amplified, removed = (embed(c) for c in (flat.conditioning, flat.amplified, flat.removed))
    if unet.shares_embedding(network.conditioning):
        edits = _edits_where(flat, flat.shared)
        asked = edit({"": asked}, {"": amplified}, {"": removed}, edits, jax.random.fold_in(stream, 5))[""]
    edits = _edits_where(flat, ~flat.shared)
    edited = edit(project(asked), project(amplified), project(removed), edits, jax.random.fold_in(stream, 4))

    def repeat(tree: vdm.Conditioning) -> vdm.Conditioning:
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, spec.shape[2], axis=0), tree)

    noise_key = jax.random.fold_in(stream, 0)
    guided = spec.evaluate.guidance != 1.0 or protocols.uses_guidance(spec.elicit)
    weights = jnp.repeat(flat.guidance, spec.shape[2]) if guided else None
    return Prompts(repeat(edited), noise_key, weights, repeat(project(embed(null))) if guided else None)


def edit(
    h: dict[str, jax.Array], amplified: dict[str, jax.Array], removed: dict[str, jax.Array], query: Query,
    key: jax.Array,
) -> dict[str, jax.Array]:  # fmt: skip
    """Apply each query's linear latent intervention to its embeddings: block -> [q, d].

    With b and l the amplified and the removed embedding at length 1: h1 = h + alpha <h, b> b, then
    h1 - beta <h1, l> l (reference implementation). Where `query.random` is not 0, the change keeps its length and takes
    a random direction, which depends on that number, the key and the block.
    """
    edited = {}
    for number, name in enumerate(h):
        block = h[name]
        up, down = _unit(amplified[name]), _unit(removed[name])
        first = block + query.alpha[:, None] * (block * up).sum(-1, keepdims=True) * up
        second = first - query.beta[:, None] * (first * down).sum(-1, keepdims=True) * down
        keys = jax.vmap(lambda i, n=number: jax.random.fold_in(jax.random.fold_in(key, n), i))(query.random)
        direction = _unit(jax.vmap(lambda k, d=block.shape[-1]: jax.random.normal(k, (d,)))(keys))
        length = jnp.linalg.norm(second - block, axis=-1, keepdims=True)
        edited[name] = jnp.where((query.random > 0)[:, None], block + length * direction, second)
    return edited


def _edits_where(query: Query, here: jax.Array) -> Query:
    """Return the queries [q] without the edits of those that are not edited here."""
    alpha, beta, random = (jnp.where(here, one, 0) for one in (query.alpha, query.beta, query.random))
    return query.replace(alpha=alpha, beta=beta, random=random)


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def start(spec: EvalSpec, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw the starting noise z_1 of a run's batch."""
    return _noise(spec, prompts, jnp.int32(0))


def denoise(
    spec: EvalSpec, z: Float[Array, "b h w 3"], params: dict, prompts: Prompts, i: jax.Array
) -> Float[Array, "b h w 3"]:
    """Take ancestral step i of a run's batch, part by part where the whole would leave the cache."""
    steps = spec.evaluate.sampling_steps

    def step(part: tuple[Any, ...]) -> tuple[tuple[()], jax.Array]:
        z, noise, conditioning, weights, null = part
        guidance = _guidance(spec) if weights is None else weights
        return (), vdm.sample_step(params, spec.train.vdm, z, conditioning, noise, i, steps, guidance, null)

    batch = (z, _noise(spec, prompts, i + 1), prompts.conditioning, prompts.guidance, prompts.null)
    return parts.over_parts(step, batch, spec.train.part(len(z)), spec.train.shards)[1]


def draw(spec: EvalSpec, params: dict, prompts: Prompts) -> Float[Array, "b h w 3"]:
    """Draw a run's batch of samples in one compiled loop: `start` and then every `denoise`."""
    steps = spec.evaluate.sampling_steps
    return jax.lax.fori_loop(0, steps, lambda i, z: denoise(spec, z, params, prompts, i), start(spec, prompts))


def _guidance(spec: EvalSpec) -> float | None:
    return None if spec.evaluate.guidance == 1.0 else spec.evaluate.guidance


def _noise(spec: EvalSpec, prompts: Prompts, i: jax.Array) -> jax.Array:
    queries, num, samples = spec.shape
    size = spec.train.data.image_size
    noise = rng.normal(jax.random.fold_in(prompts.key, i), (num * samples, size, size, 3))
    return jnp.tile(noise, (queries, 1, 1, 1))


@struct.dataclass
class Reading:
    """What a run's samples show.

    Attributes:
      prob_samples: probability of bit value 1, [query, class, sample, concept].
      mean_rgb: mean colour of the object, [query, class, channel].
      samples: a few images of the first query, uint8 [class, kept, h, w, 3].
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
    queries, num, samples = spec.shape
    images = z.reshape(queries, num, samples, *z.shape[1:])
    prob = probe.probabilities(probe_params, spec.probe, z)
    b, w = vdm.schedule_scalars(params, spec.train.vdm)
    kept = jnp.clip(images[0, :, : spec.evaluate.keep_samples], 0.0, 1.0)
    return Reading(
        prob_samples=_keep_nan(prob, z).reshape(queries, num, samples, -1),
        mean_rgb=object_color(z).reshape(queries, num, samples, 3).mean(2),
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
