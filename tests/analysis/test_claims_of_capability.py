"""Claims about protocols: interventions, overprompting, guidance and patching, with and without their effects."""

import json
import math

import asked
import numpy as np
import pytest
import xarray as xr

from cspace_jax.analysis import (
    claims_of_capability,
)
from cspace_jax.analysis.claims import CLAIMS, CONTRADICTED, NOT_SHOWN, SHOWN, UNTOLD
from cspace_jax.analysis.testing import ALPHA


def test_hidden_capabilities_are_shown_where_they_are():
    found = asked.rows(asked.battery(asked.HIDDEN))
    for letter in "dfi":
        assert found[letter]["verdict"] == SHOWN, found[letter]
        assert found[letter]["seeds"] == 6 and found[letter]["p"] == pytest.approx(1 / 2**6)
        assert found[letter]["why"] == ("6 of 6 runs learn stably" if letter == "i" else "6 of 6 seeds turn")
        low, high = found[letter]["interval"]
        assert low < found[letter]["median"] < high
    assert set(found["d"]["details"]["p"]) == {"naive", "latent_random", "latent_shuffled"}
    assert found["h"]["verdict"] == UNTOLD and "guidance was not asked" in found["h"]["why"]


def test_an_intervention_that_its_control_equals_is_not_shown():
    found = asked.rows(asked.battery(asked.HIDDEN | {"latent_random": asked.HIDDEN["latent"]}))["d"]
    why = "it beats naive prompting and not latent_random; 6 of 6 seeds turn"
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, why)
    worse = asked.rows(asked.battery(asked.HIDDEN | {"latent": asked.emerges(30_000)}))["d"]
    assert worse["verdict"] != SHOWN
    little = asked.rows(asked.battery(asked.HIDDEN | {"latent": asked.emerges(6000, 8)}))["d"]
    assert little["p"] <= 0.05 and little["verdict"] == NOT_SHOWN and "under naive prompting" in little["why"]


def test_overprompting_that_falls_behind_the_intervention_does_not_do_what_it_does():
    found = asked.rows(asked.battery(asked.HIDDEN | {"overprompt": asked.emerges(3250, 6)}))["f"]
    behind = found["details"]["minus_intervention"]
    assert behind["protocol"] == "latent" and behind["mean"] < -0.05
    why = (
        f"that it is less than 0.1 behind latent is not shown (p = {behind['p_not_behind']:.3f}, {behind['mean']:+.2f})"
    )
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, f"{why}; 6 of 6 seeds turn")
    alike = asked.rows(asked.battery(asked.HIDDEN))["f"]["details"]["minus_intervention"]
    assert abs(alike["mean"]) < 0.05 and alike["p_not_behind"] == pytest.approx(1 / 2**6)


def test_overprompting_that_cannot_be_told_from_the_intervention_is_not_shown_to_do_the_same():
    """In two of six seeds it is far behind: no test says that it is behind, and none that it is not."""

    def halting(steps, seed):
        return np.minimum(asked.emerges(3050, 6)(steps, seed), 0.45 if seed >= 400 else 1.0)

    found = asked.rows(asked.battery(asked.HIDDEN | {"overprompt": halting}))["f"]
    behind = np.array(found["details"]["minus_intervention"]["per_seed"])
    assert claims_of_capability.not_behind(behind).less > ALPHA and found["p"] <= ALPHA
    assert found["verdict"] == NOT_SHOWN and "is less than 0.1 behind latent is not shown" in found["why"]


def test_without_an_intervention_nobody_knows_what_overprompting_has_to_do():
    ds = asked.battery(asked.HIDDEN)
    alone = ds.isel(protocol=[i for i, name in enumerate(asked.PROTOCOLS) if not name.startswith("latent")])
    found = asked.rows(alone)["f"]
    assert (found["verdict"], found["why"]) == (
        UNTOLD, "no latent intervention was measured that it could be compared with"
    )  # fmt: skip


