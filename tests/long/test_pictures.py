"""Pictures as a source: whose pictures a run sees, one pool for all runs, tints, and the same bits on every plan."""

import dataclasses
import functools
import gc
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import struct

from cspace_jax import rng
from cspace_jax.config import DataConfig, DiffusionConfig, EvaluateConfig, NetworkConfig, OptimConfig
from cspace_jax.config.plan import Plan
from cspace_jax.config.schema import ElicitConfig, ProbeConfig
from cspace_jax.config.setting import Setting
from cspace_jax.data.opened import remember
from cspace_jax.data.pictures import Pictures
from cspace_jax.engine.engine import Engine, over_runs, training_program
from cspace_jax.errors import UserError
from cspace_jax.evaluation import losses, protocols, sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.prompts import naive_prompts
from cspace_jax.evaluation.reading import read
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.model import vdm
from cspace_jax.pipeline import probe
from cspace_jax.training.run import TrainSpec

pytestmark = pytest.mark.network

SIDE = 4
COUNTS, HELD = (7, 5, 6, 8), (2, 3, 2, 4)
TOTAL = sum(COUNTS) + sum(HELD)
KEY = jax.random.key(0)


def pool(side=SIDE, total=TOTAL):
    """Pictures whose red channel says their row, and an order that mixes them."""
    order = np.random.default_rng(0).permutation(total).astype(np.int32)
    pictures = np.random.default_rng(1).integers(0, 256, (total, side, side, 3)).astype(np.uint8)
    pictures[order, ..., 0] = np.arange(total)[:, None, None]  # of row i
    return {"pictures": pictures, "rows": order}


@functools.cache
def source(**changes):
    data = DataConfig(**{"source": "images", "image_size": SIDE, "images_per_class": 4, **changes})
    return Pictures(data, ("hair", "mouth"), (("a", "b"), ("c", "d")), COUNTS, HELD, load=pool)


def on_device(one):
    return jax.tree.map(jnp.asarray, one.pool)


def class_of_rows(rows):
    edges = np.cumsum([*COUNTS, *HELD])
    return np.searchsorted(edges, rows, side="right") % 4, rows >= sum(COUNTS)


@pytest.mark.parametrize("per_class, sizes", [(4, [4, 4, 4, 0]), (0, [7, 5, 6, 0]), (100, [7, 5, 6, 0])])
def test_a_run_sees_pictures_of_the_training_classes_chosen_by_its_seed(per_class, sizes):
    one = source(images_per_class=per_class)
    items = one.training(Setting(), KEY)
    klass, held = class_of_rows(np.asarray(items.index))
    np.testing.assert_array_equal(klass, items.klass)
    assert np.bincount(klass, minlength=4).tolist() == sizes and not held.any()
    assert len(items.klass) == one.train_images == sum(sizes) and len(np.unique(items.index)) == sum(sizes)
    other = one.training(Setting(), jax.random.key(1))
    assert (np.asarray(other.index) != np.asarray(items.index)).any()


def test_validation_test_and_probe_take_the_parts_that_are_theirs():
    one = source(test_images_per_class=3)
    for items, classes, size in (
        (one.validation(Setting(), KEY), {0, 1, 2}, one.validation_images),
        (one.test(Setting(), KEY), {3}, one.test_images),
        (one.probe_items(ProbeConfig(), KEY, held=True), {0, 1, 2, 3}, sum(HELD)),
        (one.examples(Setting(), 9, KEY), {0, 1, 2, 3}, 8),  # as many as the smallest class has
    ):
        klass, held = class_of_rows(np.asarray(items.index))
        np.testing.assert_array_equal(klass, items.klass)
        assert held.all() and set(klass.tolist()) == classes and len(klass) == size
    shown = one.probe_items(ProbeConfig(), KEY, held=False)
    assert len(shown.index) == sum(COUNTS) and not class_of_rows(np.asarray(shown.index))[1].any()


def test_images_are_the_pictures_of_their_rows_and_are_augmented_in_training_only():
    one = source(flip=True, jitter=(0.2, 0.1, 0.1, 0.1))
    items = one.training(Setting(), KEY)
    plain = one.images(on_device(one), items)
    expected = np.asarray(items.index)[:, None, None] / 255 * np.ones((SIDE, SIDE))
    np.testing.assert_allclose(np.asarray(plain)[..., 0], expected, atol=1e-6)
    keys = jax.random.split(KEY, len(items.klass))
    augmented = one.images(on_device(one), items, keys)
    assert (np.abs(augmented - plain).max((1, 2, 3)) > 1e-3).all()
    np.testing.assert_array_equal(source().images(on_device(one), items, keys), plain)


