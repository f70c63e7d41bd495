"""What the page tells of a study in words: times, claims, facts, commands."""

import re

import synthetic
from pages import rendered, summarised

from cspace_jax.explorer import overview


def test_times_are_told_with_their_interval():
    ends = {"learned": 9, "seeds": 10}
    assert overview.time_words({"median": 505.4, "interval": [407.0, 685.0], **ends}) == "505 [407, 685], 9 of 10"
    assert overview.time_words({"median": None, "interval": [2149.0, None], **ends}) == "never [2,149, open], 9 of 10"
    assert overview.time_words({"median": 10.0, "interval": [None, None], "learned": 2, "seeds": 2}) == "10"


def test_claims_say_why_they_have_no_interval_and_which_definition_they_rest_on(ds):
    found = summarised(ds)
    text = rendered(ds)
    row = next(one for one in found["claims"] if one["definition"] and one["no_interval"])
    cells = re.search(rf"\({row['claim']}\) .*?</tr>", text, re.S)[0]
    assert f'<td class="number">{row["no_interval"]}</td>' in cells
    letters = ", ".join(one["claim"] for one in found["claims"] if one["definition"] == "stays_80")
    assert f"What claims {letters} call learned: {found['definitions']['stays_80']} (stays_80)." in text
    for one in found["claims"]:  # a summary of an older version
        del one["definition"], one["no_interval"]
    assert all(not learned for _, _, learned in overview.claims(found))


def test_facts_leave_out_what_is_not_known(ds):
    env = {"command_line": "M --config=x", "device_count": 2, "device_kind": "cpu"}
    found = dict(overview.facts(summarised(ds), env, {"train": 100.0, "probe": 5.0}))
    assert (
        found["Command"] == "M --config=x" and found["Device"] == "2 x cpu" and found["Time"].startswith("2 min (train")
    )
    assert found["Seeds"] == "0, 100 (diverged: 100 at sep_col=0.2)" and "Commit" not in found
    assert found["Runs"] == "4, 1 diverged and left out" and "Later" not in found


def test_a_seed_whose_runs_all_diverged_is_named():
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), diverged=(1, 3))
    found = dict(overview.facts(summarised(ds), {}, {}))
    assert found["Seeds"] == "0, 100 (diverged: 100 at sep_col=0.2; 100 at sep_col=0.8)"


def test_what_was_run_is_the_first_command_and_where_later_ones_differ(ds):
    def start(command, day, kind="cpu", jax="0.10.2", commit="aaa"):
        versions = {"jax": jax, "numpy": "2.4.0"}
        facts = {"device_kind": kind, "device_count": 1, "versions": versions, "git_commit": commit}
        return {"command_line": command, "time": f"2026-11-{day}", **facts}

    train = "M --config=x --workdir=w"
    earlier = [start(train, "01"), start(train, "02"), start(train, "03")]
    later = start("M --mode=elicit --workdir=w", "05", "H200", "0.11.0")
    found = overview.facts(summarised(ds), {**later, "earlier": earlier}, {"train": 100.0})
    facts = dict(found)
    assert (facts["Command"], facts["Device"], facts["Date"]) == (train, "1 x cpu", "2026-11-01")
    assert facts["Versions"] == "jax 0.10.2, numpy 2.4.0"
    assert [text for name, text in found if name == "Later"] == [
        "the same command; 2 times, last 2026-11-03",
        "M --mode=elicit --workdir=w; 2026-11-05; device 1 x H200; versions jax 0.11.0",
    ]
    assert "1 x cpu" in overview.run_line(summarised(ds), {**later, "earlier": earlier}, {"train": 100.0})
    programs = ("'/a b/main.py'", "main.py", "/bin/cspace", "/a/main.py")
    *earlier, last = (start(f"{program} --config=x", "02") for program in programs)
    found = overview.facts(summarised(ds), {**last, "earlier": earlier}, {})
    assert ("Command", "cspace --config=x") in found
    assert ("Later", "the same command; 3 times, last 2026-11-02") in found
