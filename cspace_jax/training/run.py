"""Training of ONE run as pure functions: `init_run`, `make_data` and `train_chunk`. Only the engine stacks runs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cspace_jax import rng
from cspace_jax.config import Config, OptimConfig
from cspace_jax.config.plan import PLAIN, Plan
from cspace_jax.config.setting import Setting
from cspace_jax.data import masking
from cspace_jax.data.opened import source_of
from cspace_jax.data.source import Items, Source
from cspace_jax.model import vdm
from cspace_jax.training import optimizer
from cspace_jax.training.microbatch import map_microbatches

FEWEST_SAMPLES = 8  # of a microbatch that is chosen for the user; below, matrix products become too small


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """Everything static about training: one hashable value, one compiled program.

    Attributes:
      vdm: the diffusion model.
      source: of the images.
      optim: batch and optimiser.
      microbatch: samples whose gradient is computed at once, a divisor of the batch; 0 = `microbatch_of` the batch.
      cache_bytes: of a core, which a microbatch's tensors should not leave; 0 = batches are not cut.
      shards: devices that share the run, each with some of the microbatches (`microbatch.map_microbatches`).
    """

    vdm: vdm.Vdm
    source: Source
    optim: OptimConfig
    microbatch: int = 0
    cache_bytes: int = 0
    shards: int = 1

    @classmethod
    def from_config(cls, config: Config, plan: Plan = PLAIN, shards: int = 1) -> "TrainSpec":
        """Collect the static parts of a configuration under a plan, with `shards` devices to each run."""
        source = source_of(config.data)
        model = vdm.Vdm.from_config(config.network, config.diffusion, plan.convolution, source.layout.dim)
        return cls(model, source, config.optim, plan.microbatch, plan.cache_bytes, shards)

    @property
    def microbatch_size(self) -> int:
        """Samples whose gradient is computed at once."""
        return self.microbatch or self.microbatch_of(self.optim.batch_size)

    @property
    def microbatches(self) -> int:
        """Number of microbatches of a batch."""
        return self.optim.batch_size // self.microbatch_size

    def microbatch_of(self, samples: int) -> int:
        """Return how many of `samples` images pass through the network at once: a divisor.

        All of them where the cache holds a tensor of the first level. Else prefer the largest divisor that fits the
        cache; never below `FEWEST_SAMPLES`.
        """
        image = 4 * self.source.data.image_size**2 * self.vdm.network.channels[0]
        if not self.cache_bytes or samples * image <= self.cache_bytes:
            return samples
        divisors = [n for n in range(FEWEST_SAMPLES, samples + 1) if samples % n == 0]
        fitting = [n for n in divisors if n * image <= self.cache_bytes]
        return max(fitting) if fitting else min(divisors, default=samples)

    @property
    def pool(self) -> Any:
        """Arrays that all runs share, on the host."""
        return self.source.pool

    # What the engine runs: pure functions of this description and of one run's arrays.

    def init(self, setting: Setting) -> "RunState":
        """Make the state of a run before its first step (`init_run`)."""
        return init_run(self, setting)

    def make_data(self, setting: Setting) -> Items:
        """Draw the run's training set (`make_data`)."""
        return make_data(self, setting)

    def chunk(
        self, state: "RunState", setting: Setting, data: Items, pool: Any, step: jax.Array, count: jax.Array | int
    ) -> "tuple[RunState, StepMetrics]":
        """Train for `count` steps (`train_chunk`)."""
        return train_chunk(self, state, setting, data, pool, step, count)


@struct.dataclass
class RunState:
    """What changes while a run trains; the step is kept outside, because all runs share it.

    Attributes:
      params: network and schedule parameters.
      opt_state: AdamW moments and counters.
      ema: average of `params`, an empty dict if switched off.
      order: this epoch's permutation of the training set, int32 [n_train].
      key: the run's random key.
    """

    params: dict
    opt_state: optax.OptState
    ema: dict
    order: jax.Array
    key: jax.Array

    @property
    def evaluated(self) -> dict:
        """Parameters that evaluation uses: the average if there is one."""
        return self.ema or self.params


