"""Training of a grid: the same numbers whatever the plan, chunks, neighbours, interruptions and devices.

What the engine does with runs is tested with a linear regression under every layout, and with the small network under
the two plans that its own tests need anyway.
"""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regression
import tiny

from cspace_jax import rng
from cspace_jax.config import EngineConfig, OptimConfig
from cspace_jax.config.plan import Plan
from cspace_jax.data import datasets
from cspace_jax.engine import engine as engine_module
from cspace_jax.engine import schedule
from cspace_jax.engine.engine import Engine, over_runs
from cspace_jax.engine.placement import local_devices
from cspace_jax.errors import UserError
from cspace_jax.evaluation import probe as probe_network
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.losses import loss_batch, loss_data
from cspace_jax.evaluation.prompts import Prompts, naive_prompts
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm
from cspace_jax.model.convolution import METHODS, conv_2x2_down, conv_2x2_up, conv_3x3
from cspace_jax.storage import checkpoint
from cspace_jax.training import optimizer, run
from cspace_jax.training.microbatch import AXIS
from cspace_jax.training.run import RunState, TrainSpec, _next_batch, init_run, make_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
everything = pytest.mark.parametrize("what", [*NETWORK, *LAYOUTS])

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


@pytest.mark.parametrize("what", ["network by another plan", "vmap", "map", "unroll"])
def test_every_plan_gives_the_same_training(what):
    """The network's other plan takes other convolutions, its runs at once and its batches by microbatches.

    Dropout, dropped conditionings and masks are drawn for the batch, so that microbatches change rounding alone.
    """
    assert_same_training(outcome(what), outcome("network" if what in NETWORK else "loop"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_over_microbatches_are_those_of_the_batch(layout):
    runner = regression.engine(layout, microbatch=2)
    assert runner.spec.microbatches == 4
    assert_same_training(trained(runner, runner.scatter(start_of(layout))), outcome(layout))


EIGHT_OF_16 = 8 * 4 * 8 * 8 * 4  # bytes of a cache that holds eight images at four channels


def test_sampling_by_microbatches_draws_the_same_images():
    config = tiny.changed(CONFIG, evaluate={"samples_per_class": 4, "guidance": 3.0})
    params = jax.tree.map(lambda leaf: leaf[0] + 0.01, started().evaluated)
    asked = Prompts(np.linspace(0, 1, 16 * 11, dtype=np.float32).reshape(16, 11), rng.run_key(0))
    samples = []
    for cache in (0, EIGHT_OF_16):
        spec = evaluation_spec(config, Plan("xla", "loop", 1, cache_bytes=cache))
        assert spec.train.microbatch_of(16) == (8 if cache else 16)
        samples.append(jax.jit(functools.partial(sampling.draw, spec))(params, asked))
    assert np.abs(samples[0]).max() > 0.1
    np.testing.assert_allclose(samples[0], samples[1], atol=1e-4)


def test_training_and_sampling_share_their_microbatches_among_devices():
    """The program of each device adds up gradients and puts samples together; it is traced, not compiled."""
    config = tiny.changed(CONFIG, evaluate={"samples_per_class": 4})
    spec = evaluation_spec(config, Plan("xla", "loop", 1, microbatch=2, cache_bytes=EIGHT_OF_16), shards=2)
    setting = one_of(SETTINGS, 0)
    state, data, prompts = shapes_of(spec, setting)

    def traced(function, static, *arguments):
        return str(jax.make_jaxpr(functools.partial(function, static), axis_env=[(AXIS, 2)])(*arguments))

    assert "psum" in traced(run.train_step, spec.train, state, setting, data, (), jnp.int32(0))
    assert "all_gather" in traced(sampling.draw, spec, state.evaluated, prompts)


def shapes_of(spec, setting):
    """Shapes of a run's state, data and prompts."""
    functions = (spec.train.init, spec.train.make_data, functools.partial(naive_prompts, spec))
    return [jax.eval_shape(function, setting) for function in functions]


@pytest.mark.parametrize("r", range(3))
@pytest.mark.parametrize("what", ["network", "loop"])
def test_a_run_in_the_grid_is_the_run_alone_bit_for_bit(what, r):
    alone = engine(what, slice(r, r + 1))
    tiny.assert_same_bits(tiny.gathered(alone.init()), row(start_of(what), r))
    tiny.assert_same_bits(trained(alone, alone.init()), row(outcome(what), r))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_data_and_initial_states_do_not_depend_on_the_layout(layout):
    runner = regression.engine(layout)
    data = runner.fetch(runner.call(regression.Regression.make_data, runner.spec, runner.settings))
    state = tiny.gathered(runner.init())
    for r in range(3):
        setting = one_of(regression.settings(), r)
        alone = (runner.spec.make_data(setting), runner.spec.init(setting))
        tiny.assert_close(row((data, state), r), jax.tree.map(lambda a: a[None], alone), atol=1e-6)


def test_runs_of_a_grid_differ():
    state, metrics = outcome("network")
    assert len(set(metrics.loss.tolist())) == 3
    kernel = state.params["network"]["conv_in"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-2  # another seed
    same_seed = tiny.settings(CONFIG, slice(0, None, 2))
    assert same_seed.seed.tolist() == [0, 0]
    spec, concepts = make().spec, jax.jit(_concepts, static_argnums=0)
    data = [concepts(spec, one_of(same_seed, r)) for r in (0, 1)]
    assert np.abs(data[0] - data[1]).max() > 1e-2  # another signal


def _concepts(spec, setting):
    return spec.source.conditionings(make_data(spec, setting))


@everything
def test_results_do_not_depend_on_the_length_of_chunks(what):
    assert_same_training(outcome(what, SIX_STEPS), outcome(what, ((0, 3), (3, 3))))


@everything
def test_stopping_and_resuming_is_bitwise(what, tmp_path):
    runner = engine(what)
    state = copied(runner.scatter(start_of(what)))
    with checkpoint.CheckpointWriter(tmp_path) as writer:
        for step, count in SIX_STEPS[:3]:
            state, _ = runner.train(state, step, count)
        writer.save(3, runner.fetch(state))
        for step, count in SIX_STEPS[3:5]:  # the save must not see what is done to the state afterwards
            state, _ = runner.train(state, step, count)
    fresh = engine(what)
    restored = checkpoint.restore_groups(tmp_path, 3, fresh.abstract_state(), fresh.groups)
    tiny.assert_same_bits(trained(fresh, restored, SIX_STEPS[3:]), outcome(what, SIX_STEPS))


@everything
def test_a_run_that_is_nan_leaves_all_others_unchanged(what):
    start = start_of(what)
    poisoned = start.replace(params=jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), start.params))
    runner = engine(what)
    state, metrics = trained(runner, runner.scatter(poisoned))
    assert np.isnan(metrics.loss[1]) and all(np.isnan(row(leaf, 1)).all() for leaf in jax.tree.leaves(state.params))
    for r in (0, 2):
        tiny.assert_same_bits(row((state, metrics), r), row(outcome(what), r))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("convolve", "size"), [(conv_3x3, 3), (conv_2x2_down, 2), (conv_2x2_up, 2)])
