"""Charts of the page: the numbers of analysis, seeds as points, one of one's own."""

import io

import numpy as np
import pandas as pd
import synthetic
from pages import data_of, rendered, summarised

from cspace_jax.analysis.levels import levels
from cspace_jax.explorer import charts, page
from cspace_jax.plots import elicitation


def test_seeds_are_points_where_there_is_no_interval(elicited):
    made = synthetic.embedded(elicited)[0]
    for name in ("curves", "protocols", "losses"):
        found = page.CHARTS[name].draw(made, summarised(made))
        points = [one for one in found.figure.data if one.mode == "markers"]
        assert "seeds as points" in found.words and {len(one.x) for one in points} == {2 * made.sizes["step"]}, name
        assert {one.legendgroup for one in points} <= {one.name for one in found.figure.data if one.showlegend}
    color = next(one for one in page.CHARTS["curves"].draw(made, summarised(made)).figure.data if one.mode == "markers")
    expected = made["prob"].sel(protocol="naive", klass="00", concept="color").isel(run=[0, 1]).values
    np.testing.assert_allclose(color.y, expected.ravel(), rtol=1e-6)
    many = synthetic.dataset(levels=(0.4,))
    found = page.CHARTS["curves"].draw(many, summarised(many))
    assert not [one for one in found.figure.data if one.mode == "markers"]  # three seeds have a band


def test_charts_say_the_same_numbers_as_analysis(elicited):
    found = data_of(rendered(synthetic.embedded(elicited)[0]))["charts"]
    assert list(found) == ["curves", "speeds", "protocols", "losses", "embeddings"]
    table = pd.read_csv(io.StringIO(found["protocols"]["csv"]), dtype={"class": str})
    level = levels(elicited)[1]
    scores = elicitation.Row(3, "capability_split").scores(elicited, level, "guidance")
    rows = table[(table["level"] == level.label) & (table["protocol"] == "guidance")]
    np.testing.assert_allclose(rows["mean"], scores.mean(0), rtol=1e-5)
    assert rows["n"].tolist() == [2, 2, 2] and rows["low"].isna().all()  # two seeds: no interval
    curves = pd.read_csv(io.StringIO(found["curves"]["csv"]), dtype={"class": str})
    own = curves[(curves["level"] == level.label) & (curves["class"] == "11") & (curves["concept"] == "size")]
    expected = elicited["prob"].sel(protocol="naive", concept="size", klass="11").isel(run=[2, 3]).mean("run")
    np.testing.assert_allclose(own["mean"], expected, rtol=1e-5)


def test_a_chart_of_ones_own_comes_last(ds, monkeypatch):
    monkeypatch.setattr(charts, "CHARTS", dict(charts.CHARTS))
    monkeypatch.setattr(page, "CHARTS", charts.CHARTS)

    @charts.chart("mine", "Mine")
    def mine(ds, summary):
        fig = charts.panels(1, 1)
        charts.line(fig, (1, 1), ds["step"].values, ds["prob"].values[0, :, 0, 3, 0], "one", "#222222")
        return charts.Chart(fig, pd.DataFrame({"a": [1]}), "One line.")

    text = rendered(ds)
    assert list(data_of(text)["charts"])[-1] == "mine" and "One line." in text
