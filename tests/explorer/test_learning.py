"""Charts of learning: speeds and bands are those of the summary."""

import numpy as np
import synthetic
from pages import summarised

from cspace_jax.analysis import intervals, reasons
from cspace_jax.analysis.learning import samples_of
from cspace_jax.explorer import learning, page


def test_speeds_are_those_of_the_summary():
    ds = synthetic.dataset(seeds=tuple(range(6)))
    found = page.CHARTS["speeds"].draw(ds, summarised(ds))
    color = [one for one in found.figure.data if one.name == "unseen class 11"][0]
    times = [level["classes"]["11"]["learning_times"]["color"]["stays_80"] for level in summarised(ds)["levels"]]
    assert times[0]["median"] is None and color.y[0] == 0  # never
    np.testing.assert_allclose(color.y[1:], [1000 / one["median"] for one in times[1:]])
    np.testing.assert_allclose(color.y + color.error_y.array, [1000 / (one["interval"][0] or np.inf) for one in times])
    assert "color, 11, sep_col=0.1: never, 0 of 6 seeds" in found.words


def test_bands_are_the_intervals_over_seeds():
    ds = synthetic.dataset(levels=(0.4,))
    found = page.CHARTS["curves"].draw(ds, summarised(ds))
    values = ds["prob"].sel(protocol="naive").isel(klass=3, concept=0).values
    low, high = intervals.share_interval(values, samples_of(ds))
    rows = found.numbers.query("`class` == '11' and concept == 'color'")
    np.testing.assert_allclose(rows["low"], low, rtol=1e-6)
    np.testing.assert_allclose(rows["high"], high, rtol=1e-6)
    bands = [one for one in found.figure.data if one.fill == "toself"]
    assert len(bands) == 8  # a panel each
    assert found.words.startswith("Coordinates of 4 classes over training, mean over seeds with 95 % interval, n = 3")


def test_speeds_of_tinted_pictures_go_by_the_tint_alone(ds):
    """A label has no signal, the tint has."""
    tinted = ds.assign(signal=ds["signal"].where(ds["concept"] == "color"))
    found = learning.learning_speeds(tinted, summarised(tinted))
    assert set(found.numbers["concept"]) == {"color"} and np.isfinite(found.numbers["signal"]).all()
    unknown = ds.assign(signal=ds["signal"] * np.nan)
    assert reasons.signal(unknown, {}) == "the concept signal was not measured"
