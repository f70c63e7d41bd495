"""Training of a grid: the same numbers whatever the plan, chunks, neighbours, interruptions and devices.

What the engine does with runs is tested with a linear regression under every layout, and with the small network under
the two plans that its own tests need anyway.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regression
import tiny
from grids import (
    CONFIG,
    LAYOUTS,
    NETWORK,
    REFERENCE,
    SETTINGS,
    SIX_STEPS,
    assert_same_training,
    copied,
    engine,
    evaluation_spec,
    make,
    one_of,
    outcome,
    row,
    shapes_of,
    start_of,
    started,
    trained,
)

from cspace_jax import rng
from cspace_jax.config.plan import Plan
from cspace_jax.engine import engine as engine_module
from cspace_jax.engine.engine import over_runs
from cspace_jax.evaluation import sampling
from cspace_jax.evaluation.prompts import Prompts
from cspace_jax.storage import checkpoint
from cspace_jax.training import run
from cspace_jax.training.microbatch import AXIS
from cspace_jax.training.run import init_run, make_data

pytestmark = pytest.mark.network

everything = pytest.mark.parametrize("what", [*NETWORK, *LAYOUTS])


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
