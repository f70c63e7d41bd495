"""The probe is a classifier that reads the concepts off an image.

It is trained once on diverse data and shared by all runs. Here is its training; its cache is in `probe_cache.py`, the
network in `evaluation/probe.py`. Sources: reference implementation (data, optimiser); paper section 3.1 and appendix
A.2.
"""

import dataclasses
import functools
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Int

from cspace_jax import rng
from cspace_jax.config import Config, OptimConfig, ProbeConfig, fingerprint, to_dict
from cspace_jax.config.plan import Plan
from cspace_jax.data.opened import source_of
from cspace_jax.data.source import Items, Source
from cspace_jax.engine.placement import shared_pool
from cspace_jax.engine.schedule import chunks
from cspace_jax.evaluation.probe import ProbeSpec, cross_entropy, init_params, logits, loss, probabilities
from cspace_jax.pipeline.progress import progress
from cspace_jax.training.optimizer import make_optimizer
from cspace_jax.tree import take

_EVAL_BATCH = 256  # images scored at once
_CALM_CHECKS = 3  # perfect checks in a row after which training stops
_LEAST_SHARE = 0.2  # of the steps, trained in any case
_AUGMENT = 2**31  # of a step's key: far from the numbers of its samples
_CACHE_VERSION = 1  # raise it when a change of the code changes a trained probe
Info = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Probe:
    """A trained probe.

    Attributes:
      spec: of its network.
      params: its parameters; none if it was lost, and only what the results keep of it is known.
      info: "accuracy" ({concept: ..., "joint": ...}) and "loss" of the held-out images, "steps" trained, "best_step"
        and "hash"; of pictures also "reading" and "confusion" of the held-out ones; ready for JSON.
    """

    spec: ProbeSpec
    params: dict
    info: Info

    @property
    def accuracy(self) -> dict[str, float]:
        """The held-out accuracy of each concept, and "joint", that of all concepts at once."""
        return self.info["accuracy"]

    @property
    def reading(self) -> np.ndarray | None:
        """The mean P(bit = 1) of the held-out pictures of each class [k, c], None if images are drawn.

        No model can surpass it.
        """
        found = self.info.get("reading")
        return None if found is None else np.array(found, np.float32)


@dataclasses.dataclass(frozen=True)
class _Task:
    """Everything static about training. It is hashable."""

    spec: ProbeSpec
    probe: ProbeConfig
    source: Source

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser of the probe."""
        probe = self.probe
        return make_optimizer(OptimConfig(clip=probe.clip), probe.learning_rate, probe.weight_decay)

    @property
    def check_every(self) -> int:
        """The number of steps between two checks."""
        return max(50, self.probe.steps // 20)


@struct.dataclass
class _State:
    """The state of training the probe."""

    params: dict
    opt_state: optax.OptState


@dataclasses.dataclass
class _Check:
    """The result of a check of the held-out images."""

    step: int
    accuracy: dict[str, float]  # of each concept, and "joint": all of them right
    loss: float
    params: dict

    @property
    def rank(self) -> tuple[float, float]:
        """The rank of the check. The largest is the best."""
        return self.accuracy["joint"], -self.loss if math.isfinite(self.loss) else -math.inf


def train_probe(config: Config, plan: Plan) -> Probe:
    """Train the probe of a configuration and return it.

    Data: the images of every row of `probe.data`, all classes of the active concepts, a fixed set that is shuffled anew
    each epoch; a row's held-out images lie at its class means. Of pictures: those of the training part, and for the
    checks those that no run is trained on. Checks come every max(50, steps / 20) steps. The weights of the best check
    are kept: most images with all concepts right, then the lowest loss. Training stops early, which the reference
    implementation does not, once three checks in a row were perfect and a fifth of the steps is done.
    """
    task = _Task(ProbeSpec.from_config(config, plan), config.probe, source_of(config.data))
    checks = _train(task, plan.steps_per_call)
    best = max(checks, key=lambda check: check.rank)
    info: Info = {"accuracy": best.accuracy, "loss": best.loss, "steps": checks[-1].step, "best_step": best.step}
    if task.source.real:
        info |= _held_out(task, best.params)
    params = jax.tree.map(jnp.asarray, jax.device_get(best.params))  # at no device in particular
    return Probe(task.spec, params, {**info, "hash": config_hash(config)})


def _train(task: _Task, steps_per_call: int) -> list[_Check]:
    """Train and return the checks, at most 21, in order."""
    key = _key(task)
    init_key, pool_key, _, order_key, dropout_key = jax.random.split(key, 5)
    items = task.source.probe_items(task.probe, pool_key, held=False)
    test = _test_items(task)
    batches = _draw_batches(task, len(items.klass), order_key)
    pool = _pool(task)
    state = _start(task, init_key)
    steps = task.probe.steps
    stops = [*range(task.check_every, steps, task.check_every), steps]
    checks: list[_Check] = []
    with progress(steps, "probe", "step", leave=False) as bar:
        for start, count in chunks(0, steps, stops, steps_per_call):
            state, value = _train_chunk(task, state, items, pool, batches, start, count, dropout_key)
            bar.update(count)
            if start + count not in stops:
                continue
            checks.append(_check(task, state.params, test, pool, start + count))
            accuracy = checks[-1].accuracy["joint"]
            bar.set_postfix_str(f"loss {float(value):.1e}, accuracy {accuracy:.3f}", refresh=False)
            if _settled(checks, steps):
                bar.total = start + count  # the rest is not needed
                break
    return checks


def _key(task: _Task) -> jax.Array:
    """Return the random key of the probe."""
    return rng.stream(rng.run_key(task.probe.seed), "probe")


def _test_items(task: _Task) -> Items:
    """Return the held-out images of all classes."""
    return task.source.probe_items(task.probe, jax.random.split(_key(task), 5)[2], held=True)


def _pool(task: _Task) -> Any:
    """Return the pictures that all runs share, on the probe's device."""
    return shared_pool(task.source.pool).at(first_device())


