"""Claims about learning dynamics: studies with and without each effect, too few seeds, nothing to tell from."""

import json
import math

import asked
import numpy as np
import pytest
import synthetic
import xarray as xr

from cspace_jax.analysis import claims_of_learning
from cspace_jax.analysis.claims import CONTRADICTED, NOT_SHOWN, SHOWN, UNTOLD


@pytest.fixture(scope="module")
def sweep():
    return asked.swept()


def test_a_stronger_signal_is_learned_sooner(sweep):
    found = asked.rows(sweep)["a"]
    assert found["verdict"] == SHOWN and found["value"] == pytest.approx(-1.0) and found["p"] <= 1e-3
    assert found["seeds"] == 6 and found["details"]["concept"] == "color"
    assert found["details"]["rank_correlation_seen"] == pytest.approx(-1.0)
    backwards = sweep.assign_coords(sep_col=("run", sweep["sep_col"].values[::-1]))
    backwards["signal"] = (sweep["signal"].dims, sweep["signal"].values[::-1])
    assert asked.rows(backwards)["a"]["verdict"] == CONTRADICTED


def test_one_level_or_two_seeds_tell_nothing_of_levels(sweep):
    one = asked.rows(synthetic.dataset(levels=(0.2,), seeds=asked.SEEDS))
    assert one["a"]["verdict"] == one["b"]["verdict"] == one["j"]["verdict"] == UNTOLD
    assert one["a"]["why"] == "one level of concept signal: it takes two"
    two = asked.rows(synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100)))["a"]
    assert two["verdict"] == UNTOLD and math.isnan(two["p"])
    assert two["why"] == "n = 2: the smallest p-value that these seeds and levels can give is 0.25"


@pytest.fixture(scope="module")
def tinted(sweep):
    """Tinted pictures: the tint is the last concept, the signal of the label is not known."""
    ds = sweep.isel(concept=[1, 0]).copy(deep=True)
    for name in ("signal", "signal_range"):
        ds[name].values[:, 0] = np.nan
    return ds


def test_of_tinted_pictures_the_tint_is_judged(tinted):
    found = asked.rows(tinted)
    assert found["a"]["details"]["concept"] == "color" and found["a"]["verdict"] == SHOWN
    assert found["a"]["value"] == pytest.approx(-1.0)
    assert found["b"]["why"] == "the concept signal was not measured"
    assert found["j"]["why"] == "the signals of two concepts were not measured"
    labels = tinted.copy(deep=True)
    labels["signal"] = labels["signal"] * np.nan
    assert asked.rows(labels)["a"]["why"] == "the concept signal was not measured"


def test_shares_of_masking_are_no_signals(tinted):
    """Of pictures no signal is known, or all levels have that of one tint."""
    masked = synthetic.masked()
    for known in ([np.nan, np.nan], [np.nan, 0.05]):
        masked["signal"] = xr.full_like(masked["signal"], 1.0) * xr.DataArray(known, dims="concept")
        found = asked.rows(masked)
        assert {found[letter]["verdict"] for letter in "abj"} == {UNTOLD} and found["g"]["verdict"] == SHOWN


def test_levels_that_differ_in_no_signal_are_not_ranked(sweep):
    """Two learning rates at two levels of a generator's own concept; the larger rate is slower."""
    fast = synthetic.dataset(levels=(0.2, 0.8), seeds=asked.SEEDS)
    slow = fast.assign_coords(learning_rate=("run", np.full(12, 2e-3))).copy(deep=True)
    for name in ("prob", "accuracy"):
        slow[name].values[:, 20:] = fast[name].values[:, :-20]
        slow[name].values[:, :20] = 0.5
    ds = xr.concat([fast, slow], "run", join="override").assign_coords(concept=["tone", "grain"])
    found = asked.rows(ds)
    assert found["a"]["value"] == pytest.approx(-1.0) and found["a"]["seeds"] == 6
    assert found["a"]["p"] == pytest.approx(1 / 2**6)  # two orders in each of six seeds, at both rates
    assert found["j"]["value"] == pytest.approx(-1.0) and found["j"]["p"] == pytest.approx(1 / 2**6)


