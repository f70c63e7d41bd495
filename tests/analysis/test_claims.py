"""Verdicts on the paper's claims: studies with and without each effect, too few seeds, nothing to tell from."""

import io
import json
import math

import numpy as np
import pytest
import synthetic
import xarray as xr
from rich.console import Console
from scipy import special

from cspace_jax.analysis import (
    capability,
    claims,
    claims_of_capability,
    comparison,
    report,
    summary,
    tables,
    verdict_tables,
)
from cspace_jax.analysis.claims import CLAIMS, CONTRADICTED, NOT_SHOWN, SHOWN, UNTOLD
from cspace_jax.analysis.testing import ALPHA, Outcome
from cspace_jax.analysis.testing import UNTOLD as UNTOLD_TEST

SEEDS = tuple(range(0, 600, 100))


def rows(ds):
    return {row["claim"]: row for row in claims.verdicts(ds)}


def shuffled(ds, seed):
    """The same study with the levels of every seed exchanged: what was measured stays, the settings move."""
    rng = np.random.default_rng(seed)
    order = np.arange(ds.sizes["run"])
    for one in np.unique(ds["seed"].values):
        runs = np.flatnonzero(ds["seed"].values == one)
        order[runs] = rng.permutation(runs)
    moved = ds.copy()
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        moved[name] = (ds[name].dims, ds[name].values[order])
    return moved


@pytest.fixture(scope="module")
def sweep():
    return synthetic.dataset(levels=(0.1, 0.2, 0.4, 0.8), seeds=SEEDS)


def test_a_stronger_signal_is_learned_sooner(sweep):
    found = rows(sweep)["a"]
    assert found["verdict"] == SHOWN and found["value"] == pytest.approx(-1.0) and found["p"] <= 1e-3
    assert found["seeds"] == 6 and found["details"]["concept"] == "color"
    assert found["details"]["rank_correlation_seen"] == pytest.approx(-1.0)
    backwards = sweep.assign_coords(sep_col=("run", sweep["sep_col"].values[::-1]))
    backwards["signal"] = (sweep["signal"].dims, sweep["signal"].values[::-1])
    assert rows(backwards)["a"]["verdict"] == CONTRADICTED


def test_one_level_or_two_seeds_tell_nothing_of_levels(sweep):
    one = rows(synthetic.dataset(levels=(0.2,), seeds=SEEDS))
    assert one["a"]["verdict"] == one["b"]["verdict"] == one["j"]["verdict"] == UNTOLD
    assert one["a"]["why"] == "one level of concept signal: it takes two"
    two = rows(synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100)))["a"]
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
    found = rows(tinted)
    assert found["a"]["details"]["concept"] == "color" and found["a"]["verdict"] == SHOWN
    assert found["a"]["value"] == pytest.approx(-1.0)
    assert found["b"]["why"] == "the concept signal was not measured"
    assert found["j"]["why"] == "the signals of two concepts were not measured"
    labels = tinted.copy(deep=True)
    labels["signal"] = labels["signal"] * np.nan
    assert rows(labels)["a"]["why"] == "the concept signal was not measured"


def test_shares_of_masking_are_no_signals(tinted):
    """Of pictures no signal is known, or all levels have that of one tint."""
    masked = synthetic.masked()
    for known in ([np.nan, np.nan], [np.nan, 0.05]):
        masked["signal"] = xr.full_like(masked["signal"], 1.0) * xr.DataArray(known, dims="concept")
        found = rows(masked)
        assert {found[letter]["verdict"] for letter in "abj"} == {UNTOLD} and found["g"]["verdict"] == SHOWN


def test_levels_that_differ_in_no_signal_are_not_ranked(sweep):
    """Two learning rates at two levels of a generator's own concept; the larger rate is slower."""
    fast = synthetic.dataset(levels=(0.2, 0.8), seeds=SEEDS)
    slow = fast.assign_coords(learning_rate=("run", np.full(12, 2e-3))).copy(deep=True)
    for name in ("prob", "accuracy"):
        slow[name].values[:, 20:] = fast[name].values[:, :-20]
        slow[name].values[:, :20] = 0.5
    ds = xr.concat([fast, slow], "run", join="override").assign_coords(concept=["tone", "grain"])
    found = rows(ds)
    assert found["a"]["value"] == pytest.approx(-1.0) and found["a"]["seeds"] == 6
    assert found["a"]["p"] == pytest.approx(1 / 2**6)  # two orders in each of six seeds, at both rates
    assert found["j"]["value"] == pytest.approx(-1.0) and found["j"]["p"] == pytest.approx(1 / 2**6)


