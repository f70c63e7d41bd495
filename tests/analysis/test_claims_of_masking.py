"""The claim about masked prompts: later at larger shares, in proportion or not, and where never."""

import math

import asked
import numpy as np
import pytest
import synthetic
import xarray as xr

from cspace_jax.analysis import claims_of_masking
from cspace_jax.analysis.claims import CLAIMS, CONTRADICTED, NOT_SHOWN, SHOWN
from cspace_jax.analysis.levels import Level
from cspace_jax.analysis.testing import ALPHA


def test_masks_at_several_settings_are_exchanged_together():
    groups = [synthetic.masked(fractions=(0.0, 0.5, 1.0), diverged=(), sep_size=size) for size in (0.2, 0.4)]
    found = asked.rows(xr.concat(groups, "run"))["g"]
    assert found["seeds"] == 3 and found["p"] == pytest.approx(1 / 6**3)


def test_masking_delays_and_prevents():
    found = asked.rows(synthetic.masked())["g"]
    assert found["verdict"] == SHOWN and found["value"] == pytest.approx(1.0)
    assert found["why"] == "prevented (median never) from a share of 1 on; whether in proportion cannot be told (n = 3)"
    assert found["details"]["by_share"]["1"] == {
        "median": pytest.approx(math.nan, nan_ok=True),
        "learned": 0,
        "seeds": 3,
    }
    turned = synthetic.masked()
    again = synthetic.masked()  # at the largest share it is learned once more: nothing is prevented
    again["prob"][again["mask"].values == 1] = again["prob"].values[again["mask"].values == 0]
    again["accuracy"][again["mask"].values == 1] = again["accuracy"].values[again["mask"].values == 0]
    assert CLAIMS["g"].ask(again).why.startswith("prevented at no share; ")
    unmasked = turned.assign_coords(mask=("run", 1 - turned["mask"].values))
    assert CLAIMS["g"].ask(unmasked).verdict == CONTRADICTED
    assert asked.rows(synthetic.masked_groups())["g"]["verdict"] == SHOWN
    delayed = asked.rows(synthetic.masked(fractions=(0.0, 0.25, 0.5)))["g"]  # later at each share, and never at none
    assert delayed["value"] == pytest.approx(1.0) and delayed["p"] <= ALPHA
    assert delayed["verdict"] == NOT_SHOWN and delayed["why"].startswith("prevented at no share; ")


def test_the_last_unseen_class_alone_is_asked_and_named():
    ds = synthetic.masked().assign_coords(trained=("klass", [True, True, False, False]))
    for name in ("prob", "accuracy"):
        ds[name].values[:, :, :, 2] = 0.5  # class 10 is never learned
    found, one = asked.rows(ds)["g"], asked.rows(synthetic.masked())["g"]
    assert found["why"] == f"{one['why']}; of the unseen class 11 alone" and found["value"] == one["value"]
    assert str(found["details"]) == str(one["details"])  # some are NaN


def test_the_group_in_which_masks_prevent_is_named():
    """At sizes of .2 nothing is prevented, at .4 it is: text and details are of the second."""
    assert asked.rows(synthetic.masked())["g"]["details"]["group"] == ""
    mild, strong = (synthetic.masked(diverged=(), sep_size=size) for size in (0.2, 0.4))
    most, half = (mild["mask"].values == mask for mask in (1, 0.5))
    for name in ("prob", "accuracy"):
        mild[name].values[most] = mild[name].values[half]
    found = asked.rows(xr.concat([mild, strong], "run", join="override"))["g"]
    assert found["why"].startswith("prevented (median never) from a share of 1 on at sep_size=0.4; ")
    assert found["details"]["group"] == "sep_size=0.4" and found["details"]["prevented_from"] == 1
    assert found["details"]["by_share"]["1"]["learned"] == 0


SHARES = np.array([0.0, 0.25, 0.5, 1.0])
LAST = 5000.0


def test_kendalls_tau_of_delays_by_hand():
    """Delays per share: 400, 400, 400; then 400, 800, 1,600, in either order of the runs; then falling ones."""
    trend = claims_of_masking.delay_trend
    assert trend(np.array([1000.0, 1100, 1200, 1400]), SHARES, LAST) == 0
    assert trend(np.array([1000.0, 1100, 1400, 2600]), SHARES, LAST) == 1
    assert trend(np.array([2600.0, 1400, 1100, 1000]), SHARES[::-1], LAST) == 1
    assert trend(np.array([1000.0, 1400, 1600, 1700]), SHARES, LAST) == -1