def test_a_convolution_that_is_nan_leaves_those_of_other_runs_unchanged(convolve, size, method):
    """Runs at once are one batched convolution, in which a zero times a NaN would reach the neighbours."""
    noise = np.random.default_rng(0)
    x, kernel = noise.normal(size=(3, 2, 4, 4, 4)), noise.normal(size=(3, size, size, 4, 4))

    @jax.jit
    @jax.vmap
    def both(x, kernel):
        out, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, method), x, kernel)
        return out, pull(out)

    clean = both(jnp.float32(x), jnp.float32(kernel))
    x[1], kernel[1] = np.nan, np.nan
    poisoned = both(jnp.float32(x), jnp.float32(kernel))
    assert all(np.isnan(leaf[1]).all() for leaf in jax.tree.leaves(poisoned))
    for r in (0, 2):
        tiny.assert_same_bits(row(poisoned, r), row(clean, r))


DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np, regression, tempfile, test_engine as t, tiny
from cspace_jax.engine.placement import Shared
from cspace_jax.storage import checkpoint
eight = jax.devices()
one, two = eight[:2]

def outcome(layout, devices, runs=3, **changes):
    runner = regression.engine(layout, slice(0, runs), devices, **changes)
    return runner, t.trained(runner, runner.init())

alone = outcome("loop", [one])[1]
for devices in ([two], [one, two]):
    tiny.assert_same_bits(outcome("loop", devices)[1], alone)
