"""Batches of a run, and that no random number is drawn twice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from grids import CONFIG, evaluation_spec, one_of

from cspace_jax import rng
from cspace_jax.data import datasets
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.losses import loss_batch, loss_data
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.model import vdm
from cspace_jax.training import run
from cspace_jax.training.run import TrainSpec, _next_batch, init_run, make_data


@functools.cache
def batches(seed, size=4, epochs=3):
    """Indices of every batch [epoch, batch, b] of a run."""
    spec = TrainSpec.from_config(tiny.changed(CONFIG, optim={"batch_size": size}))
    order = jnp.zeros(spec.source.train_images, jnp.int32)
    stream, advance = rng.stream(rng.run_key(seed), "train"), jax.jit(functools.partial(_next_batch, spec))
    rows = []
    for step in range(epochs * (spec.source.train_images // size)):
        order, index = advance(order, jnp.int32(step), stream)
        rows.append(np.asarray(index))
    return np.stack(rows).reshape(epochs, -1, size)


def test_an_epoch_visits_every_image_once():
    for epoch in batches(0):
        assert sorted(epoch.ravel().tolist()) == list(range(20))


def test_epochs_and_seeds_have_their_own_order():
    orders = [epoch.ravel().tolist() for seed in (0, 1) for epoch in batches(seed)]
    assert len({tuple(order) for order in orders}) == 6


def test_images_that_fill_no_batch_wait_for_the_next_epoch():
    epochs = batches(0, size=8)  # 2 batches of 8 an epoch, 4 images left out
    assert epochs.shape == (3, 2, 8)
    assert all(len(set(epoch.ravel().tolist())) == 16 for epoch in epochs)
    assert set(epochs.ravel().tolist()) == set(range(20))


class Consumed:
    """Record every random key that is drawn from or split, by name of the run it belongs to."""

    def __init__(self, monkeypatch):
        self.keys = []
        for name in ("normal", "uniform", "bernoulli", "permutation", "randint", "split"):
            original = getattr(jax.random, name)
            monkeypatch.setattr(jax.random, name, functools.partial(self._call, original))
        monkeypatch.setattr(datasets, "add_noise", self._add_noise)
        monkeypatch.setattr(vdm, "init_params", self._init)
        monkeypatch.setattr(vdm, "loss_terms", self._loss)

    def _take(self, key):
        # A callback, so that the program can be compiled: only what is executed is recorded, also inside branches.
        jax.debug.callback(self._record, jax.random.key_data(key))

    def _record(self, data):
        self.keys += map(tuple, np.asarray(data).reshape(-1, 2).tolist())

    def _call(self, original, key, *args, **kwargs):
        self._take(key)
        return original(key, *args, **kwargs)

    def _add_noise(self, image, key, scale=None):
        return image  # by design an image has the same noise each time; its keys are taken where they are made

    def _init(self, model, key, *_):
        self._take(key)
        return {"w": jnp.ones(())}

    def _loss(self, model, params, data_noise, x, c, noise, dropout_key=None):
        if dropout_key is not None:
            self._take(dropout_key)
        one = jnp.ones(len(x)) * params["w"]
        return vdm.LossTerms(one, one, one)


def test_no_key_is_used_twice(monkeypatch):
    config = tiny.study(diffusion={"p_uncond": 0.1, "schedule": "fixed_linear"})
    spec = dataclasses.replace(evaluation_spec(config), split="test")
    consumed = Consumed(monkeypatch)

    @jax.jit
    def start(setting):
        state, data = init_run(spec.train, setting), make_data(spec.train, setting)
        consumed._take(data.noise_key)
        return state, data

    train_step = jax.jit(functools.partial(run.train_step, spec.train))

    @jax.jit
    def evaluate(params, setting):
        prompts = naive_prompts(spec, setting)
        for i in range(spec.evaluate.sampling_steps + 1):
            sampling._noise(spec, prompts, jnp.int32(i))
        test = loss_data(spec, setting)
        consumed._take(test.batch.noise_key)
        validation_key = jax.random.fold_in(rng.stream(rng.run_key(setting.seed), "eval"), 1)
        loss_batch(spec, params, setting, test, (), jnp.int32(0))
        loss_batch(spec, params, setting, test.replace(key=validation_key), (), jnp.int32(0))

    for seed in (0, 7):
        setting = dataclasses.replace(one_of(tiny.settings(config), 0), seed=jnp.uint32(seed))
        state, data = start(setting)
        for step in range(11):  # two epochs and a step
            state, _ = train_step(state, setting, data, (), jnp.int32(step))
        evaluate(state.params, setting)
    jax.effects_barrier()
    assert len(consumed.keys) > 200
    repeated = {key for key in consumed.keys if consumed.keys.count(key) > 1}
    assert not repeated