def test_pairs_that_never_leaves_open_are_ties():
    trend = claims_of_masking.delay_trend
    # Never at 1: slower than 4,000 a share. 100 and 400 by .25 and .5 are 400 and 800 a share.
    assert trend(np.array([1000.0, 1100, 1400, np.nan]), SHARES, LAST) == 1
    # 1,500 by .25 are 6,000 a share, more than the 4,000 that are known at 1: open; 400 by .5 are fewer than both.
    assert trend(np.array([1000.0, 2500, 1400, np.nan]), SHARES, LAST) == pytest.approx(0.0)
    assert trend(np.array([1000.0, 2500, np.nan, np.nan]), SHARES, LAST) == pytest.approx(1 / 3)
    assert trend(np.array([1000.0, np.nan, np.nan, np.nan]), SHARES, LAST) == 0
    assert math.isnan(trend(np.array([np.nan, 1100, 1400, 2600]), SHARES, LAST))
    assert math.isnan(trend(np.array([1000.0, 1100]), SHARES[:2], LAST))


def drawn(slope, power=1.0, seeds=8, studies=150):
    """Studies whose delay is `slope` of the time at no mask to a power of the share; log-normal, censored."""
    rng = np.random.default_rng(0)
    for _ in range(studies):
        noise = 0.2 * rng.normal(size=(seeds, 1)) + 0.1 * rng.normal(size=(seeds, len(SHARES)))
        times = 1600 * np.exp(noise) * (1 + slope * SHARES**power)
        own = list(np.where(times > LAST, np.nan, times))
        yield claims_of_masking.proportion(own, [SHARES] * seeds, list(range(seeds)), LAST)


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_delays_in_proportion_are_rarely_called_otherwise(slope):
    departed = [claims_of_masking.departs(one) for one in drawn(slope)]
    assert np.mean(departed) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / len(departed))


def test_delays_that_bend_are_told_by_their_side():
    for power, side in ((3.0, 1), (0.3, -1)):
        found = list(drawn(1.5, power, studies=20))
        assert np.mean([claims_of_masking.departs(one) and np.sign(one["value"]) == side for one in found]) > 0.8
        low, high = found[0]["interval"]
        assert -1 <= low < found[0]["value"] < high <= 1


def test_a_seed_counts_once_whatever_its_groups():
    rising, falling = np.array([1000.0, 1100, 1400, 2600]), np.array([1000.0, 1400, 1600, 1700])
    found = claims_of_masking.proportion([rising, rising, falling], [SHARES] * 3, [0, 0, 100], LAST)
    assert found["per_seed"] == [1.0, -1.0] and found["value"] == 0
    assert math.isnan(claims_of_masking.proportion([rising[:2]], [SHARES[:2]], [0], LAST)["value"])


def test_where_learning_is_prevented_has_bounds():
    """Ten seeds learn at 0, nine at .25, seven at .5, none at 1: exact intervals above and below one half."""
    counts = (10, 9, 7, 0)
    times = np.concatenate([np.where(np.arange(10) < count, 1000.0, np.nan) for count in counts])
    found = [
        Level("", {"mask": float(share)}, {}, tuple(range(10 * i, 10 * i + 10)), (), (), ())
        for i, share in enumerate(SHARES)
    ]
    assert claims_of_masking.prevented_interval(times, found) == [0.25, 1.0]
    low, high = claims_of_masking.prevented_interval(np.full(40, 1000.0), found)
    assert low == 1.0 and math.isnan(high)
    # Five of ten at 0 may be one half: that ten learn at .25 says nothing of a smaller share.
    again = np.concatenate([np.where(np.arange(10) < count, 1000.0, np.nan) for count in (5, 10, 10, 0)])
    low, high = claims_of_masking.prevented_interval(again, found)
    assert math.isnan(low) and high == 1.0


@pytest.mark.parametrize("past", [0.5, 0.3])
def test_the_bounds_of_prevention_err_in_at_most_a_fortieth_of_studies_a_side(past):
    """Six shares, from the second on half of the seeds learn, or fewer: above the second or more is wrong."""
    masks, seeds, rng = np.linspace(0.0, 1.0, 6), 20, np.random.default_rng(0)
    found = [
        Level("", {"mask": float(share)}, {}, tuple(range(seeds * i, seeds * i + seeds)), (), (), ())
        for i, share in enumerate(masks)
    ]
    chance = np.repeat([0.9, *[past] * 5], seeds)
    lows = np.array([
        claims_of_masking.prevented_interval(np.where(rng.random(len(chance)) < chance, 1000.0, np.nan), found)[0]
        for _ in range(300)
    ])  # fmt: skip
    assert np.mean(lows >= masks[1]) <= 0.025 + 2.5 * math.sqrt(0.025 * 0.975 / 300)
    chance = np.repeat([*[1 - past] * 5, 0.1], seeds)
    highs = np.array([
        claims_of_masking.prevented_interval(np.where(rng.random(len(chance)) < chance, 1000.0, np.nan), found)[1]
        for _ in range(300)
    ])  # fmt: skip
    assert np.mean(highs <= masks[4]) <= 0.025 + 2.5 * math.sqrt(0.025 * 0.975 / 300)
