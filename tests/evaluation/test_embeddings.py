"""Embeddings of concepts: cosines against NumPy, drift towards the last checkpoint, labels, a zero network."""

import math

import jax
import numpy as np
import pytest
import tiny

from cspace_jax.config.schema import CONDITIONINGS
from cspace_jax.evaluation import embeddings
from cspace_jax.model import unet
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study(grid={"sep_col": (0.2,), "sep_size": (0.3,)}, network={"conditioning": "common_linear"})
SPEC = TrainSpec.from_config(CONFIG)
SOURCE = SPEC.source
SETTING = jax.tree.map(lambda leaf: leaf[0], tiny.settings(CONFIG))
measure = jax.jit(embeddings.measure, static_argnums=0)


def parameters(config, seed):
    spec = TrainSpec.from_config(config).vdm.network
    shapes = jax.eval_shape(lambda key: unet.init_params(spec, key), jax.random.key(0))
    draw = np.random.default_rng(seed).standard_normal
    return {"network": jax.tree.map(lambda leaf: 0.5 * draw(leaf.shape).astype(np.float32), shapes)}


def test_single_concepts_are_the_published_vectors():
    vectors = np.zeros((4, 11))
    vectors[0, 4:7], vectors[1, 4:7], vectors[2, 7], vectors[3, 7] = (0.6, 0.4, 0.4), (0.4, 0.4, 0.6), 0.6, 0.3
    np.testing.assert_allclose(embeddings.concept_vectors(SOURCE, SETTING), vectors, atol=1e-6)
    assert embeddings.vector_names(SOURCE.classes) == ("red", "blue", "large", "small")


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_cosines_of_every_block_against_numpy(conditioning):
    config = tiny.changed(CONFIG, network={"conditioning": conditioning})
    params = parameters(config, 1)
    found = measure(TrainSpec.from_config(config), params, SETTING)

    def layer(c, weights):
        return c @ weights["kernel"].astype(np.float64) + weights["bias"]

    def gelu(x):
        return x * 0.5 * (1 + np.array([[math.erf(v / 2**0.5) for v in row] for row in x]))

    def mlp(c, weights):
        return gelu(layer(gelu(layer(c, weights["dense_0"])), weights["dense_1"]))

    asked = np.zeros((5, 11))
    asked[:4] = embeddings.concept_vectors(SOURCE, SETTING)
    asked[4] = asked[1] + asked[3]
    shared = mlp(asked, params["network"]["embed_vector"]) if "common" in conditioning else asked
    start = 0
    for number, (name, width) in enumerate(unet.block_features(SPEC.vdm.network).items()):
        weights = params["network"][name]["project_vector"]
        h = mlp(shared, weights["mlp"]) if "mlp" in conditioning else layer(shared, weights["linear"])
        unit = h[:4] / np.linalg.norm(h[:4], axis=1, keepdims=True)
        np.testing.assert_allclose(found.embedding_cosine[number], unit @ unit.T, atol=2e-6)
        np.testing.assert_allclose(found.embedding_classes[0, start : start + width], h[4], rtol=1e-5, atol=1e-5)
        start += width
    assert found.embedding_classes.shape == (1, start)


def test_zero_embeddings_have_no_cosine():
    params = jax.tree.map(np.zeros_like, parameters(CONFIG, 1))
    assert np.isnan(measure(SPEC, params, SETTING).embedding_cosine).all()