def test_a_probability_at_the_turn_lies_between_0_and_1():
    """Five seeds near 1 and one far below: Student's interval of a number without bounds would go beyond."""
    low, high = asked.rows(asked.battery(asked.HIDDEN | {"latent": asked.emerges(2000, 6.5, 200)}))["d"]["details"][
        "at_turn"
    ]["interval"]
    assert 0 <= low < high <= 1


def test_only_seeds_that_turn_are_asked_and_it_is_said_how_many_do():
    ds = asked.battery(asked.HIDDEN)
    ds["prob"].values[0, :, 0, 3] = 0.95  # one seed draws the class from the first save on
    found = asked.rows(ds)["d"]
    assert found["seeds"] == 5 and found["why"].endswith("5 of 6 seeds turn")


def test_patching_is_asked_before_its_own_save_and_says_how_many_seeds_are_stable():
    ds = asked.battery(asked.HIDDEN)
    steps = ds["step"].values
    ds.attrs["config"] = json.dumps({"elicit": {"patch_step": int(steps[2])}})
    found = CLAIMS["i"].ask(ds)
    patch, naive = (curve(steps[:2].astype(float), 0) for curve in (asked.HIDDEN["patch"], asked.HIDDEN["naive"]))
    assert found.details["per_seed"]["per_seed"][0] == pytest.approx(float(np.mean(patch - naive)))
    assert found.why == "6 of 6 runs learn stably"
    ds.attrs["config"] = json.dumps({"elicit": {"patch_step": int(steps[-1])}})  # of a later battery without patching
    ds.attrs["batteries"] = json.dumps({"patch": {"patch_step": int(steps[2])}})
    assert CLAIMS["i"].ask(ds).statistic == found.statistic
    ds.attrs["batteries"] = json.dumps({"patch": {"patch_step": int(steps[1])}})
    assert CLAIMS["i"].ask(ds).why == "fewer than two saves before the patch's own"


def test_where_nothing_turns_there_is_no_turn_to_ask_at():
    found = asked.rows(asked.battery(asked.HIDDEN, turns=False))
    assert found["d"]["verdict"] == UNTOLD and found["d"]["why"] == "no run memorises the class and turns"
    assert found["i"]["verdict"] == SHOWN


def test_steps_that_agree_over_seeds_against_steps_that_spread():
    same = asked.rows(asked.battery(asked.HIDDEN | {"latent": asked.emerges(4500, 0)}))["e"]
    assert same["verdict"] == SHOWN and same["details"]["std"] < same["details"]["std_naive"]
    assert asked.rows(asked.battery(asked.HIDDEN | {"latent": asked.emerges(9000, 14.1)}))["e"]["verdict"] == NOT_SHOWN
    assert same["no_interval"].startswith("a ratio of variances") and same["definition"] == "stays_80"
    never = asked.rows(asked.battery(asked.HIDDEN | {"naive": asked.emerges(90_000)}))["e"]
    assert never["verdict"] == UNTOLD and never["why"] == "both emerge in 0 seeds; a spread takes 5"


def test_which_levels_a_seed_emerges_at_is_no_spread():
    """At a second level naive prompting is late, and there the intervention emerges in half of the seeds alone."""
    both = {"naive": asked.emerges(3000, 0.4), "latent": asked.emerges(3000, 0.5)}
    early, late = (
        asked.battery(asked.HIDDEN | both),
        asked.battery(asked.HIDDEN | both | {"naive": asked.emerges(12_000, 0.4)}),
    )
    halted = late["capability_split"].values[3:, :, asked.PROTOCOLS.index("latent"), 3]
    np.minimum(halted, 0.7, out=halted)
    late = late.assign_coords(sep_col=("run", np.full(6, 0.8)))
    found = asked.rows(xr.concat([early, late], "run", join="override"))["e"]
    assert found["details"]["emerged"] == 6 and found["details"]["never"] == 3
    assert abs(found["value"]) < 1 and found["p"] > 0.5  # the two levels' own steps differ by a factor of four


