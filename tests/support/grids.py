"""Small grids that are trained: the network under plans that have nothing in common, or a regression."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import regression
import tiny

from cspace_jax.config.plan import Plan
from cspace_jax.engine.engine import Engine
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.training.run import RunState, TrainSpec

# One level, for the time that plans take to compile; everything that a step can do is switched on.
CONFIG = tiny.study(
    network={"channels": (4,)},
    optim={"ema": 0.9, "decay": "cosine"},
    diffusion={"p_uncond": 0.1},
    data={"mask_images": "batch"},
    grid={"mask": (0.5,)},
)
SETTINGS = tiny.settings(CONFIG, slice(0, 3))
REFERENCE = Plan("canonical", "loop", 1)
LAYOUTS = ("loop", "vmap", "map", "unroll")
# What is trained: the network under two plans that have nothing in common, or the regression under a layout.
NETWORK = {"network": REFERENCE, "network by another plan": Plan("matmul", "vmap", 1, microbatch=2)}

# Another plan sums in another order. Adam divides by the root of the second moment, so a rounding error of a gradient
# near zero can grow to a good part of the learning rate, 1e-3; the clipped gradients of these tests are near zero all.
ROUNDING = {"rtol": 1e-4, "atol": 2e-6}
TWO_STEPS = ((0, 1), (1, 1))  # calls: (steps before, count)
SIX_STEPS = tuple((i, 1) for i in range(6))  # over the end of the network's first epoch of 5 batches


def make(plan=REFERENCE, config=CONFIG, settings=SETTINGS, **more):
    return Engine(TrainSpec.from_config(config, plan), settings, plan, **more)


def engine(what, runs=slice(0, 3)):
    if what in NETWORK:
        return make(NETWORK[what], settings=tiny.settings(CONFIG, runs))
    return regression.engine(what, runs)


def copied(groups):
    """Return groups that may be donated while the originals stay."""
    return jax.tree.map(jnp.copy, groups)


def trained(runner, state, calls=TWO_STEPS):
    """Train a copy of `state` by calls; return states and metrics stacked over all runs."""
    state = copied(state)
    for step, count in calls:
        state, metrics = runner.train(state, step, count)
    return runner.fetch(state), runner.fetch(metrics)


@functools.cache
def started(network=True):
    """The three runs' initial states, stacked, as every plan must start."""
    runner = engine("network" if network else "loop")
    return tiny.gathered(runner.init())


def start_of(what):
    return started(what in NETWORK)


@functools.cache
def outcome(what, calls=TWO_STEPS):
    runner = engine(what)
    return trained(runner, runner.scatter(start_of(what)), calls)


def row(tree, r):
    return jax.tree.map(lambda leaf: leaf[r : r + 1], tree)


def one_of(settings, r):
    return jax.tree.map(lambda leaf: leaf[r], settings)


def assert_same_training(actual, expected):
    """Fail unless two outcomes differ by rounding alone."""
    tiny.assert_close(actual, expected, **ROUNDING)
    if isinstance(actual[0], RunState):
        assert_close_moments(actual[0], expected[0])


def assert_close_moments(state, expected):
    """Compare Adam's means of the clipped gradients, far smaller than the weights, leaf by leaf."""
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected.opt_state[1].mu["network"]))

    def check(path, a, b):
        # Some gradients are zero but for rounding, such as that of the keys' bias under the softmax.
        atol = 1e-3 * np.abs(b).max() + 1e-6 * largest
        np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(check, state.opt_state[1].mu, expected.opt_state[1].mu)


def shapes_of(spec, setting):
    """Shapes of a run's state, data and prompts."""
    functions = (spec.train.init, spec.train.make_data, functools.partial(naive_prompts, spec))
    return [jax.eval_shape(function, setting) for function in functions]


def evaluation_spec(config, plan=REFERENCE, shards=1):
    train = TrainSpec.from_config(config, plan, shards)
    return EvalSpec.from_config(config, train, probe_network.ProbeSpec.from_config(config))