def test_a_seed_at_several_settings_is_one_unit():
    """Two colours at three sizes, two seeds: four arrangements, not the 64 of six independent blocks."""
    sizes = [
        synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100)).assign_coords(sep_size=("run", np.full(4, size)))
        for size in (0.2, 0.3, 0.4)
    ]
    found = asked.rows(xr.concat(sizes, "run", join="override"))["a"]
    assert found["verdict"] == UNTOLD and found["seeds"] == 2 and found["value"] == pytest.approx(-1.0)
    assert found["why"] == "n = 2: the smallest p-value that these seeds and levels can give is 0.25"


def test_a_seed_that_tells_nothing_is_not_counted(sweep):
    tied = sweep.copy(deep=True)
    same = np.flatnonzero(sweep["seed"].values == 0)
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        tied[name].values[same] = sweep[name].values[same[:1]]
    found = asked.rows(tied)
    assert found["a"]["seeds"] == found["j"]["seeds"] == 5 and found["b"]["seeds"] == 6


def test_verdicts_on_levels_have_intervals_and_say_what_learned_means(sweep):
    found = asked.rows(sweep)
    for letter in "abj":
        low, high = found[letter]["interval"]
        assert low <= found[letter]["value"] <= high and high - low > 0.3
    assert found["a"]["interval"][0] == pytest.approx(-1.0, abs=0.05) and found["a"]["interval"][1] < 0
    assert [found[letter]["definition"] for letter in "abj"] == ["stays_80", "", "stays_80"]
    named = sweep.assign_attrs(config=json.dumps({"learned": "first_80"}))
    assert asked.rows(named)["a"]["definition"] == "first_80"
    two = asked.rows(synthetic.dataset(levels=(0.1, 0.2, 0.4, 0.8), seeds=(0, 100)))["a"]
    assert two["verdict"] == SHOWN and two["no_interval"] == "n = 2: no 95 % interval"


def test_diverged_runs_alone_tell_nothing(sweep):
    nothing = sweep.isel(run=range(6)).copy(deep=True)
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        nothing[name] = nothing[name] * np.nan
    nothing["status"] = ("run", np.full(6, "diverged"))
    found = asked.rows(nothing)
    assert {row["verdict"] for row in found.values()} == {UNTOLD}
    assert all(row["why"] and math.isnan(row["p"]) for row in found.values())


def test_the_memorised_class_shares_the_stronger_concept(sweep):
    """In the synthetic study the class is always held back in colour, so it is memorised as 01 at every level."""
    signal = sweep["signal"].values.copy()
    assert set(np.sign(signal[:, 0] - signal[:, 1]).tolist()) == {-1.0, 1.0}
    found = asked.rows(sweep)["b"]
    assert found["verdict"] == NOT_SHOWN
    assert found["why"] == "fewer than half of the runs memorise as expected: 11 as 10 in 0 of 6"
    assert found["details"]["sep_col=0.1"]["expected"] == "01"
    assert found["details"]["sep_col=0.8"]["expected"] == "10"
    mirrored = sweep.copy(deep=True)  # at the strongest colour the roles of the two concepts are exchanged
    strong = np.flatnonzero(sweep["sep_col"].values == 0.8)
    weak = np.flatnonzero(sweep["sep_col"].values == 0.1)
    for to, fro in zip(strong, weak, strict=True):
        mirrored["prob"].values[to, :, :, 3] = sweep["prob"].values[fro, :, :, 3, ::-1]
    found = asked.rows(mirrored)["b"]
    assert found["verdict"] == SHOWN
    assert set(found["details"]["sep_col=0.8"]["memorised_as"]) == {"10"}


