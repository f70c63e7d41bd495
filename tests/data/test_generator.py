"""A generator of one's own: its classes, vectors and images follow from two functions of one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cspace_jax.config import DataConfig
from cspace_jax.config.setting import Setting
from cspace_jax.data.generator import Generator
from cspace_jax.errors import UserError

DATA = DataConfig(source="bars.py:Bars", image_size=4)


class Bars(Generator):
    concepts = {"tilt": ("flat", "upright"), "tone": ("dark", "bright")}

    def sample(self, setting, bits, key, at_mean):
        shift = 0.0 if at_mean else 0.1 * jax.random.uniform(key)
        return {"tilt": bits[0], "tone": 0.5 + setting.sep_col * (bits[1] - 0.5) + shift}

    def render(self, values):
        line = jnp.arange(4) == 1
        bar = jnp.where(values["tilt"], line[:, None], line[None, :])
        return jnp.broadcast_to((3.0 * values["tone"] * bar)[..., None], (4, 4, 3))


class Toned(Bars):
    def condition(self, values, bits):
        return {"tilt": bits[0], "tone": jnp.stack([values["tone"], values["tone"] ** 2])}


class Wrong(Bars):
    def condition(self, values, bits):
        return {"tone": values["tone"], "tilt": bits[0]}


def test_classes_and_vectors_follow_from_the_concepts():
    source, setting = Bars(DATA), Setting(sep_col=0.4)
    assert source.classes.names == ("00", "01", "10", "11") and source.classes.describe(2) == "upright dark"
    assert source.layout.dim == 4
    np.testing.assert_array_equal(source.means(setting), [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]])
    assert Toned(DATA).layout.dim == 3
    np.testing.assert_allclose(Toned(DATA).means(setting)[1:3], [[0, 0.7, 0.49], [1, 0.3, 0.09]], rtol=1e-6)


def test_images_are_rendered_one_by_one_and_clipped():
    source, setting = Bars(DATA), Setting(sep_col=0.4)
    items = source.draw(setting, jnp.array([2, 1]), jax.random.key(0), at_mean=True)
    images = np.asarray(source.images((), items))
    assert images.shape == (2, 4, 4, 3) and images.max() == 1.0
    np.testing.assert_allclose(images[0, 1], 0.9, rtol=1e-6)  # upright: the first axis is x
    assert not images[0, [0, 2, 3]].any() and (images[1][:, 1] == 1).all() and not images[1][:, 0].any()


def test_it_is_known_by_its_kind_configuration_and_fingerprint():
    assert Bars(DATA, "1") == Bars(DATA, "1") and hash(Bars(DATA, "1")) == hash(Bars(DATA, "1"))
    others = [Bars(DATA, "2"), Toned(DATA, "1"), Bars(DataConfig(source="bars.py:Bars", image_size=8), "1")]
    assert all(Bars(DATA, "1") != other for other in others)


def test_entries_in_another_order_than_the_concepts_are_refused():
    with pytest.raises(UserError, match=r"condition returns \['tone', 'tilt'\], must be \['tilt', 'tone'\]"):
        _ = Wrong(DATA).layout


def test_concepts_need_not_be_in_the_order_of_the_alphabet():
    class Turned(Bars):
        concepts = dict(reversed(Bars.concepts.items()))

        def condition(self, values, bits):
            return {"tone": 2 + bits[0], "tilt": jnp.stack([bits[1], bits[1]])}

    source = Turned(DATA)
    assert [name for name, _, _ in source.layout.entries] == ["tone", "tilt"] and source.classes.active[0] == "tone"
    np.testing.assert_array_equal(source.means(Setting()), [[2, 0, 0], [2, 1, 1], [3, 0, 0], [3, 1, 1]])


class Three(Bars):
    concepts = {**Bars.concepts, "side": ("left", "right")}


@pytest.mark.parametrize("held_out", [(), ("111",)])
def test_every_training_class_of_three_concepts_is_trained_on(held_out):
    source = Three(DataConfig(source="bars.py:Three", image_size=4, images_per_class=20, held_out=held_out))
    training, validation = source.split(Setting(), jax.random.key(0))
    trained = len(source.classes.train_ids)
    counts = [np.bincount(part.klass, minlength=8) for part in (training, validation)]
    np.testing.assert_array_equal(sum(counts), np.where(source.classes.trained, 20, 0))
    assert (trained, len(training.klass)) == (7 if held_out else 4, source.train_images)
    assert source.train_images + source.validation_images == 20 * trained


@pytest.mark.parametrize(
    ("concepts", "words"),
    [
        ({"tilt": {"flat", "upright"}, "tone": ("dark", "bright")}, "concept 'tilt' must have two different words"),
        ({1: ("flat", "upright"), "tone": ("dark", "bright")}, "concept 1 must have a name in text"),
        ({"": ("flat", "upright"), "tone": ("dark", "bright")}, "concept '' must have a name in text"),
        (["tilt", "tone"], "concepts must be a dict of names and words"),
    ],
)
def test_concepts_are_names_in_text_with_two_words_in_order(concepts, words):
    kind = type("Odd", (Bars,), {"concepts": concepts})
    with pytest.raises(UserError, match=words):
        _ = kind(DATA).classes


def test_images_of_whole_numbers_are_refused():
    class Whole(Bars):
        def render(self, values):
            return (255 * super().render(values)).astype(jnp.uint8)

    source = Whole(DATA)
    items = source.draw(Setting(), jnp.array([2]), jax.random.key(0), at_mean=True)
    with pytest.raises(UserError, match="render gives uint8, must be floating point in"):
        source.images((), items)