groups = regression.engine("loop", devices=[one, two]).init()
assert [next(iter(group.params["w"].devices())) for group in groups] == [one, two, one]
runner, result = outcome("vmap", [one, two])
assert [len(settings.seed) for settings in runner.settings] == [2, 1] and runner.runs == 3
t.assert_same_training(result, alone)

def shared(layout, devices):
    runner, (state, metrics) = outcome(layout, devices, runs=1, microbatch=2)
    assert runner.spec.shards == len(devices) == len(runner.settings[0].seed.devices())
    tiny.assert_same_bits(runner.fetch(runner.scatter(state)), state)
    (held,), _ = runner.train(runner.init(), 0, 3)
    copies = [jax.tree.map(lambda leaf: leaf.addressable_shards[i].data, held) for i in range(len(devices))]
    tiny.assert_same_bits(copies[-1], copies[0])
    return state, metrics

for layout in ("loop", "vmap"):
    t.assert_same_training(shared(layout, [one, two]), shared(layout, [one]))

def held(device):
    shards = [shard for array in jax.live_arrays() for shard in array.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)

def copies(device, kind):
    # Of each array once, whatever larger one it is part of.
    shards = [shard for array in jax.live_arrays() if array.dtype == kind for shard in array.addressable_shards]
    return len({shard.data.unsafe_buffer_pointer() for shard in shards if shard.device == device})

# The probe asks for one device, runs that are shared for several: each has one copy, whoever asks first.
pool = {"pictures": np.zeros(6 * 2**20 + 1, np.uint8)[1:].reshape(2**20, 6)}  # not aligned: it has to be copied
pair = jax.NamedSharding(jax.sharding.Mesh(np.array([one, two]), ("batch",)), jax.P())
single = [jax.sharding.SingleDeviceSharding(device) for device in (one, two)]
for places in ([single[0], pair, single[1]], [pair, *single]):
    shared_by_all = Shared(pool)
    found = [shared_by_all.at(place)["pictures"] for place in places]
    assert [len(array.devices()) for array in found] == [len(place.device_set) for place in places]
    assert all((array == pool["pictures"]).all() for array in found)
    assert [copies(device, np.uint8) for device in (one, two, eight[2])] == [1, 1, 0]
    del found, shared_by_all

with tempfile.TemporaryDirectory() as folder:
    spread = regression.engine("vmap", slice(0, 8), eight)
    before = [held(device) for device in eight]
    state, _ = spread.train(spread.init(), 0, 3)
    saved = spread.fetch(state)
    grown = [held(device) - base for device, base in zip(eight, before)]
    # A save leaves every run on its own device; the first one holds the step's number too.
    assert 0 < max(grown) < 1.05 * min(grown), grown
    for devices in (eight, [one]):
        with checkpoint.CheckpointWriter(folder) as writer:
            writer.save(len(devices), regression.engine("vmap", slice(0, 8), devices).fetch(state))
    for step, devices in ((8, [one]), (1, eight), (8, [eight[7], two])):
        other = regression.engine("vmap", slice(0, 8), devices)
        restored = checkpoint.restore_groups(folder, step, other.abstract_state(), other.groups)
        tiny.assert_same_bits(other.fetch(restored), saved)
        for group, device in zip(restored, devices, strict=True):
            assert all(leaf.devices() == {device} for leaf in jax.tree.leaves(group))
