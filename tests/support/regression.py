"""The smallest thing the engine can train: a linear regression, compiled in a fraction of a second."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from flax import struct

from cspace_jax import rng
from cspace_jax.config.plan import Plan
from cspace_jax.engine.engine import Engine
from cspace_jax.training.microbatch import map_microbatches

SAMPLES, FEATURES = 32, 4


@struct.dataclass
class State:
    """What changes while a regression trains: weights, their momentum and the run's key."""

    params: dict
    momentum: dict
    key: jax.Array

    @property
    def evaluated(self) -> dict:
        return self.params


@struct.dataclass
class Metrics:
    """Mean loss of the last step, and the losses of its samples in the order of the batch."""

    loss: jax.Array
    losses: jax.Array


@dataclasses.dataclass(frozen=True)
class Regression:
    """Everything static about a regression: a `Trainable` of the engine."""

    batch: int = 8
    microbatch: int = 8
    shards: int = 1

    pool = ()  # of arrays that all runs share

    @property
    def microbatches(self) -> int:
        return self.batch // self.microbatch

    def init(self, setting: Any) -> State:
        key = rng.run_key(setting.seed)
        params = {"w": jax.random.uniform(rng.stream(key, "init"), (FEATURES,)), "b": jnp.zeros(())}
        return State(params, jax.tree.map(jnp.zeros_like, params), key)

    def make_data(self, setting: Any) -> tuple[jax.Array, jax.Array]:
        x = jax.random.uniform(rng.stream(rng.run_key(setting.seed), "data"), (SAMPLES, FEATURES), minval=-1.0)
        return x, 1 + 5 * setting.sep_col * x.sum(1)

    def chunk(self, state: State, setting: Any, data: Any, pool: Any, step: Any, count: Any) -> tuple[State, Metrics]:
        start = Metrics(jnp.zeros(()), jnp.zeros(self.batch))
        return jax.lax.fori_loop(
            0, count, lambda i, carry: self._step(carry[0], setting, data, step + i), (state, start)
        )

    def _step(self, state: State, setting: Any, data: Any, step: Any) -> tuple[State, Metrics]:
        # One draw for both: most of the compile time is that of random numbers.
        lots, noise = jax.random.uniform(jax.random.fold_in(rng.stream(state.key, "train"), step), (2, self.batch))
        index = (SAMPLES * lots).astype(jnp.int32)

        def total(params: dict, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
            losses = ((x * params["w"]).sum(1) + params["b"] - y) ** 2
            return losses.sum(), losses

        def differentiate(part: Any) -> tuple[dict, jax.Array]:
            return jax.grad(total, has_aux=True)(state.params, *part)

        batch = (data[0][index], data[1][index] + noise)
        grads, losses = map_microbatches(differentiate, batch, self.microbatch, self.shards)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g / self.batch, state.momentum, grads)
        params = jax.tree.map(lambda p, m: p - setting.learning_rate * m, state.params, momentum)
        return State(params, momentum, state.key), Metrics(losses.mean(), losses)


def settings(runs: slice = slice(0, 3)) -> Any:
    """Return stacked settings of up to eight runs, which differ in signal, seed and learning rate."""
    rates = np.array([0.02, 0.05, 0.1, 0.03, 0.06, 0.04, 0.07, 0.08], np.float32)
    study = tiny.study(grid={"sep_col": (0.2, 0.8, 0.4, 0.6)}) if runs.stop > 4 else tiny.study()
    return dataclasses.replace(tiny.settings(study, runs), learning_rate=rates[runs])


def engine(layout: str, runs: slice = slice(0, 3), devices: Any = None, **changes: int) -> Engine:
    """Return the engine of a few regressions; `changes` are those of `Regression`."""
    return Engine(Regression(**changes), settings(runs), Plan(runs=layout), devices)