def test_conditioning_is_a_pair_of_entries_for_each_concept():
    one = source()
    expected = [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    np.testing.assert_array_equal(one.means(Setting()), expected)
    prompts = one.prompts(Setting(), 3, KEY)
    np.testing.assert_array_equal(prompts, np.repeat(np.array(expected)[:, None], 3, axis=1))
    items = one.training(Setting(), KEY)
    np.testing.assert_array_equal(one.conditionings(items), np.array(expected)[np.asarray(items.klass)])
    np.testing.assert_array_equal(one.prompt("b d", Setting()), expected[3])
    assert one.layout.slices == {"hair": slice(0, 2), "mouth": slice(2, 4)}


def test_a_prompt_names_the_whole_words_of_every_concept():
    """Columns of 0 and 1 are worded "not hat", "hat": three of four classes are made of the same three words."""
    words = (("not hat", "hat"), ("not smiling", "smiling"))
    one = Pictures(source().data, ("hat", "smiling"), words, COUNTS, HELD, load=pool)
    for klass, bits in enumerate(one.classes.bits):
        assert one.class_of(one.classes.describe(klass)) == klass
        assert one.class_of(f"{words[1][bits[1]]} {words[0][bits[0]]}") == klass
    for words in ("hat hat", "not hat", "not not smiling hat"):
        with pytest.raises(UserError, match=f"prompt = '{words}': must hold one word for each of hat, smiling"):
            one.class_of(words)


def test_a_prompt_that_names_two_classes_is_refused():
    one = Pictures(
        source().data, ("shade", "tone"), (("light", "light red"), ("red light", "light")), COUNTS, HELD, load=pool
    )
    with pytest.raises(UserError, match="prompt = 'light red light': may mean the classes 00 and 11: give the bits"):
        one.class_of("light red light")
    assert one.class_of("01") == 1 and one.class_of("red light light red") == 2


def test_every_protocol_works_on_pairs_of_entries():
    """Overprompting is mu + lambda (mu_1 - mu_0); random controls keep its length and use all entries."""
    config = dataclasses.replace(
        protocols.ElicitConfig(), protocols=("overprompt", "overprompt_random", "latent", "patch"), concept=""
    )
    queries = protocols.queries(config, source(), Setting(), KEY)
    names = [name for name, _ in protocols.layout(config)]
    asked = np.asarray(queries.conditioning)[:, 0]
    first = names.index("overprompt")
    for i, strength in enumerate(config.overprompt):
        np.testing.assert_allclose(asked[first + i], [-strength, 1 + strength, 0, 1], atol=1e-6)
    random = names.index("overprompt_random")
    length = np.linalg.norm(asked[random : random + 5] - [0, 1, 0, 1], axis=1)
    np.testing.assert_allclose(length, np.sqrt(2) * np.array(config.overprompt), rtol=1e-5, atol=1e-6)


def test_a_tint_mixes_background_and_colour_by_brightness():
    one = source(tint=True)
    assert one.classes.active == ("hair", "mouth", "color") and one.layout.dim == 7
    items = one.training(Setting(sep_col=0.4), KEY)
    klass, _ = class_of_rows(np.asarray(items.index))
    np.testing.assert_array_equal(klass, np.asarray(items.klass) >> 1)
    blue = np.asarray(items.klass) & 1
    assert ((np.asarray(items.color)[:, 2] > 0.5) == blue).all()
    np.testing.assert_array_equal(one.conditionings(items)[:, 4:], items.color)
    pictures = one.pool["pictures"][one.pool["rows"][np.asarray(items.index)]] / 255.0
    grey = (pictures @ [0.299, 0.587, 0.114])[..., None]
    back, front = (np.asarray(c)[:, None, None] for c in (items.background, items.color))
    np.testing.assert_allclose(one.images(on_device(one), items), back * (1 - grey) + front * grey, atol=1e-5)


@pytest.mark.parametrize("sep_col", [0.2, 0.8])
def test_the_signal_of_a_tint_is_the_squared_distance_of_paired_pictures(sep_col):
    one, setting = source(tint=True, images_per_class=0), Setting(sep_col=sep_col)
    signal = np.asarray(one.signals(setting, KEY)["means"])
    assert np.isnan(signal[:2]).all()
    rows = jnp.arange(sum(COUNTS[:3]))  # of the classes that are trained on

    def painted(bit):
        means = one.means(setting)
        items = one.training(setting, KEY).replace(
            index=rows, color=jnp.tile(means[bit, 4:], (len(rows), 1)), background=jnp.ones((len(rows), 3))
        )
        return one.images(on_device(one), items)

    np.testing.assert_allclose(signal[2], ((painted(0) - painted(1)) ** 2).mean(), rtol=1e-4)


def test_distances_of_class_means_do_not_grow_with_the_noise_of_single_pictures():
    """Class 10 is lighter by .2: the distance is .04 for its concept, 0 for the other, however noisy pictures are."""
    draw, counts = np.random.default_rng(0), (400, 400, 400, 400)
    level = np.repeat([0.3, 0.3, 0.5, 0.5], 400)[:, None, None, None]
    values = level + draw.normal(0, 0.08, (1600, SIDE, SIDE, 3))
    noisy = {"pictures": np.round(255 * values.clip(0, 1)).astype(np.uint8), "rows": np.arange(1600, dtype=np.int32)}
    data = DataConfig(source="images", image_size=SIDE)
    one = Pictures(data, ("hair", "mouth"), (("a", "b"), ("c", "d")), counts, (0, 0, 0, 0), load=lambda: noisy)
    np.testing.assert_allclose(one.mean_distances(), [0.04, 0.0], atol=5e-4)
    assert np.isnan(source(tint=True).mean_distances()[2])


# One pool for all runs, and the same bits on every plan.


@struct.dataclass
class Seen:
    """What the pictures of a training add up to."""

    total: jax.Array
    key: jax.Array

    @property
    def evaluated(self):
        return {"total": self.total}


@dataclasses.dataclass(frozen=True)
class Looking:
    """A `Trainable` that adds up the augmented pictures of its batches."""

    source: Pictures
    shards: int = 1
    microbatches = 1

    @property
    def pool(self):
        return self.source.pool

    def init(self, setting):
        side = self.source.data.image_size
        return Seen(jnp.zeros((side, side, 3)), rng.run_key(setting.seed))

    def make_data(self, setting):
        return self.source.training(setting, rng.stream(rng.run_key(setting.seed), "data"))

    def chunk(self, state, setting, data, pool, step, count):
        def look(i, state):
            key = jax.random.fold_in(rng.stream(state.key, "augment"), step + i)
            index = jax.random.randint(key, (4,), 0, len(data.klass))
            images = self.source.images(pool, data.take(index), jax.random.split(key, 4))
            return state.replace(total=0.5 * state.total + images.sum(0))

        return jax.lax.fori_loop(0, count, look, state), jnp.float32(0)


def settings(runs):
    count = len(runs)
    base = jax.tree.map(lambda leaf: jnp.full((count,), leaf, jnp.float32), Setting())
    return dataclasses.replace(base, seed=jnp.asarray(runs, jnp.uint32))


def totals(one, layout, runs, devices=None):
    engine = Engine(Looking(one), settings(runs), Plan(runs=layout), devices)
    state, _ = engine.train(engine.init(), 0, 3)
    state, _ = engine.train(state, 3, 2)
    return engine.fetch(state).total


def test_a_run_in_the_grid_sees_what_it_sees_alone_on_every_plan():
    one = source(flip=True, jitter=(0.2, 0.2, 0.0, 0.1))
    alone = np.concatenate([totals(one, "vmap", [seed]) for seed in (0, 5, 9)])
    assert (alone[0] != alone[1]).any()
    for layout in ("vmap", "map", "unroll", "loop"):
        np.testing.assert_array_equal(totals(one, layout, [0, 5, 9]), alone, err_msg=layout)


def pools_alive(shape):
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays() if array.dtype == np.uint8 and array.shape[-4:] == shape)


