"""Ranges and conditioning against the published layout and numbers."""

import ast
import dataclasses
import itertools
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspace_jax.config.concepts import TABLE
from cspace_jax.config.schema import CONCEPTS
from cspace_jax.data import concepts, datasets
from cspace_jax.data.concepts import ConceptVector, class_ranges, conditioning, mean_conditionings

ROOT = pathlib.Path(__file__).parents[2]
SUBSETS = [c for size in range(1, 7) for c in itertools.combinations(CONCEPTS, size)]


def random_vector(n: int = 5) -> ConceptVector:
    rng = np.random.default_rng(0)
    floats = {"x": n, "y": n, "size": n, "color": (n, 3), "bg_color": (n, 3)}
    drawn = {name: jnp.asarray(rng.uniform(0.1, 0.9, shape), jnp.float32) for name, shape in floats.items()}
    return ConceptVector(shape=jnp.asarray(rng.integers(0, 2, n), jnp.int32), **drawn)


def test_slices_tile_the_conditioning_vector():
    covered = [i for name in CONCEPTS for i in range(concepts.CONDITIONING_DIM)[concepts.SLICES[name]]]
    assert covered == list(range(concepts.CONDITIONING_DIM))


def test_what_type_checkers_see_of_a_concept_vector_is_the_table():
    tree = ast.parse(pathlib.Path(concepts.__file__).read_text())
    (seen,) = [one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == "ConceptVector"]
    fields = {
        one.target.id: eval(ast.unparse(one.annotation), vars(concepts))
        for one in seen.body
        if isinstance(one, ast.AnnAssign)
    }
    made = {one.name: one.type for one in dataclasses.fields(ConceptVector)}
    assert list(fields) == list(CONCEPTS) and {name: str(one) for name, one in fields.items()} == {
        name: str(one) for name, one in made.items()
    }


def test_a_narrow_spread_of_zero_is_one(monkeypatch):
    monkeypatch.setitem(TABLE, "size", dataclasses.replace(TABLE["size"], narrow_spread=0.0))
    spreads = [float(class_ranges(0.2, 0.4, 0.2, narrow=narrow).spread["size"]) for narrow in (False, True)]
    assert spreads == pytest.approx([0.15, 0.0])
    assert float(class_ranges(0.2, 0.4, 0.2, narrow=True).spread["color"]) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("sep_col", "red", "width"), [(0.174, (0.587, 0.413), 0.02175), (0.2, (0.6, 0.4), 0.025), (0.8, (0.9, 0.1), 0.1)]
)
def test_color_ranges_are_the_published_ones(sep_col, red, width):
    ranges = class_ranges(sep_col, 0.4, 0.2)
    high, low = red
    np.testing.assert_allclose(ranges.mean["color"], [[high, low, low], [low, low, high]], atol=1e-6)
    np.testing.assert_allclose(ranges.spread["color"], width, atol=1e-7)


@pytest.mark.parametrize(
    ("sep_size", "means", "width"),
    [(0.4, (0.65, 0.25), 0.15), (0.3, (0.6, 0.3), 0.1125), (0.2, (0.55, 0.35), 0.075), (0.35, (0.625, 0.275), 0.13125)],
)
def test_size_ranges_are_the_published_ones(sep_size, means, width):
    ranges = class_ranges(0.2, sep_size, 0.2)
    np.testing.assert_allclose(ranges.mean["size"], means, atol=1e-6)
    np.testing.assert_allclose(ranges.spread["size"], width, atol=1e-7)
    np.testing.assert_allclose(class_ranges(0.2, sep_size, 0.2, narrow=True).spread["size"], width / 3, atol=1e-7)


def test_background_ranges_are_the_published_ones():
    ranges = class_ranges(0.2, 0.4, 0.3)
    np.testing.assert_allclose(ranges.mean["bg_color"], [[0.65] * 3, [0.35] * 3], atol=1e-6)
    np.testing.assert_allclose(ranges.spread["bg_color"], 0.0375, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(sep_col=st.floats(0, 1), sep_size=st.floats(0, 0.8), sep_bg=st.floats(0, 1))
def test_class_means_are_separated_by_the_signal(sep_col, sep_size, sep_bg):
    ranges = class_ranges(sep_col, sep_size, sep_bg)
    np.testing.assert_allclose(ranges.mean["color"][0] - ranges.mean["color"][1], [sep_col, 0, -sep_col], atol=1e-6)
    np.testing.assert_allclose(ranges.mean["size"][0] - ranges.mean["size"][1], sep_size, atol=1e-6)
    np.testing.assert_allclose(ranges.mean["bg_color"][0] - ranges.mean["bg_color"][1], [sep_bg] * 3, atol=1e-6)


def test_ranges_of_a_grid_equal_those_of_each_run():
    seps = jnp.array([0.1, 0.4, 0.8]), jnp.array([0.4, 0.3, 0.2]), jnp.array([0.2, 0.2, 0.6])
    together = jax.jit(jax.vmap(class_ranges))(*seps)
    for run in range(3):
        alone = class_ranges(*(float(sep[run]) for sep in seps))
        jax.tree.map(lambda a, b, r=run: np.testing.assert_allclose(a[r], b, atol=1e-7), together, alone)


@pytest.mark.parametrize("active", SUBSETS)
def test_inactive_concepts_are_zero_and_active_ones_keep_their_value(active):
    cv = random_vector()
    masked, full = conditioning(active, cv), conditioning(CONCEPTS, cv)
    for name in CONCEPTS:
        expected = full[:, concepts.SLICES[name]] * (name in active)
        np.testing.assert_array_equal(masked[:, concepts.SLICES[name]], expected)


def test_conditioning_keeps_leading_axes():
    cv = random_vector(6)
    grid = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), cv)
    flat, shaped = conditioning(("shape", "color"), cv), conditioning(("shape", "color"), grid)
    np.testing.assert_array_equal(flat.reshape(2, 3, 11), shaped)