def test_a_concept_is_learned_fastest_at_its_turn():
    sharp = asked.rows(asked.turning_study(tuple(range(0, 1000, 100)), 120))["c"]
    assert sharp["verdict"] == SHOWN and sharp["details"]["turning"] == sharp["details"]["asked"] == 10
    late = np.median(sharp["details"]["fastest_over_turn"])
    assert 1.0 < late < 1.5 and sharp["why"] == f"the rate is largest at {late:.1f} times the turning step (median)"
    assert asked.rows(asked.turning_study(tuple(range(0, 1000, 100)), 120, late_rate=True))["c"]["verdict"] != SHOWN


def test_a_seed_that_turns_at_fewer_levels_counts_as_much():
    """At the second level the rate is largest long after the turn, and only two of six seeds turn there."""
    sharp, late = asked.turning_study(asked.SEEDS, 120), asked.turning_study(asked.SEEDS, 120, late_rate=True)
    late["prob"].values[2:, :, 0, 3] = 0.95
    ds = xr.concat([sharp, late.assign_coords(sep_col=("run", np.full(6, 0.8)))], "run", join="override")
    alone = {
        seed: asked.rows(ds.isel(run=np.flatnonzero(ds["seed"].values == seed)))["c"]["value"] for seed in asked.SEEDS
    }
    found = asked.rows(ds)["c"]
    assert found["details"]["turning"] == 8 and found["seeds"] == 6
    assert max(alone.values()) - min(alone.values()) > 0.1
    assert found["value"] == pytest.approx(np.mean(list(alone.values())))


def test_an_order_that_never_flips_does_not_follow_from_the_signals(sweep):
    """Learning times whose ratio follows the signals, but colour first even where size is by far the stronger."""
    assert asked.rows(sweep)["j"]["verdict"] == SHOWN
    stronger = sweep.isel(run=sweep["sep_col"].values > 0.1).copy(deep=True)
    stronger["signal"] = stronger["signal"] * xr.DataArray([1e-6, 1.0], dims="concept")  # size is stronger everywhere
    found = asked.rows(stronger)["j"]
    colour_first = found["details"]["size_first"]["stronger_in"] - found["details"]["size_first"]["learned_first"]
    assert found["details"]["color_first"]["stronger_in"] == 0 and colour_first > found["details"]["asked"] / 2
    assert found["verdict"] == NOT_SHOWN and "too few runs learn the stronger concept first: size in" in found["why"]


def test_a_ratio_of_signals_that_is_rounding_alone_is_one_ratio(sweep):
    """Both concepts have one signal at every level, up to the rounding of float32."""
    ds, rng = sweep.copy(deep=True), np.random.default_rng(0)
    alike = np.repeat(sweep["signal"].values[:, :1], 2, axis=1)
    ds["signal"] = (sweep["signal"].dims, alike * (1 + 1e-7 * rng.standard_normal(alike.shape)))
    found = asked.rows(ds)["j"]
    assert (found["verdict"], found["why"]) == (UNTOLD, "the ratio of the two signals is the same at every level")
    some = sweep.copy(deep=True)  # at one level neither concept is the stronger one
    same = sweep["sep_col"].values == 0.4
    some["signal"].values[same] = 0.05 * (1 + 1e-7 * rng.standard_normal((int(same.sum()), 2)))
    details = asked.rows(some)["j"]["details"]
    counted = details["color_first"]["stronger_in"] + details["size_first"]["stronger_in"]
    assert details["asked"] == 24 and counted == 18 and details["stronger_first"] <= 18


def test_a_signal_of_zero_has_no_ratio(sweep):
    ds = sweep.copy(deep=True)
    ds["signal"].values[sweep["sep_col"].values == 0.1, 0] = 0.0
    found = asked.rows(ds)["j"]
    assert found["verdict"] == UNTOLD and found["why"].startswith("a concept without a signal at some level")
    assert asked.rows(ds)["a"]["verdict"] == SHOWN  # an order needs no ratio