def test_a_seed_at_several_settings_is_one_unit():
    """Two colours at three sizes, two seeds: four arrangements, not the 64 of six independent blocks."""
    sizes = [
        synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100)).assign_coords(sep_size=("run", np.full(4, size)))
        for size in (0.2, 0.3, 0.4)
    ]
    found = rows(xr.concat(sizes, "run", join="override"))["a"]
    assert found["verdict"] == UNTOLD and found["seeds"] == 2 and found["value"] == pytest.approx(-1.0)
    assert found["why"] == "n = 2: the smallest p-value that these seeds and levels can give is 0.25"


def test_masks_at_several_settings_are_exchanged_together():
    groups = [synthetic.masked(fractions=(0.0, 0.5, 1.0), diverged=(), sep_size=size) for size in (0.2, 0.4)]
    found = rows(xr.concat(groups, "run"))["g"]
    assert found["seeds"] == 3 and found["p"] == pytest.approx(1 / 6**3)


def test_a_seed_that_tells_nothing_is_not_counted(sweep):
    tied = sweep.copy(deep=True)
    same = np.flatnonzero(sweep["seed"].values == 0)
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        tied[name].values[same] = sweep[name].values[same[:1]]
    found = rows(tied)
    assert found["a"]["seeds"] == found["j"]["seeds"] == 5 and found["b"]["seeds"] == 6


def test_verdicts_on_levels_have_intervals_and_say_what_learned_means(sweep):
    found = rows(sweep)
    for letter in "abj":
        low, high = found[letter]["interval"]
        assert low <= found[letter]["value"] <= high and high - low > 0.3
    assert found["a"]["interval"][0] == pytest.approx(-1.0, abs=0.05) and found["a"]["interval"][1] < 0
    assert [found[letter]["definition"] for letter in "abj"] == ["stays_80", "", "stays_80"]
    named = sweep.assign_attrs(config=json.dumps({"learned": "first_80"}))
    assert rows(named)["a"]["definition"] == "first_80"
    two = rows(synthetic.dataset(levels=(0.1, 0.2, 0.4, 0.8), seeds=(0, 100)))["a"]
    assert two["verdict"] == SHOWN and two["no_interval"] == "n = 2: no 95 % interval"


def test_diverged_runs_alone_tell_nothing(sweep):
    nothing = sweep.isel(run=range(6)).copy(deep=True)
    for name in ("prob", "accuracy", "joint_accuracy", "joint_prob"):
        nothing[name] = nothing[name] * np.nan
    nothing["status"] = ("run", np.full(6, "diverged"))
    found = rows(nothing)
    assert {row["verdict"] for row in found.values()} == {UNTOLD}
    assert all(row["why"] and math.isnan(row["p"]) for row in found.values())


def test_the_memorised_class_shares_the_stronger_concept(sweep):
    """In the synthetic study the class is always held back in colour, so it is memorised as 01 at every level."""
    signal = sweep["signal"].values.copy()
    assert set(np.sign(signal[:, 0] - signal[:, 1]).tolist()) == {-1.0, 1.0}
    found = rows(sweep)["b"]
    assert found["verdict"] == NOT_SHOWN
    assert found["details"]["sep_col=0.1"]["expected"] == "01"
    assert found["details"]["sep_col=0.8"]["expected"] == "10"
    mirrored = sweep.copy(deep=True)  # at the strongest colour the roles of the two concepts are exchanged
    strong = np.flatnonzero(sweep["sep_col"].values == 0.8)
    weak = np.flatnonzero(sweep["sep_col"].values == 0.1)
    for to, fro in zip(strong, weak, strict=True):
        mirrored["prob"].values[to, :, :, 3] = sweep["prob"].values[fro, :, :, 3, ::-1]
    found = rows(mirrored)["b"]
    assert found["verdict"] == SHOWN
    assert set(found["details"]["sep_col=0.8"]["memorised_as"]) == {"10"}


