"""All figures of a study: each by its name, those left out with the reason, small studies in reduced form."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import synthetic

from cspace_jax.config import Config, DataConfig
from cspace_jax.errors import UserError
from cspace_jax.plots import (
    figures,
)
from cspace_jax.plots.figures import Inputs, draw, draw_all

CONFIG = Config(study="signal", scale="quick", data=DataConfig(image_size=16))


def test_draw_all_writes_every_name_and_leaves_no_state(ds, samples, tmp_path):
    before = dict(matplotlib.rcParams)
    written = draw_all(Inputs(ds, samples, CONFIG.data), tmp_path, ("fig2", "fig3", "samples"))
    assert sorted(path.name for path in written) == [
        "fig2.pdf", "fig2.png", "fig3.pdf", "fig3.png", "samples.pdf", "samples.png",
    ]  # fmt: skip
    assert all(path.stat().length > 1000 for path in written)
    assert plt.get_fignums() == [] and dict(matplotlib.rcParams) == before
    with pytest.raises(UserError, match="figures = 'fig5': must be one of all, fig2"):
        draw_all(Inputs(ds, samples, CONFIG.data), tmp_path, ("fig5",))


def test_draw_all_says_what_it_leaves_out(ds, tmp_path):
    lines = []
    unknown = ds.assign(signal=ds["signal"] * np.nan)
    assert draw_all(Inputs(unknown, {}, CONFIG.data), tmp_path, ("fig3", "gif", "samples"), lines.append) == []
    assert len(lines) == 3 and "signal was not measured" in lines[0]


def test_figures_that_nobody_named_are_counted_in_one_line(ds, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "names", lambda: ("fig3", "gif", "samples"))
    inputs = Inputs(ds.assign(signal=ds["signal"] * np.nan), {}, CONFIG.data)
    lines = []
    assert draw_all(inputs, tmp_path, ("all",), lines.append) == []
    assert draw_all(inputs, tmp_path, ("all", "gif"), lines.append) == []
    assert [line.split(",")[0] for line in lines] == [
        "3 figures do not apply to this study; --verbose says why",
        "figures: gif left out",
        "2 figures do not apply to this study; --verbose says why",
    ]
    lines.clear()
    assert draw_all(inputs, tmp_path, ("all",), lines.append, verbose=True) == []
    assert [line.split(",")[0] for line in lines] == [f"figures: {name} left out" for name in figures.names()]


@pytest.mark.parametrize("make", ["one level and seed", "all diverged", "two saves"])
def test_small_datasets_are_drawn_in_reduced_form(make, tmp_path):
    ds = {
        "one level and seed": lambda: synthetic.dataset(levels=(0.2,), seeds=(0,), steps=(500, 1000, 5000)),
        "all diverged": lambda: synthetic.dataset(levels=(0.2, 0.4), seeds=(0,), diverged=(0, 1)),
        "two saves": lambda: synthetic.dataset(levels=(0.2, 0.4), seeds=(0, 1), steps=(1, 2)),
    }[make]()
    lines = []
    names = ("fig3", "fig4", "fig12", "gif")
    written = draw_all(Inputs(ds, synthetic.sample_images(ds, every=1), CONFIG.data), tmp_path, names, lines.append)
    assert len(written) == (0 if make == "all diverged" else 7)
    assert bool(lines) == (make == "all diverged")


def test_figures_of_what_was_not_measured_are_left_out(ds, tmp_path):
    lines = []
    names = ("fig6", "fig16", "fig17", "embeddings")
    assert draw_all(Inputs(ds, {}, CONFIG.data), tmp_path, names, lines.append) == []
    assert [line.split(",")[0] for line in lines] == [f"figures: {name} left out" for name in names]


def test_figures_of_masking_need_several_fractions(tmp_path):
    lines = []
    names = ("fig7", "fig8", "fig9", "fig10")
    single = synthetic.dataset()
    study = Config(study="signal", scale="quick")
    samples = synthetic.sample_images(single)
    assert figures.draw_all(figures.Inputs(single, samples, study.data), tmp_path, names, show=lines.append) == []
    assert len(lines) == 4 and all("masked fraction does not vary" in line for line in lines)


@pytest.mark.parametrize("name", ["curves", "product", "fig16", "elicitation", "samples"])
def test_a_figure_of_runs_that_all_diverged_is_one_line(name):
    ds = synthetic.dataset(levels=(0.2, 0.4), seeds=(0,), diverged=(0, 1))
    with pytest.raises(UserError, match=f"^figure {name}: all runs diverged, only the classes can be drawn$"):
        draw(name, Inputs(ds, {}, CONFIG.data))
    assert draw("fig2", Inputs(ds, {}, CONFIG.data)).axes