print("equal")
"""


def test_number_of_devices_changes_nothing_and_sharing_a_run_only_rounding():
    folders = [ROOT, ROOT / "tests" / "support", pathlib.Path(__file__).parent]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([sys.executable, "-c", DEVICES], env=env, capture_output=True, text=True, timeout=300)
    assert done.stdout == "equal\n", done.stderr


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


def evaluation_spec(config, plan=REFERENCE, shards=1):
    train = TrainSpec.from_config(config, plan, shards)
    return EvalSpec.from_config(config, train, probe_network.ProbeSpec.from_config(config))


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


def test_weight_average_equals_the_numpy_oracle():
    runner = make()
    state = runner.init()
    params = [tiny.raw(state[0].params)]
    for step in range(4):
        state, _ = runner.train(state, step, 1)
        params.append(tiny.raw(state[0].params))
    expected = jax.tree.map(lambda leaf: leaf.astype(np.float64), params[0])
    for step, new in enumerate(params[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, expected, new)
    tiny.assert_close(state[0].ema, expected, rtol=1e-5, atol=1e-7)
    assert state[0].evaluated is state[0].ema
    plain = make(config=tiny.study()).abstract_state()
    assert plain.ema == {} and plain.evaluated is plain.params


@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_adamw_with_decay_equals_the_numpy_oracle(decay):
    config = OptimConfig(steps=8, decay=decay, clip=0.5)
    rng_ = np.random.default_rng(0)
    params = {"w": rng_.normal(size=(3, 2)).astype(np.float32), "b": np.float32(0.7)}
    transform = optimizer.make_optimizer(config, learning_rate=0.1, weight_decay=0.2)
    state = transform.init(params)
    update = jax.jit(transform.update)
    flat = np.append(params["w"].ravel(), params["b"]).astype(np.float64)
    m, v = np.zeros(7), np.zeros(7)
    for i in range(8):
        g = rng_.normal(size=7) * (0.1 if i % 2 else 1.0)  # clipped at every second step
        tree = {"w": np.float32(g[:6].reshape(3, 2)), "b": np.float32(g[6])}
        updates, state = update(tree, state, params)
        params = jax.tree.map(lambda p, u: np.asarray(p + u), params, updates)
        g = g * min(1.0, 0.5 / (np.linalg.norm(g) + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        step = m / (1 - 0.9 ** (i + 1)) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8) + 0.2 * flat
        factor = 0.5 * (1 + np.cos(np.pi * i / 8)) if decay == "cosine" else 1.0
        flat = flat - 0.1 * factor * step
        np.testing.assert_allclose(np.append(params["w"].ravel(), params["b"]), flat, rtol=1e-4, atol=1e-5)


def test_schedule_and_weights_move_in_training():
    state, metrics = outcome("network")
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, tiny.raw(started().params))
    # The reconstruction term alone fills the clipped gradient, so b moves by the learning rate a step (facts).
    np.testing.assert_allclose(metrics.schedule_b, -5 - 2e-3, atol=2e-4)
    np.testing.assert_allclose(state.params["schedule"]["b"], metrics.schedule_b)
    assert moved["network"]["conv_out"]["kernel"] > 0


def test_metrics_are_those_of_the_loss_at_the_start():
    _, metrics = outcome("network", ((0, 1),))
    # A batch has 768 pixels, so the square of their noise is known to 5 %.
    assert metrics.loss == pytest.approx(4852, rel=4 * (2 / 768) ** 0.5)
    total = metrics.diffusion + metrics.latent + metrics.reconstruction
    np.testing.assert_allclose(metrics.loss, total, rtol=1e-6)
    assert (metrics.grad_norm > 4000).all()


@pytest.mark.parametrize("layout", ["vmap", "map", "unroll"])
def test_a_function_of_one_run_is_lifted_over_runs(layout):
    def one(x, tree, shift):
        return {"sum": x.sum() * tree["factor"] + shift, "x": x + shift}

    x, factor = np.arange(12.0).reshape(3, 2, 2), np.array([1.0, 10.0, 100.0])
    out = jax.jit(over_runs(one, layout, 2, 1))(x, {"factor": factor}, 0.5)
    np.testing.assert_allclose(out["sum"], x.sum((1, 2)) * factor + 0.5)
    np.testing.assert_allclose(out["x"], x + 0.5)


def test_plan_is_chosen_by_backend_and_every_field_can_be_set():
    free = dataclasses.replace(CONFIG, engine=EngineConfig())
    plan = Plan.resolve(free, "cpu")
    assert (plan.convolution, plan.runs, plan.microbatch) == ("winograd", "loop", 0)
    for backend in ("gpu", "tpu"):
        plan = Plan.resolve(free, backend)
        assert (plan.convolution, plan.runs) == ("xla", "vmap") and plan.steps_per_call > 1
    fields = {"convolution": "matmul", "runs": "unroll", "steps_per_call": 7, "microbatch": 2}
    chosen = Plan.resolve(tiny.changed(free, engine=fields), "cpu")
    assert {name: getattr(chosen, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("samples", "size", "part"), [(16, 16, 16), (64, 16, 32), (416, 16, 32), (64, 32, 8), (20, 64, 10), (34, 64, 17)]
)
def test_on_a_cpu_large_batches_are_taken_in_microbatches_that_stay_in_the_cache(samples, size, part):
    config = tiny.changed(CONFIG, data={"image_size": size}, network={"channels": (32, 64)})
    assert TrainSpec.from_config(config, Plan.resolve(config, "cpu")).microbatch_of(samples) == part
    assert TrainSpec.from_config(config, Plan.resolve(config, "gpu")).microbatch_of(samples) == samples


@pytest.mark.parametrize(
    ("runs", "devices", "part", "shards"),
    [(1, 2, 1, 2), (1, 1, 1, 1), (2, 2, 1, 1), (2, 5, 2, 2), (1, 3, 2, 2), (1, 9, 1, 4), (1, 2, 4, 1), (3, 2, 1, 1)],
)
def test_devices_that_runs_leave_over_share_a_run(runs, devices, part, shards, monkeypatch):
    here = engine_module._places(jax.devices(), 1)
    monkeypatch.setattr(engine_module, "_places", lambda _, shared: here if shared == shards else [])
    plan = dataclasses.replace(REFERENCE, microbatch=part)  # of a batch of four
    runner = make(plan, settings=tiny.settings(CONFIG, slice(0, runs)), devices=jax.devices() * devices)
    assert runner.spec.shards == shards and runner.places == here


@pytest.mark.parametrize("precision", ["default", "float32", "bfloat16"])
def test_programs_are_traced_at_the_precision_of_the_plan(precision):
    seen = []

    def one(static, x, number=0):
        seen.append(jax.config.jax_default_matmul_precision)  # pyright: ignore[reportAttributeAccessIssue]
        return x + 1

    runner = make(dataclasses.replace(REFERENCE, precision=precision))
    x = runner.scatter(np.arange(3.0))
    runner.call(one, "call", x)
    assert set(seen) == {None if precision == "default" else precision}


def test_a_plan_can_take_fewer_devices(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: ["a", "b"])
    taken = {n: local_devices(dataclasses.replace(REFERENCE, devices=n)) for n in (0, 1, 2)}
    assert taken == {0: ["a", "b"], 1: ["a"], 2: ["a", "b"]}
    with pytest.raises(UserError, match="engine.devices = 3: must be at most 2"):
        local_devices(dataclasses.replace(REFERENCE, devices=3))


@pytest.mark.parametrize(("runs", "size"), [(5, 0), (5, 5), (5, 2), (5, 9), (1, 1)])
def test_waves_cover_the_grid_in_order(runs, size):
    cuts = schedule.waves(runs, size)
    assert [r for cut in cuts for r in range(runs)[cut]] == list(range(runs))
    assert all(len(range(runs)[cut]) <= (size or runs) for cut in cuts)


@pytest.mark.parametrize(("start", "most"), [(0, 50), (0, 1), (7, 4)])
def test_calls_are_contiguous_and_end_at_every_stop(start, most):
    stops = [0, 10, 13, 100, 250]
    calls = schedule.chunks(start, 100, stops, most)
    ends = [step + count for step, count in calls]
    assert [step for step, _ in calls] == [start, *ends[:-1]] and ends[-1] == 100
    assert {s for s in stops if start < s <= 100} <= set(ends)
    assert all(1 <= count <= most for _, count in calls)
    assert schedule.chunks(100, 100, stops, most) == []


def test_training_and_sampling_lower_for_accelerators():
    config = tiny.study(optim={"ema": 0.9}, diffusion={"p_uncond": 0.1}, evaluate={"guidance": 2.0})
    spec = evaluation_spec(config, Plan("xla", "vmap", 3))
    settings = tiny.settings(config, slice(0, 3))

    def stacked(leaf):
        return jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype)

    state, data, prompts = jax.tree.map(stacked, shapes_of(spec, one_of(settings, 0)))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    for function, static, rows, shared in [
        (init_run, spec.train, (settings,), ()),
        (run.train_step, spec.train, (state, settings, data), ((), step)),  # a chunk is a loop of it
        (sampling.draw, spec, (state.evaluated, prompts), ()),
    ]:
        lifted = over_runs(functools.partial(function, static), "vmap", len(rows), len(shared))
        exported = jax.export.export(jax.jit(lifted), platforms=["cuda", "tpu"])(*rows, *shared)
        assert exported.platforms == ("cuda", "tpu") and len(exported.mlir_module_serialized) > 1000