@struct.dataclass
class StepMetrics:
    """Scalars of one training step.

    Attributes:
      loss: in bits per dimension, the sum of the next three.
      diffusion: its term.
      latent: its term.
      reconstruction: its term.
      grad_norm: L2 norm of the gradient before it is clipped.
      grad_median: median of the absolute values of the clipped gradient's entries (`optimizer.clipped_median`); NaN
        at steps that are not logged.
      schedule_b: b of gamma(t) = b + |w| t, after the step.
      schedule_w: |w|, after the step.
    """

    loss: jax.Array
    diffusion: jax.Array
    latent: jax.Array
    reconstruction: jax.Array
    grad_norm: jax.Array
    grad_median: jax.Array
    schedule_b: jax.Array
    schedule_w: jax.Array


@struct.dataclass
class Batch:
    """All that a step draws for its batch; every leaf has the batch as its first axis.

    Attributes:
      images: rendered, in [0, 1].
      conditioning: true conditioning vectors [b, d].
      masked: whose concept is hidden.
      dropped: whose whole conditioning is dropped.
      noise: times and noises of the loss.
      dropout_keys: a key a sample.
    """

    images: jax.Array
    conditioning: jax.Array
    masked: jax.Array
    dropped: jax.Array
    noise: vdm.LossNoise
    dropout_keys: jax.Array


def init_run(spec: TrainSpec, setting: Setting) -> RunState:
    """Make the state of a run before its first step, from the setting alone (its seed included)."""
    key = rng.run_key(setting.seed)
    params = vdm.init_params(spec.vdm, rng.stream(key, "init"), setting.init_scale) | masking.init_params(spec.source)
    return RunState(
        params=params,
        opt_state=_optimizer(spec, setting).init(params),
        ema=jax.tree.map(jnp.copy, params) if spec.optim.ema > 0 else {},
        order=jnp.zeros(spec.source.train_images, jnp.int32),
        key=key,
    )


def make_data(spec: TrainSpec, setting: Setting) -> Items:
    """Draw the run's training set: what its images are made of, and which of them are masked; no pixels."""
    key = rng.run_key(setting.seed)
    dataset = spec.source.training(setting, rng.stream(key, "data"))
    return masking.mark(spec.source, setting.mask, dataset, rng.stream(key, "mask"))


def train_chunk(
    spec: TrainSpec,
    state: RunState,
    setting: Setting,
    data: Items,
    pool: Any,
    step: jax.Array,
    count: jax.Array | int,
) -> tuple[RunState, StepMetrics]:
    """Train for `count` steps in a compiled loop.

    Args:
      spec: static description.
      state: state after `step` steps.
      setting: the run's numbers.
      data: the run's training set, from `make_data`.
      pool: arrays that all runs share (`Source.pool`).
      step: steps done so far, an int32 scalar that all runs share (not batched under `vmap`: the shuffle at the start
        of an epoch is then a real branch).
      count: number of steps, at least 1, shared likewise; when traced, one program serves chunks of any length.

    Returns:
      The new state and the metrics of the last step.
    """

    def body(i: jax.Array, carry: tuple[RunState, StepMetrics]) -> tuple[RunState, StepMetrics]:
        return train_step(spec, carry[0], setting, data, pool, step + i)

    nothing = StepMetrics(*[jnp.zeros(())] * len(dataclasses.fields(StepMetrics)))
    return jax.lax.fori_loop(0, count, body, (state, nothing))


def train_step(
    spec: TrainSpec, state: RunState, setting: Setting, data: Items, pool: Any, step: jax.Array
) -> tuple[RunState, StepMetrics]:
    """Train for one step; arguments and results as those of `train_chunk`."""
    stream = rng.stream(state.key, "train")
    order, index = _next_batch(spec, state.order, step, stream)
    batch = _draw_batch(spec, setting, data.take(index), pool, step, state.key)

    def total_loss(params: dict, part: Batch) -> tuple[jax.Array, vdm.LossTerms]:
        conditioning = _conditioning(spec, params, part)
        terms = vdm.loss_terms(
            spec.vdm, params, setting.data_noise, part.images, conditioning, part.noise, part.dropout_keys
        )
        return terms.total.sum(), terms

    def differentiate(part: Batch) -> tuple[tuple[jax.Array, dict], vdm.LossTerms]:
        (loss, terms), grads = jax.value_and_grad(total_loss, has_aux=True)(state.params, part)
        return (loss, grads), terms

    (loss, grads), terms = map_microbatches(differentiate, batch, spec.microbatch_size, spec.shards)
    loss, grads = jax.tree.map(lambda leaf: leaf / len(index), (loss, grads))
    updates, opt_state = _optimizer(spec, setting).update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    new_state = RunState(params, opt_state, _average(spec, state.ema, params, step), order, state.key)
    median = _grad_median(spec, state.opt_state, opt_state, step)
    return new_state, _metrics(spec, params, loss, terms, optimizer.global_norm(grads), median)


