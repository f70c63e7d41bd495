"""Cosines of embeddings in the dataset, and the way of held-out classes to the last checkpoint."""

import numpy as np
import synthetic

from cspace_jax.analysis.embeddings import extend_embeddings
from cspace_jax.data.concepts import classes
from cspace_jax.evaluation import embeddings


def test_results_hold_cosines_and_the_way_to_the_last_checkpoint():
    """Three concepts, two runs, three steps; held-out classes by hand in two blocks of two."""
    active = ("color", "size", "bg_color")
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1), active=active, steps=(1, 2, 3))
    held_out = np.zeros((3, 2, 4, 4), np.float32)
    held_out[..., 0] = 1.0
    held_out[0, :, :, 1] = 1.0  # half a right angle to the last step
    held_out[1:, :, :, 3] = 2.0  # the second block: zero at the first step
    cosine = np.random.default_rng(0).standard_normal((3, 2, 2, 6, 6)).astype(np.float32)
    raw = {t + 1: {"embedding_cosine": cosine[t], "embedding_classes": held_out[t]} for t in range(3)}
    ds = extend_embeddings(ds, raw, {"down": 2, "up": 2}, embeddings.vector_names(classes(active)))
    one = ds["embedding_cosine"].sel(step=2, block="up", vector="blue", other="dark", run=1)
    assert float(one) == cosine[1, 1, 1, 1, 5]
    to_last = ds["embedding_to_last"].transpose("run", "step", "block", "klass").values
    trained = classes(active).trained
    assert np.isnan(to_last[..., trained]).all()
    np.testing.assert_allclose(to_last[:, :, 0][..., ~trained][:, 0], 0.5**0.5, rtol=1e-6)
    np.testing.assert_allclose(to_last[:, 1:][..., ~trained], 1.0, rtol=1e-6)
    assert np.isnan(to_last[:, 0, 1]).all()