@pytest.mark.parametrize("runs", [1, 4, 16])
def test_a_device_holds_one_pool_whatever_the_number_of_runs(runs):
    side, total = 16, TOTAL
    data = DataConfig(source="images", image_size=side, images_per_class=4)
    one = Pictures(data, ("h", "m"), (("a", "b"), ("c", "d")), COUNTS, HELD, load=lambda: pool(side))
    totals(one, "vmap", list(range(runs)))
    assert pools_alive((total, side, side, 3)) == total * side * side * 3


def real_programs():
    """The programs of a study of 240,000 pictures, as they are lowered for its shapes: (name, lowered)."""
    many = (60_000,) * 4
    data = DataConfig(source="images", image_size=SIDE, images_per_class=0, flip=True, test_images_per_class=60_000)
    one = Pictures(data, ("h", "m"), (("a", "b"), ("c", "d")), many, many, pixels="", load=pool)
    remember(one)
    config = tiny.study(network=tiny.NARROW)
    config = dataclasses.replace(config, data=data)
    plan = Plan(runs="vmap")
    spec, of_probe = TrainSpec.from_config(config, plan), ProbeSpec.from_config(config)
    evaluation = EvalSpec.from_config(config, spec, of_probe)
    lossy = dataclasses.replace(evaluation, split="validation")
    stacked, number, shapes = settings([0, 1]), jax.ShapeDtypeStruct((), jnp.int32), one.pool_shapes

    def of_runs(function, *static):
        return jax.vmap(functools.partial(function, *static))

    state = jax.eval_shape(of_runs(TrainSpec.init, spec), stacked)
    items = jax.eval_shape(of_runs(TrainSpec.make_data, spec), stacked)
    yield "training", training_program(spec, plan).lower(state, stacked, items, shapes, number, number)
    for name, function, static in (
        ("data", TrainSpec.make_data, spec), ("losses' data", losses.loss_data, lossy),
        ("prompts", naive_prompts, evaluation),
    ):  # fmt: skip
        yield name, jax.jit(of_runs(function, static)).lower(stacked)
    asked = jax.eval_shape(of_runs(naive_prompts, evaluation), stacked)
    params = state.evaluated
    yield "sampling", jax.jit(of_runs(sampling.draw, evaluation)).lower(params, asked)
    cut = jax.eval_shape(of_runs(losses.loss_data, lossy), stacked)
    for function in (losses.loss_batch, losses.exchange_batch):
        lifted = over_runs(functools.partial(function, lossy), "vmap", 3, 2)
        yield function.__name__, jax.jit(lifted).lower(params, stacked, cut, shapes, number)
    task = probe._Task(of_probe, config.probe, one)
    shown = jax.eval_shape(lambda: one.probe_items(config.probe, KEY, held=False))
    weights = jax.eval_shape(functools.partial(probe.init_params, of_probe), KEY, 1.0)
    begun = probe._State(weights, jax.eval_shape(task.optimizer.init, weights))
    batches = jax.ShapeDtypeStruct((2, 8), jnp.int32)
    yield "probe", probe._train_chunk.lower(task, begun, shown, shapes, batches, number, number, KEY)
    for function in (probe._score, probe._read):
        yield function.__name__, function.lower(task, weights, shown, shapes)
    images = jax.eval_shape(of_runs(sampling.draw, evaluation), params, asked)
    yield (
        "reading",
        jax.jit(over_runs(functools.partial(read, evaluation), "vmap", 2, 1)).lower(params, images, weights),
    )


