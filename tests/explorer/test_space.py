"""The live view holds the dataset."""

import numpy as np
from pages import rendered, unpacked

from cspace_jax.explorer import space


def test_the_live_view_holds_the_dataset(elicited):
    found = space.payload(elicited)
    prob = elicited["prob"].sel(protocol="naive").transpose("run", "step", "klass", "concept").values
    np.testing.assert_array_equal(unpacked(found["prob"]), prob)
    answers = elicited["capability_split"].transpose("run", "step", "protocol", "klass").values
    np.testing.assert_array_equal(unpacked(found["answers"]), answers.astype("f4"))
    assert [one["name"] for one in found["protocols"]] == elicited["protocol"].values.tolist()
    assert found["steps"] == [500, 2000, 9000] and [one["seed"] for one in found["runs"]] == [0, 1, 0, 1]
    assert [one["level"] for one in found["runs"]] == [0, 0, 1, 1]
    assert [one["code"] for one in found["classes"] if not one["trained"]] == ["11"]


def test_a_diverged_run_stays_nan_and_is_marked(ds):
    found = space.payload(ds)
    assert [one["diverged"] for one in found["runs"]] == [False, True, False, False]
    for name in ("prob", "smooth"):
        assert np.isnan(unpacked(found[name])[1]).any() and np.isfinite(unpacked(found[name])[[0, 2, 3]]).all()
    assert "1 runs diverged" in rendered(ds)