def never_in(seed, curve):
    """The same curve, but in one seed it stays below 80 %."""
    return lambda steps, one: np.minimum(curve(steps, one), 0.7 if one == seed else 1.0)


def test_a_seed_in_which_one_side_never_emerges_stands_against_what_leaving_it_out_would_favour():
    same, spread = asked.emerges(4500, 0), asked.HIDDEN["naive"]
    found = asked.rows(asked.battery(asked.HIDDEN | {"latent": never_in(500, same)}))["e"]
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, "latent never emerges in 1 of 6 runs")
    assert found["p"] <= ALPHA and (found["details"]["never"], found["details"]["never_naive"]) == (1, 0)
    assert (
        asked.rows(asked.battery(asked.HIDDEN | {"latent": same, "naive": never_in(500, spread)}))["e"]["verdict"]
        == SHOWN
    )
    assert asked.rows(asked.battery(asked.HIDDEN | {"latent": spread, "naive": same}))["e"]["verdict"] == CONTRADICTED
    found = asked.rows(asked.battery(asked.HIDDEN | {"latent": spread, "naive": never_in(500, same)}))["e"]
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, "naive prompting never emerges in 1 of 6 runs")


def test_a_broken_query_is_missing_and_not_never():
    ds = asked.battery(asked.HIDDEN | {"latent": asked.emerges(4500, 0)})
    whole = asked.rows(ds)["e"]
    ds["capability_split"].values[5, 3, asked.PROTOCOLS.index("latent"), 3] = np.nan
    found = asked.rows(ds)["e"]
    assert found["seeds"] == 5 and found["details"]["never"] == 0 and found["verdict"] == whole["verdict"] == SHOWN


def guided_study(at_zero):
    """Guidance at weights 0 and 1 in six seeds."""
    ds = asked.battery(asked.HIDDEN)
    steps = ds["step"].values.astype(float)
    prob = np.full((6, len(steps), 2, 4, 2), np.nan)
    prob[:, :, 0, 3] = at_zero + 0.02 * np.arange(6)[:, None, None] / 6
    prob[:, :, 1, 3] = asked.emerges(5000)(steps, 0)[None, :, None] + 0.05 - 0.01 * np.arange(6)[:, None, None] / 6
    ds["query_prob"] = (("run", "step", "query", "klass", "concept"), prob)
    return ds.assign_coords(query_protocol=("query", ["guidance"] * 2), query_value=("query", ["0.0", "1.0"]))


def test_a_run_that_is_broken_at_one_weight_has_no_part_at_the_other():
    """Without its partner the differences would be those of other seeds, or of unequal numbers."""
    whole, ds = guided_study(0.45), guided_study(0.45)
    ds["query_prob"].values[0, -1, 1, 3] = np.nan
    ds["query_prob"].values[4, -1, 0, 3] = np.nan
    found, kept = CLAIMS["h"].ask(ds), CLAIMS["h"].ask(whole.isel(run=[1, 2, 3, 5]))
    assert found.seeds == 4 and found.statistic == pytest.approx(kept.statistic)
    assert found.details["at_0"]["per_seed"] == pytest.approx(kept.details["at_0"]["per_seed"])


@pytest.mark.parametrize(("at_zero", "verdict"), [(0.45, SHOWN), (0.97, CONTRADICTED)])
def test_without_a_prompt_trajectories_do_not_turn(at_zero, verdict):
    found = CLAIMS["h"].ask(guided_study(at_zero))
    assert found.verdict == verdict
    assert found.details["weight"] == 1.0