@pytest.mark.system  # lowers every program of a study
def test_no_constant_of_a_program_grows_with_the_pictures():
    """Neither pixels nor rows nor classes: each would be 0.7 MB or more, in every program and every copy of it."""
    texts = {name: lowered.as_text() for name, lowered in real_programs()}
    assert len(texts) == 11 and f"tensor<480000x{SIDE}x{SIDE}x3xui8>" in texts["training"]  # as an argument
    for name, text in texts.items():
        for line in text.splitlines():
            if "stablehlo.constant" in line and not re.search(r"dense<[-+.\w]*> :", line):  # not one number, repeated
                shape, kind = re.search(r"tensor<((?:\d+x)*)\w*?(\d+)>", line).groups()
                size = math.prod(int(n) for n in shape.split("x")[:-1]) * int(kind) / 8
                assert size < 100_000, (name, line[:200])


def test_naming_a_concept_wrongly_moves_its_own_entries_alone(monkeypatch):
    """With a loss that is linear in the conditioning, the rise is the mean of the weights' differences."""
    one = source(images_per_class=0)
    model = vdm.Vdm.from_config(NetworkConfig(channels=(4,), groups=2), DiffusionConfig(), "xla", 4)
    train = TrainSpec(model, one, OptimConfig(batch_size=6))
    spec = EvalSpec(train, EvaluateConfig(), ProbeSpec(model.network, 2), ElicitConfig(), (1, 4, 1), split="validation")
    weights = jnp.array([1.0, 3.0, 0.0, 10.0])

    def linear(model, params, data_noise, images, conditioning, noise):
        total = conditioning @ weights
        return vdm.LossTerms(total, 0 * total, 0 * total)

    monkeypatch.setattr(vdm, "loss_terms", linear)
    data = losses.loss_data(spec, Setting())
    rise = losses.exchange_batch(spec, {}, Setting(), data, on_device(one), jnp.int32(0))
    bits = one.classes.bits[np.asarray(data.batch.klass[0])]
    expected = [np.where(bits[:, 0] == 0, 2.0, -2.0).mean(), np.where(bits[:, 1] == 0, 10.0, -10.0).mean()]
    np.testing.assert_allclose(rise, expected, rtol=1e-5)
