"""Similarities of embeddings: a line a block, a panel a pair."""

import numpy as np
import pytest
import synthetic
from drawn import panels

from cspace_jax.analysis.levels import levels
from cspace_jax.plots import embeddings as similarity_plots
from cspace_jax.plots import (
    progress,
)


def test_embeddings_have_a_line_a_block_and_a_panel_a_pair(elicited):
    ds, _ = elicited
    ds, raw = synthetic.embedded(ds)
    axes = panels(similarity_plots.similarities(ds))
    assert [ax.get_title() for ax in axes] == [
        "blue and red",
        "blue and large",
        "blue and small",
        "class 11, to the last step",
    ]
    level = progress.choose_level(levels(ds), ds, "naive")
    expected = [raw[step]["embedding_cosine"][2 * level : 2 * level + 2, 1, 1, 3].mean() for step in raw]
    line = next(one for one in axes[2].lines if one.get_label() == "mid 1")
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert axes[3].lines[0].get_ydata()[-1] == pytest.approx(1.0)
