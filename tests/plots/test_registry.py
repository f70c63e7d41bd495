"""The registry of figures: names in order, and what each needs."""

import numpy as np
import pytest

from cspace_jax.analysis import reasons
from cspace_jax.plots import registry
from cspace_jax.plots.figures import names


def test_figure_names_are_free_of_repetitions():
    assert len(set(names())) == len(names()) == 21


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.setattr(registry, "FIGURES", {})
    return registry.FIGURES


def test_figures_of_the_paper_come_by_number_and_before_the_others(figures):
    for name in ("samples", "fig12", "fig3", "figure", "embeddings"):
        registry.figure(name)(lambda: None)
    assert registry.names() == ("fig3", "fig12", "embeddings", "figure", "samples")


def test_the_first_need_that_is_not_met_says_why(figures, ds):
    asked = []

    def need(words):
        return lambda *given: asked.append(given) or words

    registry.figure("fig3", paper="Fig. 3", needs=(need(""), need("first"), need("second")))(lambda: None)
    registry.figure("free")(lambda: None)
    samples = {1: np.zeros((1, 1, 1, 2, 2, 3), np.uint8)}
    assert figures["fig3"].cannot(ds, samples) == "first" and figures["free"].cannot(ds, samples) == ""
    assert len(asked) == 2 and all(one[0] is ds and one[1] is samples for one in asked)


def test_missing_samples_and_protocols_are_said(ds, elicited):
    class Removed(dict):
        missing = "they were removed"

    assert registry.stored_samples(ds, {}) == "no sample images are stored"
    assert registry.stored_samples(ds, Removed()) == "they were removed"
    assert registry.stored_samples(ds, {1: np.zeros((1, 1, 1, 2, 2, 3), np.uint8)}) == ""
    assert "naive prompting" in reasons.further_protocols(ds, {})
    assert reasons.further_protocols(elicited[0], {}) == ""
    pictures = ds.assign_attrs(config='{"data": {"source": "folder"}}')
    assert registry.rendered_images(ds, {}) == "" and "data-generating process" in registry.rendered_images(
        pictures, {}
    )
