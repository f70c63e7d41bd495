"""The charts of masked fractions."""

import json

import numpy as np
import synthetic
from pages import summarised

from cspace_jax.explorer import page


def test_masks_have_a_tab_of_their_own():
    ds = synthetic.masked()
    found = page.CHARTS["masking"].draw(ds, summarised(ds))
    red = next(one for one in found.figure.data if one.name == "R")
    rising = summarised(ds)["underspecification"]["levels"]
    np.testing.assert_allclose(red.y, [level["rgb"]["r"]["mean"] for level in rising])
    channels = [one for one in found.figure.data if one.name in ("R", "G", "B")]
    assert len({one.marker.symbol for one in channels}) == 3
    assert list(red.x) == [0, 0.25, 0.5, 1] and red.y[0] < red.y[-1]
    assert "color at 100%" in found.words
    times = [level["steps_to_80"]["color"]["median"] for level in rising]
    color, never = (one for one in found.figure.data if one.xaxis == "x2" and one.legendgroup == "colour")
    np.testing.assert_allclose(color.y, np.array(times, float))
    np.testing.assert_array_equal(never.x, [0.25, 0.5, 1][-len(never.x) :])
    assert np.isnan(color.y[-1]) and list(never.y) == [ds["step"][-1]] * len(never.x)
    without = synthetic.dataset()
    assert "does not vary" in page.CHARTS["masking"].cannot(without, summarised(without))


def test_masked_pictures_have_no_empty_panel_of_colours():
    ds = synthetic.masked()
    config = json.loads(ds.attrs["config"]) | {"data": {"source": "folder"}}
    pictures = ds.assign_attrs(config=json.dumps(config))
    assert not any("redness" in one for one in summarised(pictures)["underspecification"]["groups"])
    axes = [page.CHARTS["masking"].draw(one, summarised(one)).figure.layout for one in (ds, pictures)]
    assert [len([name for name in one if name.startswith("xaxis")]) for one in axes] == [3, 2]
