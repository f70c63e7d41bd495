"""The summary of a study of known truth: learning times, memorisation, order, and runs that diverged."""

import json

import numpy as np
import pytest
import synthetic
from synthetic import logistic_crossing

from cspace_jax.analysis import report
from cspace_jax.analysis.summary import summarise

STEPS = np.array(synthetic.STEPS, float)


def test_learning_times_match_the_closed_form(summary):
    # training class 10: P(blue) = .5 + .5 logistic, so 80 % is reached where the logistic is .6
    for level in summary["levels"]:
        times = level["classes"]["10"]["learning_times"]["color"]["stays_80"]
        centre = 1000 + 500 / level["setting"]["sep_col"]
        expected = [logistic_crossing(centre + 3.0 * seed, 250, 0.6) for seed in level["seeds"]]
        np.testing.assert_allclose(times["per_seed"], expected, atol=60)  # accuracy moves in steps of 1/32
        assert times["learned"] == times["seeds"] == len(level["seeds"])


def test_never_learned_is_counted_and_never_a_number(summary):
    times = summary["levels"][0]["classes"]["11"]["learning_times"]
    for kind in ("stays_80", "notebooks_90"):
        assert times["color"][kind]["learned"] == times["joint"][kind]["learned"] == 0
        assert np.isnan(times["color"][kind]["median"]) and np.isnan(times["color"][kind]["per_seed"]).all()
        assert times["size"][kind]["fraction"] == 1
    assert summary["levels"][0]["classes"]["11"]["reached_80"] == {"momentary": 0, "persistent": 0, "seeds": 3}
    assert summary["levels"][2]["classes"]["11"]["reached_80"] == {"momentary": 3, "persistent": 3, "seeds": 3}


def test_summary_finds_memorisation_order_and_failures(summary):
    weakest = summary["levels"][0]["classes"]["11"]["memorisation"]
    assert weakest["as_class"] == "01" and weakest["memorised"] and weakest["weak_concept"] == "color"
    assert weakest["min_correct"] == pytest.approx(0.1, abs=0.02) and np.isnan(weakest["turning_step"])
    second = summary["levels"][1]["classes"]["11"]["memorisation"]
    assert 1500 < second["turning_step"] < 5000 and second["correct_there"]["color"] == second["min_correct"]
    for place in ("training_classes", "11"):
        check = summary["order"]["color"][place]["stays_80"]
        assert check["ordered"] is True and check["spearman"] == pytest.approx(-1)
        assert summary["order"]["size"][place]["stays_80"]["ordered"] is None  # its signal is the same everywhere
    assert summary["runs"] == {"total": 12, "diverged": 1}
    assert summary["levels"][1]["diverged_seeds"] == [100]
    assert summary["wall_times"] == {"train": 12.5}


def test_a_diverged_run_changes_nothing_else(summary):
    clean = summarise(synthetic.dataset())
    assert report.to_json(clean["levels"][0]) == report.to_json(summary["levels"][0])
    assert report.to_json(clean["levels"][3]) == report.to_json(summary["levels"][3])


@pytest.mark.parametrize("active", [("color", "size", "bg_color"), ("shape", "color")])
def test_other_concepts_need_no_change(active):
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 1), active=active)
    summary = summarise(ds)
    held_out = [name for name, block in summary["levels"][0]["classes"].items() if not block["trained"]]
    assert held_out == (["011", "101", "110", "111"] if len(active) == 3 else ["11"])
    for name in held_out:
        assert set(summary["levels"][0]["classes"][name]["learning_times"]) == {*active, "joint"}
    json.dumps(report.to_json(summary), allow_nan=False)
