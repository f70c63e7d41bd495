"""Masked conditionings: which images, which entries, and that nothing else changes."""

import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cspace_jax import rng
from cspace_jax.config import DataConfig, from_config_dict, to_dict
from cspace_jax.config.setting import Setting
from cspace_jax.data import masking
from cspace_jax.data.concepts import SLICES
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError

DATA = DataConfig(active=("shape", "color"), image_size=8, images_per_class=100, train_ratio=0.85)


SOURCE = Renderer(DATA)


ALPHAS = (0.0, 0.01, 0.07, 0.1, 0.25, 0.28, 0.29, 0.3, 0.333, 0.5, 0.57, 0.58, 0.7, 0.75, 0.9, 0.99, 1.0)


def config(**groups):
    data = {"active": ("shape", "color")} | groups.pop("data", {})
    return tiny.study(data=data, grid={"sep_col": (0.8,), **groups.pop("grid", {})}, **groups)


@jax.jit
def marked(alpha, seed=0):
    key = rng.run_key(seed)
    dataset, _ = SOURCE.split(Setting(), rng.stream(key, "data"))
    return masking.mark(SOURCE, alpha, dataset, rng.stream(key, "mask"))


def test_exactly_the_floor_of_images_of_the_class_is_masked():
    masks = jax.jit(jax.vmap(marked))(jnp.array(ALPHAS)).masked
    dataset = marked(0.0)
    of_class = np.asarray(dataset.klass) == 2  # the red triangle, "10"
    number = int(of_class.sum())
    assert 70 < number < 100
    assert not masks[:, ~of_class].any()
    expected = [math.floor(fractions.Fraction(str(alpha)) * number) for alpha in ALPHAS]
    assert masks.sum(1).tolist() == expected
    assert (np.asarray(masks[:-1]) <= np.asarray(masks[1:])).all()  # nested


def test_counts_of_decimal_fractions_are_exact():
    numbers = np.arange(1, 3001)
    counts = jax.jit(jax.vmap(jax.vmap(masking.count, (None, 0)), (0, None)))
    alphas = [i / 100 for i in range(101)]
    found = np.asarray(counts(jnp.array(alphas), jnp.array(numbers)))
    np.testing.assert_array_equal(found, np.arange(101)[:, None] * numbers // 100)
    assert masking.count(0.29, 100) == 29 and math.floor(0.57 * 100) == 56  # what a plain floor would give


def test_the_subset_is_random_and_belongs_to_the_seed():
    one, other = marked(0.5, 0), marked(0.5, 1)
    assert (np.asarray(one.masked) != np.asarray(other.masked)).any()
    chosen = np.flatnonzero(np.asarray(one.klass) == 2)
    first, second = np.array_split(np.asarray(one.masked)[chosen], 2)
    assert 0.2 < first.mean() < 0.8 and 0.2 < second.mean() < 0.8


@pytest.mark.parametrize(("mode", "value"), [("zero", 0.0), ("null", -1.0), ("token", 7.0)])
def test_only_the_concept_of_masked_images_is_replaced(mode, value):
    data = DataConfig(active=("shape", "color", "size"), mask_mode=mode)
    c = jnp.arange(33.0).reshape(3, 11) + 1
    params = {masking.TOKEN: jnp.full(3, 7.0)}
    filled = masking.fill(Renderer(data), params, -1.0, c, jnp.array([False, True, False]))
    expected = np.array(c)
    expected[1, SLICES["color"]] = value
    np.testing.assert_array_equal(filled, expected)


def test_what_is_masked_by_default():
    assert DataConfig(active=("shape", "color")).masked == ("color", "10")
    assert DataConfig(active=("color", "size")).masked == ("color", "01")
    assert DataConfig(active=("shape", "size")).masked == ("shape", "01")
    assert DataConfig(active=("shape", "color"), mask_concept="shape").masked == ("shape", "01")
    assert DataConfig(active=("shape", "color", "size")).masked == ("color", "001")
    assert DataConfig(active=("shape", "color"), mask_class="00").masked == ("color", "00")


def test_every_batch_draws_its_own_lots():
    data = DataConfig(active=("shape", "color"), mask_images="batch")
    dataset, _ = Renderer(data).split(Setting(), rng.stream(rng.run_key(0), "data"))
    assert masking.mark(Renderer(data), 0.5, dataset, jax.random.key(0)).masked is None
    draws = {a: np.asarray(masking.draw(Renderer(data), a, dataset, jax.random.key(1))) for a in (0.0, 0.3, 1.0)}
    of_class = np.asarray(dataset.klass) == 2
    assert not draws[0.0].any() and (draws[1.0] == of_class).all() and not draws[0.3][~of_class].any()
    assert abs(draws[0.3][of_class].mean() - 0.3) < 4 * math.sqrt(0.21 / of_class.sum())
    assert (draws[0.3] != np.asarray(masking.draw(Renderer(data), 0.3, dataset, jax.random.key(2)))).any()


BAD = {
    "above one": ({"grid": {"mask": (0.5, 1.2)}}, "grid.mask[1] = 1.2: must be in [0, 1]"),
    "negative": ({"grid": {"mask": (-0.1,)}}, "grid.mask[0] = -0.1: must be in [0, 1]"),
    "repeated": ({"grid": {"mask": (0.5, 0.5)}}, "grid.mask"),
    "concept": ({"data": {"mask_concept": "size"}}, "data.mask_concept = 'size': must be one of shape, color"),
    "mode": ({"data": {"mask_mode": "nul"}}, "did you mean 'null'?"),
    "images": ({"data": {"mask_images": "all"}}, "data.mask_images = 'all': must be one of fixed, batch"),
    "held out": ({"data": {"mask_class": "11"}}, "data.mask_class = '11': must be a training class, one of 00, 01, 10"),
    "no class": ({"data": {"mask_class": "1"}}, "(bits of shape, color)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    groups, words = BAD[case]
    with pytest.raises(UserError) as error:
        from_config_dict(to_dict(config(**groups)))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.network
def test_validation_and_prompts_are_never_masked():
    one, other = (Setting(mask=alpha) for alpha in (0.0, 1.0))
    for function in (lambda s: SOURCE.validation(s, jax.random.key(0)),
                     lambda s: SOURCE.test(s, jax.random.key(0))):  # fmt: skip
        first, second = (SOURCE.conditionings(function(setting)) for setting in (one, other))
        np.testing.assert_array_equal(first, second)
        assert np.asarray(first)[:, SLICES["color"]].all() and function(other).masked is None
    prompts = [SOURCE.prompts(setting, 2, jax.random.key(0)) for setting in (one, other)]
    np.testing.assert_array_equal(*prompts)
