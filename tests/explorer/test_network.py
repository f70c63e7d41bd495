"""Charts of the network: their numbers are the dataset's."""

import numpy as np
import synthetic
from pages import summarised

from cspace_jax.analysis.levels import levels
from cspace_jax.explorer import network, page


def test_losses_are_means_of_the_term_that_depends_on_the_network():
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100, 200), diverged=(1,))
    ds["loss"].values[...] = np.random.default_rng(0).random(ds["loss"].shape) + 1
    found = network.losses(ds, {})
    weak = found.numbers.query("level == 'sep_col=0.2' and split == 'test'")
    chosen = ds["loss"].sel(term="diffusion", split="test")
    np.testing.assert_allclose(weak["mean"], chosen.isel(run=[0, 2]).mean("run"))
    assert (weak["n"] == 2).all() and weak["low"].isna().all()
    strong = found.numbers.query("level == 'sep_col=0.8' and split == 'test'")
    assert (strong["low"] < strong["mean"]).all() and (strong["mean"] < strong["high"]).all()
    lines = [one for one in found.figure.data if one.mode == "lines" and one.fill is None]
    assert len(lines) == 4 and found.figure.layout.yaxis.type == "log"
    end = float(chosen.isel(run=[3, 4, 5], step=-1).mean())
    assert f"sep_col=0.8, test: {end:.2f}" in found.words and "n = 2 to 3" in found.words


def test_similarities_are_means_over_the_seeds_of_one_level(elicited):
    assert "not measured" in page.CHARTS["embeddings"].cannot(elicited, {})
    made, raw = synthetic.embedded(elicited)
    assert page.CHARTS["embeddings"].cannot(made, summarised(made)) == ""
    found = network.similarities(made, {})
    rows = found.numbers.query("pair == 'blue and red' and block == 'mid 1'")
    level = next(one for one in levels(made) if one.label == rows["level"].iloc[0])
    cosines = made["embedding_cosine"].sel(vector="blue", other="red", block="mid_block_1").isel(run=list(level.runs))
    np.testing.assert_allclose(rows["cosine"], cosines.mean("run"), rtol=1e-6)
    assert rows["step"].tolist() == sorted(raw) and f"mean of {len(level.runs)} seeds" in found.words