def test_the_verdict_of_a_test():
    judge = claims.judge
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6).verdict == SHOWN
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, "less").verdict == CONTRADICTED
    assert judge(Outcome(1.0, 0.3, 0.8, 0.01, 0.01), 6).verdict == NOT_SHOWN
    few = judge(Outcome(1.0, 0.25, 1.0, 0.25, 0.25), 2)
    assert few.verdict == UNTOLD and "n = 2" in few.why and math.isnan(few.p)
    # The least is that of the side on which the claim holds; the other side may still contradict it.
    assert judge(Outcome(1.0, 0.11, 1.0, 0.11, 0.01), 2).verdict == UNTOLD
    assert judge(Outcome(0.0, 1.0, 0.01, 0.11, 0.01), 2).verdict == CONTRADICTED
    unmet = judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, needs=(False, "a control does the same"))
    assert (unmet.verdict, unmet.why) == (NOT_SHOWN, "a control does the same")
    assert judge(UNTOLD_TEST, 6).verdict == UNTOLD


def turning_study(seeds, slope, late_rate=False):
    """Class 11 falls to 01 and turns at a step of its own in every seed; `late_rate`: fastest long after the turn."""
    ds = synthetic.dataset(levels=(0.2,), seeds=seeds)
    steps = ds["step"].values.astype(float)
    for run, seed in enumerate(seeds):
        turn = 5000 + 8 * seed
        rise = special.expit((steps - turn - (8000 if late_rate else 300)) / slope)
        creep = np.clip((steps - turn) / 30000, 0, 0.25) if late_rate else 0
        ds["prob"].values[run, :, 0, 3, 0] = np.clip(0.1 + 0.3 * np.exp(-steps / 900) + 0.8 * rise + creep, 0, 1)
    return ds


def test_a_concept_is_learned_fastest_at_its_turn():
    sharp = rows(turning_study(tuple(range(0, 1000, 100)), 120))["c"]
    assert sharp["verdict"] == SHOWN and sharp["details"]["turning_runs"] == sharp["details"]["runs"] == 10
    late = np.median(sharp["details"]["fastest_over_turn"])
    assert 1.0 < late < 1.5 and sharp["why"] == f"the rate is largest at {late:.1f} times the turning step (median)"
    assert rows(turning_study(tuple(range(0, 1000, 100)), 120, late_rate=True))["c"]["verdict"] != SHOWN


def test_a_seed_that_turns_at_fewer_levels_counts_as_much():
    """At the second level the rate is largest long after the turn, and only two of six seeds turn there."""
    sharp, late = turning_study(SEEDS, 120), turning_study(SEEDS, 120, late_rate=True)
    late["prob"].values[2:, :, 0, 3] = 0.95
    ds = xr.concat([sharp, late.assign_coords(sep_col=("run", np.full(6, 0.8)))], "run", join="override")
    alone = {seed: rows(ds.isel(run=np.flatnonzero(ds["seed"].values == seed)))["c"]["value"] for seed in SEEDS}
    found = rows(ds)["c"]
    assert found["details"]["turning_runs"] == 8 and found["seeds"] == 6
    assert max(alone.values()) - min(alone.values()) > 0.1
    assert found["value"] == pytest.approx(np.mean(list(alone.values())))


@pytest.mark.parametrize("letter", ["a", "b", "j"])
def test_shuffled_levels_are_rarely_shown(sweep, letter):
    verdicts = [CLAIMS[letter].ask(shuffled(sweep, seed)).verdict for seed in range(60)]
    assert verdicts.count(SHOWN) <= 60 * 0.05 + 2.5 * math.sqrt(60 * 0.05 * 0.95)


def test_every_claim_has_a_row_with_its_words(sweep):
    found = rows(sweep)
    assert list(found) == list("abcdefghij")
    for row in found.values():
        assert set(row) == {
            "claim",
            "text",
            "statistic",
            "value",
            "interval",
            "no_interval",
            "definition",
            "p",
            "seeds",
            "verdict",
            "why",
            "details",
        }
        assert row["verdict"] in (SHOWN, NOT_SHOWN, CONTRADICTED, UNTOLD)
        assert row["why"] or row["verdict"] != UNTOLD


PROTOCOLS = ("naive", "naive_repeats", "latent", "latent_random", "latent_shuffled", "overprompt", "overprompt_random")
PROTOCOLS = (*PROTOCOLS, "patch")