def test_every_claim_has_a_row_with_its_words(sweep):
    found = asked.rows(sweep)
    assert list(found) == list("abcdefghij")
    for row in found.values():
        assert set(row) == {
            *(
                "claim",
                "text",
                "statistic",
                "value",
                "interval",
                "median",
                "no_interval",
                "definition",
                "p",
                "seeds",
                "verdict",
            ),
            *("why", "details"),
        }
        assert row["verdict"] in (SHOWN, NOT_SHOWN, CONTRADICTED, UNTOLD)
        assert row["why"] or row["verdict"] != UNTOLD


@pytest.fixture(scope="module")
def three():
    return asked.swept(asked.THREE)


def test_all_unseen_classes_of_three_concepts_are_asked_and_named(three):
    found = asked.rows(three)
    for letter in "abc":
        assert found[letter]["verdict"] != UNTOLD, found[letter]
        assert "over the unseen classes " in found[letter]["why"]
    for letter in "ab":
        assert found[letter]["why"].endswith("over the unseen classes 011, 101, 110, 111")
    assert list(found["b"]["details"]) == ["011", "101", "110", "111"]
    assert found["c"]["details"]["asked"] <= 4 * 24 and found["c"]["seeds"] <= len(asked.SEEDS)
    assert found["j"]["details"]["asked"] == 3 * 24 and "unseen" not in found["j"]["why"]
    assert {f"{name}_first" for name in asked.THREE} <= set(found["j"]["details"])


def test_the_classes_of_a_seed_are_one_unit():
    """Two levels, two seeds: four arrangements, however many classes and pairs of concepts are asked."""
    found = asked.rows(synthetic.dataset(levels=(0.1, 0.8), seeds=(0, 100), active=asked.THREE))
    for letter in "abj":
        assert found[letter]["verdict"] == UNTOLD and found[letter]["seeds"] == 2
        assert "n = 2: the smallest p-value that these seeds and levels can give is 0." in found[letter]["why"]
        assert float(found[letter]["why"].split()[-1]) >= 0.25


def test_a_class_that_expects_one_thing_at_every_level_counts_too(three):
    """Of all four unseen classes the share of matches is known, whether or not what is expected of them changes."""
    parts = [
        (claims_of_learning.first_drawn(three, klass), [claims_of_learning.expected_class(three, run, klass)
                                                        for run in range(three.sizes["run"])])
        for klass in (3, 5, 6, 7)
    ]  # fmt: skip
    assert sorted(len(set(wanted)) for _, wanted in parts)[0] == 1
    share = np.mean([np.mean(drawn == wanted) for drawn, wanted in parts])
    assert asked.rows(three)["b"]["value"] == pytest.approx(share)


def test_which_classes_are_seldom_memorised_as_expected_is_said_class_by_class(three):
    assert asked.rows(three)["b"]["why"].startswith(
        "fewer than half of the runs memorise as expected: 011 as 001 in 0 of 24, 101 as 100 in 0 of 6, 110 as "
    )


def test_only_the_classes_that_turn_are_named():
    """Class 10 is held out too and is drawn from the first save on."""
    ds = asked.turning_study(asked.SEEDS, 120).assign_coords(trained=("klass", [True, True, False, False]))
    ds["prob"].values[:, :, 0, 2] = [0.95, 0.05]
    found = asked.rows(ds)["c"]
    assert found["why"].endswith("of the unseen class 11 alone") and found["seeds"] == 6
    ds["prob"].values[:, :, 0, 3] = [0.05, 0.95]  # now both are drawn as another class to the end
    ds["prob"].values[:, :, 0, 2] = [0.05, 0.05]
    found = asked.rows(ds)["c"]
    assert (found["verdict"], found["details"]["asked"], found["seeds"]) == (UNTOLD, 12, 6)
