"""What a page holds, read without a browser."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import synthetic
from PIL import Image

from cspace_jax.analysis import capability, intervals, reasons, summary
from cspace_jax.analysis.learning import samples_of
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.report import to_json
from cspace_jax.explorer import charts, learning, overview, page, space, sprites
from cspace_jax.plots import elicitation


def summarised(ds):
    return to_json(summary.summarise(ds))


def rendered(ds, samples=None, **more):
    inputs = {"question": "When?", "config": {}, "env": {}, "times": {}} | more
    return page.render(page.Inputs(ds=ds, summary=summarised(ds), samples=samples or {}, **inputs))


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def unpacked(values):
    return np.frombuffer(base64.b64decode(values["f32"]), "<f4").reshape(values["shape"])


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100), diverged=(1,))


@pytest.fixture(scope="module")
def elicited():
    return synthetic.elicited()[0]


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


def test_sheets_hold_the_pixels_upright():
    samples = {step: np.random.default_rng(step).integers(0, 256, (2, 4, 3, 5, 6, 3), np.uint8) for step in (10, 20)}
    found = sprites.sheets(samples)
    assert (
        found["number"] == 2 and found["of"] == 3 and found["shown"] == [0, 1]
    )  # of COUNTS, the largest that is there
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(found["sheets"][1].partition(",")[2]))))
    assert sheet.shape == (4 * 2 * 6, 2 * 5, 3)
    row, column = (2 * 2 + 1) * 6, 5  # class 2, sample 1, step 20
    upright = np.flip(samples[20][1, 2, 1].swapaxes(0, 1), 0)  # y upwards
    np.testing.assert_array_equal(sheet[row : row + 6, column : column + 5], upright)


def test_sheets_keep_to_their_budget_and_say_what_they_hold():
    noise = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 16, 16, 3), np.uint8)
    samples = {step: noise for step in range(10)}
    whole = sprites.sheets(samples)
    assert whole["number"] == 8 and len(whole["shown"]) == 10
    size = sum(map(len, whole["sheets"]))
    fewer = sprites.sheets(samples, size // 3)
    assert fewer["number"] < 8 and len(fewer["shown"]) == 10 and sum(map(len, fewer["sheets"])) < size / 2
    least = sprites.sheets(samples, size // 40)
    assert least["number"] == 1 and least["shown"][-1] == 9 and len(least["shown"]) < 10
    assert sprites.sheets({}) == {}


@pytest.mark.parametrize(("saves", "size", "number"), [(512, 32, 1), (60, 274, 2), (9, 1700, 1)])
def test_sheets_of_many_or_large_pictures_are_pictures(saves, size, number):
    one = np.zeros((1, 4, 2, size, size, 3), np.uint8)
    found = sprites.sheets(dict.fromkeys(range(saves), one))
    sheet = Image.open(io.BytesIO(base64.b64decode(found["sheets"][0].partition(",")[2])))
    lines = -(-4 * found["number"] * len(found["shown"]) // found["across"])
    assert sheet.size == (found["across"] * size, lines * size) and max(sheet.size) <= 16_383
    assert found["shown"][-1] == saves - 1 and found["number"] >= (number if size < 1000 else 1)


def test_many_classes_of_large_pictures_are_wrapped_and_what_no_sheet_can_hold_is_said():
    one = np.zeros((1, 64, 1, 256, 256, 3), np.uint8)
    found = sprites.sheets({10: one, 20: one})
    assert found["shown"] == [0, 1] and found["number"] == 1 and found["across"] == 3  # 128 cells in 43 lines
    sheet = Image.open(io.BytesIO(base64.b64decode(found["sheets"][0].partition(",")[2])))
    assert sheet.size == (3 * 256, 43 * 256)
    large = {10: np.zeros((1, 64, 1, 1024, 1024, 3), np.uint8)}
    assert sprites.sheets(large) == {"why": sprites.TOO_LARGE}


def test_the_budget_holds_where_the_first_run_is_blank():
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 8, 16, 16, 3), np.uint8)
    noise[[0, 5]] = 0  # diverged
    samples = dict.fromkeys(range(4), noise)
    whole = sum(len(base64.b64decode(one.partition(",")[2])) for one in sprites.sheets(samples)["sheets"])
    less = sprites.sheets(samples, whole - 1)
    assert sum(len(base64.b64decode(one.partition(",")[2])) for one in less["sheets"]) < whole and less["number"] == 6


def test_seeds_are_points_where_there_is_no_interval(elicited):
    made = synthetic.embedded(elicited)[0]
    for name in ("curves", "protocols", "losses"):
        found = page.CHARTS[name].draw(made, summarised(made))
        points = [one for one in found.figure.data if one.mode == "markers"]
        assert "seeds as points" in found.words and {len(one.x) for one in points} == {2 * made.sizes["step"]}, name
        assert {one.legendgroup for one in points} <= {one.name for one in found.figure.data if one.showlegend}
    color = next(one for one in page.CHARTS["curves"].draw(made, summarised(made)).figure.data if one.mode == "markers")
    expected = made["prob"].sel(protocol="naive", klass="00", concept="color").isel(run=[0, 1]).values
    np.testing.assert_allclose(color.y, expected.ravel(), rtol=1e-6)
    many = synthetic.dataset(levels=(0.4,))
    found = page.CHARTS["curves"].draw(many, summarised(many))
    assert not [one for one in found.figure.data if one.mode == "markers"]  # three seeds have a band


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


def test_levels_that_three_digits_do_not_tell_apart_keep_their_own_signal():
    made = synthetic.dataset(levels=(0.2001, 0.2002, 0.8), seeds=(0, 1))
    found = page.CHARTS["speeds"].draw(made, summarised(made))
    labels = ["sep_col=0.2001", "sep_col=0.2002", "sep_col=0.8"]
    of_color = found.numbers[found.numbers["concept"] == "color"].drop_duplicates("level")
    assert of_color["level"].tolist() == labels
    np.testing.assert_allclose(of_color["signal"], np.array([0.2001, 0.2002, 0.8]) ** 2 / 8)
    assert [one["label"] for one in space.payload(made)["levels"]] == labels
    assert [row["level"] for row in overview.learning_times(made, summarised(made))["rows"]][::2] == labels


def test_the_page_asks_no_server_and_no_name_ends_its_script(ds):
    evil = "</script><script>alert(1)</script>"
    text = rendered(ds, question=evil, config={"study": evil}, env={"command_line": evil})
    own = text.replace(page.plotly.offline.get_plotlyjs(), "")
    assert evil not in own and "alert(1)" in own
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", own) and "@import" not in own
    assert "default-src 'none'" in own
    named = rendered(ds.assign_attrs(study=evil)).replace(page.plotly.offline.get_plotlyjs(), "")
    assert evil not in named and data_of(named)["study"] == evil


def test_charts_say_the_same_numbers_as_analysis(elicited):
    found = data_of(rendered(synthetic.embedded(elicited)[0]))["charts"]
    assert list(found) == ["curves", "speeds", "protocols", "losses", "embeddings"]
    table = pd.read_csv(io.StringIO(found["protocols"]["csv"]), dtype={"class": str})
    level = levels(elicited)[1]
    scores = elicitation.Row(3, "capability_split").scores(elicited, level, "guidance")
    rows = table[(table["level"] == level.label) & (table["protocol"] == "guidance")]
    np.testing.assert_allclose(rows["mean"], scores.mean(0), rtol=1e-5)
    assert rows["n"].tolist() == [2, 2, 2] and rows["low"].isna().all()  # two seeds: no interval
    curves = pd.read_csv(io.StringIO(found["curves"]["csv"]), dtype={"class": str})
    own = curves[(curves["level"] == level.label) & (curves["class"] == "11") & (curves["concept"] == "size")]
    expected = elicited["prob"].sel(protocol="naive", concept="size", klass="11").isel(run=[2, 3]).mean("run")
    np.testing.assert_allclose(own["mean"], expected, rtol=1e-5)


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


def test_all_runs_diverged_is_a_page_without_charts():
    text = rendered(synthetic.dataset(levels=(0.2,), seeds=(0, 1), diverged=(0, 1)))
    assert "every run diverged" in text and data_of(text)["charts"] == {}


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


def test_a_chart_of_ones_own_comes_last(ds, monkeypatch):
    monkeypatch.setattr(charts, "CHARTS", dict(charts.CHARTS))
    monkeypatch.setattr(page, "CHARTS", charts.CHARTS)

    @charts.chart("mine", "Mine")
    def mine(ds, summary):
        fig = charts.panels(1, 1)
        charts.line(fig, (1, 1), ds["step"].values, ds["prob"].values[0, :, 0, 3, 0], "one", "#222222")
        return charts.Chart(fig, pd.DataFrame({"a": [1]}), "One line.")

    text = rendered(ds)
    assert list(data_of(text)["charts"])[-1] == "mine" and "One line." in text


def test_speeds_of_tinted_pictures_go_by_the_tint_alone(ds):
    """A label has no signal, the tint has."""
    tinted = ds.assign(signal=ds["signal"].where(ds["concept"] == "color"))
    found = learning.learning_speeds(tinted, summarised(tinted))
    assert set(found.numbers["concept"]) == {"color"} and np.isfinite(found.numbers["signal"]).all()
    unknown = ds.assign(signal=ds["signal"] * np.nan)
    assert reasons.signal(unknown, {}) == "the concept signal was not measured"