def battery(curves, seeds=SEEDS, turns=True):
    """A study of one level whose protocols follow given curves (steps, seed) -> P(class 11), the rest naive prompting.

    Every seed turns at a step of its own unless told otherwise.
    """
    ds = turning_study(seeds, 120) if turns else synthetic.dataset(levels=(0.8,), seeds=seeds)
    steps = ds["step"].values.astype(float)
    ds = ds.reindex(protocol=list(PROTOCOLS))
    values = np.full((len(seeds), len(steps), len(PROTOCOLS), 4), np.nan)
    for place, name in enumerate(PROTOCOLS):
        curve = curves.get(name, curves["naive"])
        values[:, :, place, 3] = np.stack([curve(steps, seed) for seed in seeds])
    axes = ("run", "step", "protocol", "klass")
    for name in ("capability", "capability_split", "capability_product"):
        ds[name] = (axes, values)
    ds["naive_split"] = (axes, np.repeat(values[:, :, :1], len(PROTOCOLS), axis=2))
    ds["capability_init"] = (("run", "protocol", "klass"), values[:, 0])
    return ds


def emerges(at, spread=0.0, width=300):
    """P(class) rises at a step, later by `spread` times the seed (and a little by its parity)."""
    return lambda steps, seed: 0.9 * special.expit((steps - at - spread * seed - 20 * (seed // 100 % 2)) / width)


HIDDEN = {
    "naive": emerges(9000, 14),
    "latent": emerges(3000, 6),
    "overprompt": emerges(3050, 6),
    "patch": emerges(4000),
}


def test_hidden_capabilities_are_shown_where_they_are():
    found = rows(battery(HIDDEN))
    for letter in "dfi":
        assert found[letter]["verdict"] == SHOWN, found[letter]
        assert found[letter]["seeds"] == 6 and found[letter]["p"] == pytest.approx(1 / 2**6)
        assert found[letter]["why"] == ("6 of 6 runs learn stably" if letter == "i" else "6 of 6 seeds turn")
        low, high = found[letter]["interval"]
        assert low < found[letter]["value"] < high
    assert set(found["d"]["details"]["p"]) == {"naive", "latent_random", "latent_shuffled"}
    assert found["h"]["verdict"] == UNTOLD and "guidance was not asked" in found["h"]["why"]


def test_an_intervention_that_its_control_equals_is_not_shown():
    found = rows(battery(HIDDEN | {"latent_random": HIDDEN["latent"]}))["d"]
    why = "it beats naive prompting and not latent_random; 6 of 6 seeds turn"
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, why)
    worse = rows(battery(HIDDEN | {"latent": emerges(30_000)}))["d"]
    assert worse["verdict"] != SHOWN
    little = rows(battery(HIDDEN | {"latent": emerges(6000, 8)}))["d"]
    assert little["p"] <= 0.05 and little["verdict"] == NOT_SHOWN and "under naive prompting" in little["why"]


def test_overprompting_that_falls_behind_the_intervention_does_not_do_what_it_does():
    found = rows(battery(HIDDEN | {"overprompt": emerges(3250, 6)}))["f"]
    behind = found["details"]["minus_intervention"]
    assert behind["protocol"] == "latent" and behind["mean"] < -0.05
    why = (
        f"that it is less than 0.1 behind latent is not shown (p = {behind['p_not_behind']:.3f}, {behind['mean']:+.2f})"
    )
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, f"{why}; 6 of 6 seeds turn")
    alike = rows(battery(HIDDEN))["f"]["details"]["minus_intervention"]
    assert abs(alike["mean"]) < 0.05 and alike["p_not_behind"] == pytest.approx(1 / 2**6)


def test_overprompting_that_cannot_be_told_from_the_intervention_is_not_shown_to_do_the_same():
    """In two of six seeds it is far behind: no test says that it is behind, and none that it is not."""

    def halting(steps, seed):
        return np.minimum(emerges(3050, 6)(steps, seed), 0.45 if seed >= 400 else 1.0)

    found = rows(battery(HIDDEN | {"overprompt": halting}))["f"]
    behind = np.array(found["details"]["minus_intervention"]["per_seed"])
    assert claims_of_capability.not_behind(behind).less > ALPHA and found["p"] <= ALPHA
    assert found["verdict"] == NOT_SHOWN and "is less than 0.1 behind latent is not shown" in found["why"]


def test_without_an_intervention_nobody_knows_what_overprompting_has_to_do():
    ds = battery(HIDDEN)
    alone = ds.isel(protocol=[i for i, name in enumerate(PROTOCOLS) if not name.startswith("latent")])
    found = rows(alone)["f"]
    assert (found["verdict"], found["why"]) == (
        UNTOLD, "no latent intervention was measured that it could be compared with"
    )  # fmt: skip


def test_a_probability_at_the_turn_lies_between_0_and_1():
    """Five seeds near 1 and one far below: Student's interval of a number without bounds would go beyond."""
    low, high = rows(battery(HIDDEN | {"latent": emerges(2000, 6.5, 200)}))["d"]["details"]["at_turn"]["interval"]
    assert 0 <= low < high <= 1


def test_only_seeds_that_turn_are_asked_and_it_is_said_how_many_do():
    ds = battery(HIDDEN)
    ds["prob"].values[0, :, 0, 3] = 0.95  # one seed draws the class from the first save on
    found = rows(ds)["d"]
    assert found["seeds"] == 5 and found["why"].endswith("5 of 6 seeds turn")


def test_patching_is_asked_before_its_own_save_and_says_how_many_seeds_are_stable():
    ds = battery(HIDDEN)
    steps = ds["step"].values
    ds.attrs["config"] = json.dumps({"elicit": {"patch_step": int(steps[2])}})
    found = CLAIMS["i"].ask(ds)
    patch, naive = (curve(steps[:2].astype(float), 0) for curve in (HIDDEN["patch"], HIDDEN["naive"]))
    assert found.details["per_seed"]["per_seed"][0] == pytest.approx(float(np.mean(patch - naive)))
    assert found.why == "6 of 6 runs learn stably"
    ds.attrs["config"] = json.dumps({"elicit": {"patch_step": int(steps[-1])}})  # of a later battery without patching
    ds.attrs["batteries"] = json.dumps({"patch": {"patch_step": int(steps[2])}})
    assert CLAIMS["i"].ask(ds).statistic == found.statistic
    ds.attrs["batteries"] = json.dumps({"patch": {"patch_step": int(steps[1])}})
    assert CLAIMS["i"].ask(ds).why == "fewer than two saves before the patch's own"


def test_an_order_that_never_flips_does_not_follow_from_the_signals(sweep):
    """Learning times whose ratio follows the signals, but colour first even where size is by far the stronger."""
    assert rows(sweep)["j"]["verdict"] == SHOWN
    stronger = sweep.isel(run=sweep["sep_col"].values > 0.1).copy(deep=True)
    stronger["signal"] = stronger["signal"] * xr.DataArray([1e-6, 1.0], dims="concept")  # size is stronger everywhere
    found = rows(stronger)["j"]
    colour_first = found["details"]["size_first"]["stronger_in"] - found["details"]["size_first"]["learned_first"]
    assert found["details"]["color_first"]["stronger_in"] == 0 and colour_first > found["details"]["runs"] / 2
    assert found["verdict"] == NOT_SHOWN and "too few runs learn the stronger concept first: size in" in found["why"]


def test_a_ratio_of_signals_that_is_rounding_alone_is_one_ratio(sweep):
    """Both concepts have one signal at every level, up to the rounding of float32."""
    ds, rng = sweep.copy(deep=True), np.random.default_rng(0)
    alike = np.repeat(sweep["signal"].values[:, :1], 2, axis=1)
    ds["signal"] = (sweep["signal"].dims, alike * (1 + 1e-7 * rng.standard_normal(alike.shape)))
    found = rows(ds)["j"]
    assert (found["verdict"], found["why"]) == (UNTOLD, "the ratio of the two signals is the same at every level")
    some = sweep.copy(deep=True)  # at one level neither concept is the stronger one
    same = sweep["sep_col"].values == 0.4
    some["signal"].values[same] = 0.05 * (1 + 1e-7 * rng.standard_normal((int(same.sum()), 2)))
    details = rows(some)["j"]["details"]
    counted = details["color_first"]["stronger_in"] + details["size_first"]["stronger_in"]
    assert details["runs"] == 24 and counted == 18 and details["stronger_first"] <= 18


def test_a_signal_of_zero_has_no_ratio(sweep):
    ds = sweep.copy(deep=True)
    ds["signal"].values[sweep["sep_col"].values == 0.1, 0] = 0.0
    found = rows(ds)["j"]
    assert found["verdict"] == UNTOLD and found["why"].startswith("a concept without a signal at some level")
    assert rows(ds)["a"]["verdict"] == SHOWN  # an order needs no ratio


def test_where_nothing_turns_there_is_no_turn_to_ask_at():
    found = rows(battery(HIDDEN, turns=False))
    assert found["d"]["verdict"] == UNTOLD and found["d"]["why"] == "no run memorises the class and turns"
    assert found["i"]["verdict"] == SHOWN


def test_steps_that_agree_over_seeds_against_steps_that_spread():
    same = rows(battery(HIDDEN | {"latent": emerges(4500, 0)}))["e"]
    assert same["verdict"] == SHOWN and same["details"]["std"] < same["details"]["std_naive"]
    assert rows(battery(HIDDEN | {"latent": emerges(9000, 14.1)}))["e"]["verdict"] == NOT_SHOWN
    assert same["no_interval"].startswith("a ratio of variances") and same["definition"] == "stays_80"
    never = rows(battery(HIDDEN | {"naive": emerges(90_000)}))["e"]
    assert never["verdict"] == UNTOLD and never["why"] == "both emerge in 0 seeds; a spread takes 5"


def test_which_levels_a_seed_emerges_at_is_no_spread():
    """At a second level naive prompting is late, and there the intervention emerges in half of the seeds alone."""
    both = {"naive": emerges(3000, 0.4), "latent": emerges(3000, 0.5)}
    early, late = battery(HIDDEN | both), battery(HIDDEN | both | {"naive": emerges(12_000, 0.4)})
    halted = late["capability_split"].values[3:, :, PROTOCOLS.index("latent"), 3]
    np.minimum(halted, 0.7, out=halted)
    late = late.assign_coords(sep_col=("run", np.full(6, 0.8)))
    found = rows(xr.concat([early, late], "run", join="override"))["e"]
    assert found["details"]["emerged"] == 6 and found["details"]["never"] == 3
    assert abs(found["value"]) < 1 and found["p"] > 0.5  # the two levels' own steps differ by a factor of four


def never_in(seed, curve):
    """The same curve, but in one seed it stays below 80 %."""
    return lambda steps, one: np.minimum(curve(steps, one), 0.7 if one == seed else 1.0)


def test_a_seed_in_which_one_side_never_emerges_stands_against_what_leaving_it_out_would_favour():
    same, spread = emerges(4500, 0), HIDDEN["naive"]
    found = rows(battery(HIDDEN | {"latent": never_in(500, same)}))["e"]
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, "latent never emerges in 1 of 6 runs")
    assert found["p"] <= ALPHA and (found["details"]["never"], found["details"]["never_naive"]) == (1, 0)
    assert rows(battery(HIDDEN | {"latent": same, "naive": never_in(500, spread)}))["e"]["verdict"] == SHOWN
    assert rows(battery(HIDDEN | {"latent": spread, "naive": same}))["e"]["verdict"] == CONTRADICTED
    found = rows(battery(HIDDEN | {"latent": spread, "naive": never_in(500, same)}))["e"]
    assert (found["verdict"], found["why"]) == (NOT_SHOWN, "naive prompting never emerges in 1 of 6 runs")