def first_device() -> SingleDeviceSharding:
    """Return the place of this process where the probe is trained and images are looked at."""
    return SingleDeviceSharding(jax.local_devices()[0])


def _settled(checks: list[_Check], steps: int) -> bool:
    """Return whether training may stop after the last checks."""
    last = [check.accuracy["joint"] for check in checks[-_CALM_CHECKS:]]
    return len(last) == _CALM_CHECKS and min(last) == 1.0 and checks[-1].step >= _LEAST_SHARE * steps


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_batches(task: _Task, n: int, key: jax.Array) -> Int[Array, "step b"]:
    """Return the indices of every batch.

    Images that do not fill an epoch's last batch wait for the next epoch.
    """
    size = task.probe.batch_size
    per_epoch = n // size
    epochs = math.ceil(task.probe.steps / per_epoch)
    orders = jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), n))(jnp.arange(epochs))
    return orders[:, : per_epoch * size].reshape(-1, size)[: task.probe.steps]


def _start(task: _Task, key: jax.Array) -> _State:
    """Return the state before the first step."""

    def draw(key: jax.Array) -> _State:
        params = init_params(task.spec, key, task.probe.init_scale)
        return _State(params, task.optimizer.init(params))

    # Dozens of random generators in one program: XLA optimises them on a CPU for longer than a small probe trains.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(draw, compiler_options=options)(key)


@functools.partial(jax.jit, static_argnums=0)
def _train_chunk(
    task: _Task,
    state: _State,
    items: Items,
    pool: Any,
    batches: Array,
    start: Array,
    count: Array,
    dropout_key: jax.Array,
) -> tuple[_State, jax.Array]:
    """Train on `count` rows of `batches` [step, b] from row `start` on.

    The returned loss is the last step's.
    """

    def step(i: jax.Array, carry: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
        return _step(task, carry[0], items.take(batches[i]), pool, jax.random.fold_in(dropout_key, i))

    return jax.lax.fori_loop(start, start + count, step, (state, jnp.float32(0.0)))


def _step(task: _Task, state: _State, batch: Items, pool: Any, dropout_key: jax.Array) -> tuple[_State, jax.Array]:
    """Train one step and return the state and the loss."""
    augment_keys = jax.random.split(jax.random.fold_in(dropout_key, _AUGMENT), len(batch.klass))
    images, bits = task.source.images(pool, batch, augment_keys), _bits(task, batch)
    dropout_keys = jax.random.split(dropout_key, len(images))
    value, grads = jax.value_and_grad(loss, argnums=1)(task.spec, state.params, images, bits, dropout_keys)
    updates, opt_state = task.optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    return _State(params, opt_state), value


def _bits(task: _Task, batch: Items) -> Int[Array, "b concept"]:
    """Return the bits of a batch."""
    return jnp.asarray(task.source.classes.bits)[batch.klass]


def _check(task: _Task, params: dict, test: Items, pool: Any, step: int) -> _Check:
    """Check the probe on the held-out images."""
    parts = [slice(i, i + _EVAL_BATCH) for i in range(0, len(test.klass), _EVAL_BATCH)]
    scores = [_score(task, params, take(test, part), pool) for part in parts]
    right, losses = (np.concatenate(arrays) for arrays in zip(*scores, strict=True))
    accuracy = {name: float(right[:, i].mean()) for i, name in enumerate(task.source.classes.active)}
    return _Check(step, {**accuracy, "joint": float(right.all(axis=1).mean())}, float(losses.mean()), params)


def _held_out(task: _Task, params: dict) -> Info:
    """Return how the probe reads the held-out pictures.

    "reading" [k, c] is the mean P(bit = 1) of each class. "confusion" [k, k] counts pictures by their class (row) and
    by the class that is read (column).
    """
    test, pool = _test_items(task), _pool(task)
    parts = [slice(i, i + _EVAL_BATCH) for i in range(0, len(test.klass), _EVAL_BATCH)]
    probs = np.concatenate([_read(task, params, take(test, part), pool) for part in parts])
    classes, klass = task.source.classes, np.asarray(test.klass)
    read = (probs > 0.5) @ (2 ** np.arange(len(classes.active))[::-1])
    confusion = np.zeros((classes.num, classes.num), int)
    np.add.at(confusion, (klass, read), 1)
    reading = [probs[klass == k].mean(axis=0).tolist() for k in range(classes.num)]
    return {"reading": reading, "confusion": confusion.tolist()}


@functools.partial(jax.jit, static_argnums=0)
def _read(task: _Task, params: dict, test: Items, pool: Any) -> Array:
    """Return P(bit = 1) of some images, [b, concept]."""
    return probabilities(task.spec, params, task.source.images(pool, test))


@functools.partial(jax.jit, static_argnums=0)
def _score(task: _Task, params: dict, test: Items, pool: Any) -> tuple[Array, Array]:
    """Return whether each concept of each image is read right [b, concept], and the cross-entropies [b]."""
    pairs, bits = logits(task.spec, params, task.source.images(pool, test)), _bits(task, test)
    return pairs.argmax(axis=-1) == bits, cross_entropy(pairs, bits)


def config_hash(config: Config) -> str:
    """Return 16 hex digits of everything that a trained probe depends on."""
    fields = to_dict(config)
    matters = {name: value for name, value in fields["probe"].items() if name not in ("cache_dir", "min_accuracy")}
    data = source_of(config.data).identity
    text = json.dumps({"probe": matters, "data": data, "version": _CACHE_VERSION}, sort_keys=True)
    return fingerprint(text, 16)