def _draw_batch(
    spec: TrainSpec, setting: Setting, chosen: Items, pool: Any, step: jax.Array, run_key: jax.Array
) -> Batch:
    step_key = jax.random.fold_in(rng.stream(run_key, "train"), 2 * step + 1)
    noise_key, dropout_key, drop_key = jax.random.split(step_key, 3)
    augment_key = jax.random.fold_in(rng.stream(run_key, "augment"), step)
    images = spec.source.images(pool, chosen, jax.random.split(augment_key, len(chosen.klass)))
    mask_key = jax.random.fold_in(rng.stream(run_key, "mask"), step)
    return Batch(
        images=images,
        conditioning=spec.source.conditionings(chosen),
        masked=masking.draw(spec.source, setting.mask, chosen, mask_key),
        dropped=jax.random.bernoulli(drop_key, spec.vdm.diffusion.p_uncond, (len(images),)),
        noise=vdm.draw_loss_noise(noise_key, images.shape),
        dropout_keys=jax.random.split(dropout_key, len(images)),
    )


def _conditioning(spec: TrainSpec, params: dict, batch: Batch) -> jax.Array:
    diffusion = spec.vdm.diffusion
    conditioning = masking.fill(spec.source, params, diffusion.null_value, batch.conditioning, batch.masked)
    if diffusion.p_uncond == 0:
        return conditioning
    return vdm.drop_conditioning(diffusion.null_value, conditioning, batch.dropped)


def _optimizer(spec: TrainSpec, setting: Setting) -> optax.GradientTransformation:
    return optimizer.make_optimizer(spec.optim, setting.learning_rate, setting.weight_decay)


def _next_batch(spec: TrainSpec, order: jax.Array, step: jax.Array, stream: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return (this epoch's permutation, the batch's indices).

    Batches have a fixed shape: the images that do not fill a batch at the end of an epoch wait for the next epoch's
    permutation (the reference implementation keeps a short last batch instead).
    """
    size = spec.optim.batch_size
    per_epoch = spec.source.train_images // size
    position = step % per_epoch

    def shuffle(order: jax.Array) -> jax.Array:
        # Even numbers are epochs and odd ones steps, so that no key is used twice.
        key = jax.random.fold_in(stream, 2 * (step // per_epoch))
        return jax.random.permutation(key, order.shape[0])

    order = jax.lax.cond(position == 0, shuffle, lambda order: order, order)
    return order, jax.lax.dynamic_slice_in_dim(order, position * size, size)


def _average(spec: TrainSpec, ema: dict, params: dict, step: jax.Array) -> dict:
    if spec.optim.ema == 0:
        return ema
    # The decay grows with the number of steps, so that the random start is forgotten.
    decay = jnp.minimum(spec.optim.ema, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda e, p: decay * e + (1.0 - decay) * p, ema, params)


def _grad_median(spec: TrainSpec, before: optax.OptState, after: optax.OptState, step: jax.Array) -> jax.Array:
    def median(before: jax.Array, after: jax.Array) -> jax.Array:
        return optimizer.clipped_median(spec.optim, before, after)

    # All runs share the step, so that this is a real branch: at every step the median would cost more than 1 %.
    logged = ((step + 1) % spec.optim.log_every == 0) | (step + 1 == spec.optim.steps)
    return jax.lax.cond(
        logged, median, lambda *_: jnp.float32(jnp.nan), *map(optimizer.median_entries, (before, after))
    )


def _metrics(
    spec: TrainSpec, params: dict, loss: jax.Array, terms: vdm.LossTerms, grad_norm: jax.Array, grad_median: jax.Array
) -> StepMetrics:
    b, w = vdm.schedule_scalars(spec.vdm, params)
    return StepMetrics(
        loss=loss,
        diffusion=terms.diffusion.mean(),
        latent=terms.latent.mean(),
        reconstruction=terms.reconstruction.mean(),
        grad_norm=grad_norm,
        grad_median=grad_median,
        schedule_b=b,
        schedule_w=w,
    )