def test_a_broken_query_is_missing_and_not_never():
    ds = battery(HIDDEN | {"latent": emerges(4500, 0)})
    whole = rows(ds)["e"]
    ds["capability_split"].values[5, 3, PROTOCOLS.index("latent"), 3] = np.nan
    found = rows(ds)["e"]
    assert found["seeds"] == 5 and found["details"]["never"] == 0 and found["verdict"] == whole["verdict"] == SHOWN


def guided_study(at_zero):
    """Guidance at weights 0 and 1 in six seeds."""
    ds = battery(HIDDEN)
    steps = ds["step"].values.astype(float)
    prob = np.full((6, len(steps), 2, 4, 2), np.nan)
    prob[:, :, 0, 3] = at_zero + 0.02 * np.arange(6)[:, None, None] / 6
    prob[:, :, 1, 3] = emerges(5000)(steps, 0)[None, :, None] + 0.05 - 0.01 * np.arange(6)[:, None, None] / 6
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


@pytest.mark.parametrize(("at_zero", "verdict"), [(0.45, SHOWN), (0.97, NOT_SHOWN)])
def test_without_a_prompt_trajectories_do_not_turn(at_zero, verdict):
    found = CLAIMS["h"].ask(guided_study(at_zero))
    assert found.verdict == verdict or (verdict == NOT_SHOWN and found.verdict == CONTRADICTED)
    assert found.details["weight"] == 1.0