def test_mean_conditionings_of_the_paper():
    ranges = class_ranges(0.2, 0.4, 0.2)
    means = mean_conditionings(("color", "size"), ranges)
    np.testing.assert_allclose(means[3], [0, 0, 0, 0, 0.4, 0.4, 0.6, 0.25, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(means[0], [0, 0, 0, 0, 0.6, 0.4, 0.4, 0.65, 0, 0, 0], atol=1e-6)
    shapes = mean_conditionings(("shape", "x"), ranges)
    np.testing.assert_allclose(shapes[:, :4], [[1, 0, -0.4, 0], [1, 0, 0.4, 0], [0, 1, -0.4, 0], [0, 1, 0.4, 0]])


ADDED = """    Concept("tone", ("dim", "bright"), separation=0.4, center=0.7, ends=(-1.0, 1.0), spread=1 / 8,
            neutral=(1.0, 1.0), title="brightness"),
"""
SHOWN = """
import jax, jax.numpy as jnp
import numpy as np
from cspace_jax.config.concepts import CONCEPTS
from cspace_jax.data import concepts, signal
from cspace_jax.data.opened import source_of
from cspace_jax.config.setting import Setting
from cspace_jax.errors import UserError
from cspace_jax.plots import style
from cspace_jax.studies import loading

config = loading.configure("signal:smoke", {"data.active": ("color", "tone")})
try:
    loading.configure("signal:smoke", {"data.active": ("tone", "color")})
except UserError as error:
    print(error)
source, setting = source_of(config.data), Setting()
print(concepts.LAYOUT.dim, concepts.SLICES["tone"], source.classes.describe(3), style.concept_title("tone"))
dataset = source.draw(setting, jnp.repeat(jnp.arange(4), 200), jax.random.key(0), at_mean=False)
images = np.asarray(source.images((), dataset))
print(*(round(float(images[klass * 200 :][:200].max(axis=-1).mean()), 2) for klass in (0, 1)))
vectors = np.asarray(source.conditionings(dataset))
print(*np.round([vectors[:200, 11].min(), vectors[:200, 11].max(), source.means(setting)[0, 11]], 2))
print(signal.jacobian_norms(jax.tree.map(lambda leaf: leaf[:1], dataset.cv), 8, 1.0).shape)
print(np.asarray(dataset.cv.color).tobytes().hex()[:64])
"""


@pytest.mark.system
def test_a_new_concept_is_an_entry_of_the_table_and_its_pixels(tmp_path):
    shutil.copytree(ROOT / "cspace_jax", tmp_path / "cspace_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, after in [
        ("config/concepts.py", ")  # fmt: skip\n\nTABLE", f"{ADDED})  # fmt: skip\n\nTABLE"),
        ("data/rendering.py", "return background + mask", "return cv.tone[..., None, None, None] * background + mask"),
    ]:
        file = tmp_path / "cspace_jax" / name
        assert file.read_text().count(before) == 1
        file.write_text(file.read_text().replace(before, after))
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    refused, seen, dim_and_bright, vector, norms, color = done.stdout.splitlines() or [done.stderr]
    assert refused.endswith("must follow the order shape, x, y, color, size, bg_color, tone")
    assert seen == "12 slice(11, 12, None) blue bright brightness"
    assert float(dim_and_bright.split()[0]) < float(dim_and_bright.split()[1])
    low, high, mean = map(float, vector.split())
    assert 0.45 <= low < mean == 0.5 < high <= 0.55
    assert norms == "(1, 7)"
    # The other concepts are drawn as before.
    active, bits = ("color", "size"), np.repeat(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), 200, axis=0)
    key = jax.random.split(jax.random.key(0))[0]
    drawn = datasets.sample_concepts(active, class_ranges(0.2, 0.4, 0.2), jnp.asarray(bits), key, at_mean=False)
    assert np.asarray(drawn.color).tobytes().hex()[:64] == color
