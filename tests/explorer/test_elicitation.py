"""The chart of protocols: seeds with a broken query, levels that are not drawn."""

import numpy as np
import synthetic
from pages import rendered, summarised

from cspace_jax.analysis import capability
from cspace_jax.analysis.levels import levels
from cspace_jax.explorer import page


def test_levels_that_are_not_drawn_are_in_the_numbers_and_told():
    settings = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    made = synthetic.dataset(levels=settings, seeds=(0,), steps=(500, 9000))
    raw = {
        step: {"prob_samples": np.random.default_rng(step).random((6, 2, 1, 4, 2), np.float32),
               "mean_rgb": np.zeros((6, 2, 1, 3))}
        for step in (0, 500, 9000)
    }  # fmt: skip
    made = capability.extend(made, raw, ["naive", "patch"], ["", ""])
    found = page.CHARTS["protocols"].draw(made, summarised(made))
    assert found.numbers["level"].nunique() == 6 and len(found.numbers) == 6 * 2 * 2
    assert found.note == "4 of 6 levels are drawn; the numbers (CSV) hold all." and found.note in found.words
    assert found.note in rendered(made)


def test_protocols_leave_seeds_with_a_broken_query_out_and_count_the_others(elicited):
    made = elicited.copy(deep=True)
    made["capability_split"].loc[{"protocol": "naive"}][{"run": [0, 2, 3], "step": 1}] = np.nan
    found = page.CHARTS["protocols"].draw(made, summarised(made))
    table = found.numbers[found.numbers["protocol"] == "naive"]
    one, none = (table[table["level"] == level.label] for level in levels(made))
    assert one["n"].tolist() == [1, 1, 1] and none["n"].tolist() == [0, 0, 0]
    expected = elicited["capability_split"].sel(protocol="naive", klass="11").values[1]
    np.testing.assert_allclose(one["mean"], expected, rtol=1e-6)
    assert none["mean"].isna().all()
    assert "mean over seeds, n = 0: no 95 % interval" in found.words