@pytest.mark.parametrize("letter", ["d", "f", "i"])
def test_exchanged_protocols_are_rarely_shown(letter):
    """In half of the seeds, drawn anew, naive prompting and the protocol with its controls exchange what they gave."""
    seeds = tuple(range(0, 800, 100))
    ds = battery(HIDDEN, seeds)
    shown = 0
    for draw in range(60):
        rng = np.random.default_rng(draw)
        moved = ds.copy(deep=True)
        for run in np.flatnonzero(rng.random(len(seeds)) < 0.5):
            split, naive = moved["capability_split"].values[run], moved["naive_split"].values[run]
            for name in ("latent", "overprompt", "patch"):
                place = PROTOCOLS.index(name)
                split[:, place, 3], naive[:, place, 3] = naive[:, place, 3].copy(), split[:, place, 3].copy()
        shown += CLAIMS[letter].ask(moved).verdict == SHOWN
    assert shown <= 60 * 0.05 + 2.5 * math.sqrt(60 * 0.05 * 0.95)


def test_verdicts_and_comparisons_are_tables_too():
    ds = battery(HIDDEN)
    ds["best_query"] = ds["capability"]
    verdicts = tables.select(ds, "claims")
    assert verdicts.loc["d", "verdict"] == SHOWN and verdicts.loc["a", "verdict"] == UNTOLD
    assert verdicts.loc["d", "low"] < verdicts.loc["d", "value"] < verdicts.loc["d", "high"]
    assert verdicts.loc["e", "definition"] == "stays_80" and verdicts.loc["e", "no_interval"]
    compared = tables.select(ds, "comparisons")
    row = compared.loc[("the one setting", "11", "latent", "naive")]
    assert row["low"] < row["difference"] < row["high"] and row["p"] == pytest.approx(2 / 2**6)
    assert row["p_holm"] == pytest.approx(6 * 2 / 2**6)  # six comparisons, all as clear
    assert row["sooner"] == 6 and row["later"] == 0 and row["p_times"] == pytest.approx(2 / 2**6)
    assert compared.index.get_level_values("against").tolist().count("naive") == 3
    assert tables.select(turning_study(SEEDS, 120), "comparisons").empty