@pytest.mark.parametrize("letter", ["d", "f", "i"])
def test_exchanged_protocols_are_rarely_shown(letter):
    """In half of the seeds, drawn anew, naive prompting and the protocol with its controls exchange what they gave."""
    seeds = tuple(range(0, 800, 100))
    ds = asked.battery(asked.HIDDEN, seeds)
    shown = 0
    for draw in range(60):
        rng = np.random.default_rng(draw)
        moved = ds.copy(deep=True)
        for run in np.flatnonzero(rng.random(len(seeds)) < 0.5):
            split, naive = moved["capability_split"].values[run], moved["naive_split"].values[run]
            for name in ("latent", "overprompt", "patch"):
                place = asked.PROTOCOLS.index(name)
                split[:, place, 3], naive[:, place, 3] = naive[:, place, 3].copy(), split[:, place, 3].copy()
        shown += CLAIMS[letter].ask(moved).verdict == SHOWN
    assert shown <= 60 * 0.05 + 2.5 * math.sqrt(60 * 0.05 * 0.95)


def two_unseen():
    """Class 10 is held out too: it turns where 11 does, its protocols give half as much."""
    ds = asked.battery(asked.HIDDEN)
    ds["prob"].values[:, :, 0, 2] = ds["prob"].values[:, :, 0, 3] * [1, 0]
    for name in ("capability", "capability_split", "naive_split"):
        ds[name].values[..., 2] = 0.5 * ds[name].values[..., 3]
    return ds.assign_coords(trained=("klass", [True, True, False, False]))


def test_a_seeds_number_is_the_mean_over_its_unseen_classes():
    one, both = asked.rows(asked.battery(asked.HIDDEN)), asked.rows(two_unseen())
    for letter in "dfi":
        assert both[letter]["value"] == pytest.approx(0.75 * one[letter]["value"])
        assert both[letter]["seeds"] == 6 and both[letter]["p"] == pytest.approx(1 / 2**6)
        assert both[letter]["why"].endswith("over the unseen classes 10, 11")
    assert both["e"]["details"]["asked"] == 12 and both["e"]["details"]["never"] == 6  # at 45 % class 10 never emerges
    assert both["e"]["why"] == (
        "naive prompting never emerges in 6 of 12 pairs of run and class; of the unseen class 11 alone"
    )
    assert "12 pairs of run and class learn stably; over" in both["i"]["why"]


def test_a_class_that_does_not_turn_has_no_part_at_the_turn():
    ds = two_unseen()
    ds["prob"].values[:, :, 0, 2] = [0.95, 0.05]
    found = asked.rows(ds)
    assert found["d"]["value"] == pytest.approx(asked.rows(asked.battery(asked.HIDDEN))["d"]["value"])
    for letter in "df":
        assert found[letter]["why"].endswith("of the unseen class 11 alone")


def test_guidance_is_asked_of_every_unseen_class():
    """Class 10 ends at 0.6 * 0.9 at weight 1 and at 0.2 * 0.5 at weight 0, its second bit counted as not set."""
    ds = guided_study(0.45)
    ds["query_prob"].values[:, :, 0, 2], ds["query_prob"].values[:, :, 1, 2] = [0.2, 0.5], [0.6, 0.1]
    both = ds.assign_coords(trained=("klass", [True, True, False, False]))
    one = CLAIMS["h"].ask(ds).statistic
    assert one != pytest.approx(0.44, abs=0.1)
    assert CLAIMS["h"].ask(both).statistic == pytest.approx((one + 0.54 - 0.1) / 2)


def test_intervals_are_those_of_the_median_difference():
    found = asked.rows(asked.battery(asked.HIDDEN))["d"]
    per_seed = found["details"]["difference"]["naive"]["per_seed"]
    assert found["interval"] == [min(per_seed), max(per_seed)] and found["median"] == pytest.approx(np.median(per_seed))
    few = asked.rows(asked.battery(asked.HIDDEN, seeds=asked.SEEDS[:5]))["d"]
    assert few["verdict"] == SHOWN and few["no_interval"] == "n = 5: no 95 % interval"