def test_a_broken_query_leaves_its_seed_out_of_a_comparison():
    ds = battery(HIDDEN)
    ds["best_query"] = ds["capability"]
    ds["capability_split"].values[0, 3, PROTOCOLS.index("latent"), 3] = np.nan
    row = tables.select(ds, "comparisons").loc[("the one setting", "11", "latent", "naive")]
    assert row["seeds"] == 5 and math.isfinite(row["difference"]) and row["p"] == pytest.approx(2 / 2**5)
    assert row["sooner"] == 5 and row["p_times"] == pytest.approx(2 / 2**5)


def test_a_broken_query_leaves_its_seed_out_of_the_table_of_protocols():
    ds = battery(HIDDEN)
    for name in ("capability", "capability_split"):
        ds[name].values[0, 3, PROTOCOLS.index("latent"), 3] = np.nan
    ds["naive_split"].values[1, 3, PROTOCOLS.index("latent"), 3] = np.nan
    (level,) = capability.summarise(ds)
    block = level["classes"]["11"]["latent"]
    assert (block["emergence"]["seeds"], block["emergence"]["learned"], block["emergence_max"]["seeds"]) == (5, 5, 5)
    assert (block["sooner_than_naive"], block["compared"]) == (4, 4)
    assert np.isnan(block["gap_to_naive"]).tolist() == [True, True, False, False, False, False]
    assert math.isfinite(block["final"]) and math.isfinite(block["final_split"]) and math.isfinite(block["best_split"])
    assert level["classes"]["11"]["naive"]["emergence"]["seeds"] == 6
    ds["capability_split"].values[:, 3, PROTOCOLS.index("latent"), 3] = np.nan
    nothing = capability.summarise(ds)[0]["classes"]["11"]["latent"]
    assert nothing["emergence"]["seeds"] == 0 and math.isnan(nothing["best_split"])


def test_comparisons_say_where_they_are_unfair_and_where_seeds_are_too_few():
    ds = battery(HIDDEN, seeds=SEEDS[:5])
    ds["best_query"] = ds["capability"]
    asked = ["naive", "naive_repeats", "naive_repeats", "latent", "latent", "latent", "overprompt", "patch"]
    ds = ds.assign_coords(query_protocol=("query", asked), query_value=("query", [""] * len(asked)))
    found = tables.select(ds, "comparisons").loc[("the one setting", "11", "latent", "naive")]
    assert found["p_least"] == pytest.approx(6 * 2 / 2**5) and found["p_holm"] >= found["p_least"]
    console = Console(width=200, record=True, file=io.StringIO())
    verdict_tables.print_comparisons(comparison.comparisons(ds), console)
    text = " ".join(console.export_text().split())
    assert "UNFAIR to naive prompting: it chose among 2 queries where a protocol chose among up to 3" in text
    assert "the smallest p that the correction leaves is 0.38" in text


def test_the_terminal_shows_comparisons_and_verdicts():
    ds = battery(HIDDEN)
    ds["best_query"] = ds["capability"]
    console = Console(width=80, record=True, file=io.StringIO())
    report.print_summary(summary.summarise(ds), console)
    text = " ".join(console.export_text().split())
    assert "Protocols against naive prompting and their controls, seed by seed" in text
    assert "latent naive +0." in text and "overprompt_random" in text
    assert "cannot be told: a, b, j: one level of concept signal: it takes two." in text
    assert "one-sided, by rearranging the study itself" in text
    (row,) = [one for one in claims.verdicts(ds) if one["claim"] == "d"]
    low, high = row["interval"]
    assert f"{row['value']:.2f} [{low:.2f}, {high:.2f}]" in text
    assert "no 95 % interval: e: a ratio of variances of so few seeds" in text and "learned: e: stays_80." in text


def test_masking_delays_and_prevents():
    found = rows(synthetic.masked())["g"]
    assert found["verdict"] == SHOWN and found["value"] == pytest.approx(1.0)
    assert found["why"] == "prevented (median never) from a share of 1 on"
    assert found["details"]["by_share"]["1"] == {
        "median": pytest.approx(math.nan, nan_ok=True),
        "learned": 0,
        "seeds": 3,
    }
    turned = synthetic.masked()
    again = synthetic.masked()  # at the largest share it is learned once more: nothing is prevented
    again["prob"][again["mask"].values == 1] = again["prob"].values[again["mask"].values == 0]
    again["accuracy"][again["mask"].values == 1] = again["accuracy"].values[again["mask"].values == 0]
    assert CLAIMS["g"].ask(again).why == "prevented at no share"
    unmasked = turned.assign_coords(mask=("run", 1 - turned["mask"].values))
    assert CLAIMS["g"].ask(unmasked).verdict == CONTRADICTED
    assert rows(synthetic.masked_groups())["g"]["verdict"] == SHOWN
    delayed = rows(synthetic.masked(fractions=(0.0, 0.25, 0.5)))["g"]  # later at each share, and never at none
    assert delayed["value"] == pytest.approx(1.0) and delayed["p"] <= ALPHA
    assert (delayed["verdict"], delayed["why"]) == (NOT_SHOWN, "prevented at no share")


def test_the_group_in_which_masks_prevent_is_named():
    """At sizes of .2 nothing is prevented, at .4 it is: text and details are of the second."""
    assert rows(synthetic.masked())["g"]["details"]["group"] == ""
    mild, strong = (synthetic.masked(diverged=(), sep_size=size) for size in (0.2, 0.4))
    most, half = (mild["mask"].values == mask for mask in (1, 0.5))
    for name in ("prob", "accuracy"):
        mild[name].values[most] = mild[name].values[half]
    found = rows(xr.concat([mild, strong], "run", join="override"))["g"]
    assert found["why"] == "prevented (median never) from a share of 1 on at sep_size=0.4"
    assert found["details"]["group"] == "sep_size=0.4" and found["details"]["prevented_from"] == 1
    assert found["details"]["by_share"]["1"]["learned"] == 0
