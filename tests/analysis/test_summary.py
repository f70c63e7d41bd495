import dataclasses
import io
import json

import numpy as np
import pytest
import synthetic
from etils import epath
from rich.console import Console
from scipy import ndimage

from cspace_jax.analysis import curves, learning, report, verdict_tables
from cspace_jax.analysis.learning import product_check
from cspace_jax.analysis.levels import levels, signal_varies, swept_concept
from cspace_jax.analysis.ordering import level_groups, order_check, order_within
from cspace_jax.analysis.summary import summarise
from cspace_jax.data import concepts
from cspace_jax.plots.speeds import fig3
from cspace_jax.storage.workdir import Workdir

STEPS = np.array(synthetic.STEPS, float)
BITS = concepts.classes(("color", "size")).bits
TRAINED = np.array([True, True, True, False])


def logistic_crossing(time, width, value):
    return time + width * np.log(value / (1 - value))


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_crossing_time_of_a_logistic_curve(threshold):
    steps = np.arange(0, 10001, 10.0)
    curve = synthetic.logistic(steps, 4000, 300)
    expected = logistic_crossing(4000, 300, threshold)
    assert curves.crossing_time(steps, curve, threshold) == pytest.approx(expected, abs=0.1)
    assert curves.crossing_time(steps, curve, threshold, persistence=1) == pytest.approx(expected, abs=0.1)


def test_crossing_time_asks_for_persistence():
    steps = np.arange(10) * 100.0
    curve = np.array([0, 0.9, 0.9, 0.2, 0.6, 1.0, 1.0, 1.0, 0.7, 0.9])
    assert curves.crossing_time(steps, curve) == pytest.approx(850)
    assert curves.crossing_time(steps, curve, persistence=1) == pytest.approx(100 * 0.8 / 0.9)
    assert curves.crossing_time(steps, curve, persistence=3) == pytest.approx(450)
    assert np.isnan(curves.crossing_time(steps, curve, persistence=4))
    assert np.isnan(curves.crossing_time(steps[:-1], curve[:-1]))
    assert curves.crossing_time(steps, np.ones(10)) == 0
    assert np.isnan(curves.crossing_time(steps, curve, persistence=11))
    with pytest.raises(ValueError, match="persistence"):
        curves.crossing_time(steps, curve, persistence=0)


def test_notebook_time_is_the_first_eroded_index():
    rng = np.random.default_rng(1)
    for _ in range(200):
        curve = np.clip(rng.normal(0.9, 0.12, 40), 0, 1)
        steps = np.cumsum(rng.integers(1, 50, 40))
        above = ndimage.gaussian_filter1d(curve, 1.5) > 0.9
        centres = [i for i in range(1, 39) if above[i - 1] and above[i] and above[i + 1]]
        np.testing.assert_equal(curves.notebook_time(steps, curve), float(steps[centres[0]]) if centres else np.nan)
    assert curves.notebook_time(np.arange(5), np.ones(5)) == 1  # the ends are not centres
    assert np.isnan(curves.notebook_time(np.arange(5), np.zeros(5)))


def test_smoothing_is_the_published_filter():
    values = np.random.default_rng(0).random((60, 2))
    expected = ndimage.gaussian_filter1d(values, 2, axis=0, truncate=6, mode="reflect")
    np.testing.assert_array_equal(curves.smooth(values), expected)
    np.testing.assert_array_equal(curves.smooth(values, 0), values)


def test_memorisation_of_a_constructed_trajectory():
    # start in the middle, straight to near 01 = (0, 1), then along the top edge to 11
    corner = np.array([0.1, 0.9])
    inward = np.linspace([0.5, 0.5], corner, 21)
    outward = np.linspace(corner, [1.0, 1.0], 20)[1:]
    path = np.concatenate([inward, outward])
    steps = np.arange(len(path)) * 500.0
    found = curves.find_memorisation(steps, path, BITS, 3, TRAINED)
    assert (found.nearest, found.weak, found.memorised) == (1, 0, True)
    assert found.turning_step == found.weak_step == 10000
    assert found.depth == pytest.approx(0.9)
    assert found.at_min == pytest.approx((0.1, 0.9))
    mirrored = curves.find_memorisation(steps, path[:, ::-1], BITS, 3, TRAINED)
    assert (mirrored.nearest, mirrored.weak, mirrored.turning_step) == (2, 1, 10000)
    stays = curves.find_memorisation(steps, np.concatenate([inward, np.repeat(corner[None], 19, 0)]), BITS, 3, TRAINED)
    assert stays.memorised and np.isnan(stays.turning_step)
    straight = curves.find_memorisation(steps, np.linspace([0.5, 0.5], [1, 1], len(path)), BITS, 3, TRAINED)
    assert not straight.memorised and np.isnan(straight.turning_step)


def test_turn_of_a_right_angle_is_found_where_it_is():
    path = np.concatenate([np.linspace([0.5, 0.5], [0, 0.5], 21), np.linspace([0, 0.5], [0, 1], 21)[1:]])
    steps = np.arange(len(path)) * 100.0
    turn = curves.find_turn(steps, path)
    assert turn.step == 2000 and turn.degrees == pytest.approx(90)
    assert np.isnan(curves.find_turn(steps, path, threshold=100).step)
    assert np.isnan(curves.find_turn(steps, path, early=0.6).step)
    assert np.isnan(curves.find_turn(steps, np.linspace([0, 0], [1, 1], len(path))).step)
    assert np.isnan(curves.find_turn(steps, np.full((41, 2), 0.3)).step)
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert curves.find_turn(steps, path @ rotation).step == 2000
    assert np.isnan(curves.turn_angles(path[:5])).all()


def test_speed_of_uniform_motion_on_uneven_steps():
    steps = np.array([0, 10, 30, 100.0])
    middle, speed = curves.speed(steps, np.outer(steps, [0.003, 0.004]))
    np.testing.assert_allclose(middle, [5, 20, 65])
    np.testing.assert_allclose(speed, 0.005)


@pytest.fixture(scope="module")
def ds():
    return synthetic.dataset(diverged=(4,))


@pytest.fixture(scope="module")
def summary(ds):
    return summarise(ds, wall_times={"train": 12.5})


def test_levels_group_runs_and_leave_diverged_ones_out(ds):
    found = levels(ds)
    assert [level.label for level in found] == ["sep_col=0.1", "sep_col=0.2", "sep_col=0.4", "sep_col=0.8"]
    assert found[1].runs == (3, 5) and found[1].diverged == (4,)
    np.testing.assert_allclose(np.linalg.norm([level.normalised for level in found], axis=1), 1)
    assert swept_concept(found) == 0


def test_a_grid_over_two_settings_has_a_level_for_each_pair():
    one = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 1))
    two = one.assign_coords(sep_size=("run", [0.2, 0.2, 0.4, 0.4]))
    assert [level.label for level in levels(two)] == ["sep_col=0.2, sep_size=0.2", "sep_col=0.8, sep_size=0.4"]


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


def test_order_check_puts_never_last():
    signal = np.array([3.0, 1.0, 2.0])
    assert order_check(signal, np.array([10.0, np.nan, 20]))["ordered"]
    assert not order_check(signal, np.array([np.nan, 10.0, 20]))["ordered"]
    for alike in (5.0, np.nan):
        assert order_check(signal, np.full(3, alike))["ordered"] is None
    assert order_check(signal[:1], np.array([1.0]))["ordered"] is None
    assert order_check(np.full(3, 0.1) * 3 / 3, np.array([1.0, 2, 3]))["ordered"] is None


def test_levels_of_equal_signal_have_no_order():
    """Whatever the order of the table, of two equally strong levels none has to be the faster one."""
    signal = np.array([1.0, 2.0, 2.0 + 1e-15, 3.0])
    for medians in ([40.0, 20, 30, 10], [40.0, 30, 20, 10]):
        check = order_check(signal, np.array(medians))
        assert check["ordered"] is True and check["spearman"] == pytest.approx(-4.5 / np.sqrt(4.5 * 5))
    assert order_check(signal, np.array([25.0, 20, 30, 10]))["ordered"] is False


def test_levels_of_a_concept_without_a_known_axis_differ_in_signals_alone():
    ds = synthetic.dataset(levels=(0.1, 0.2, 0.3, 0.4), seeds=(0,))
    ds = ds.assign_coords(learning_rate=("run", [1e-3, 1e-3, 2e-3, 2e-3]))
    assert level_groups(levels(ds), "tone") == level_groups(levels(ds), "size") == [[0, 1], [2, 3]]


def test_the_swept_concept_is_one_whose_signal_is_known(ds):
    found = levels(ds)
    unknown = [dataclasses.replace(level, signal=(np.nan, 0.1 * i)) for i, level in enumerate(found)]
    assert swept_concept(unknown) == 1 and signal_varies(unknown, 1) and not signal_varies(unknown, 0)
    assert swept_concept([dataclasses.replace(level, signal=(np.nan, np.nan)) for level in found]) == 0


def test_order_is_asked_where_the_other_settings_are_equal():
    """Size's signal raises colour's a little and delays colour: the order is broken over all, not in rows."""
    signal = np.array([0.1, 0.2, 0.11, 0.21])  # colour x size, size varies slowest
    medians = np.array([40.0, 10.0, 60.0, 20.0])
    assert order_check(signal, medians)["ordered"] is False
    within = order_within(signal, medians, [[0, 1], [2, 3]])
    assert within["ordered"] is True and within["spearman"] == pytest.approx(-1)
    assert (within["groups"], within["ordered_groups"], within["levels"]) == (2, 2, 4)
    broken = order_within(signal, np.array([40.0, 10.0, np.nan, np.nan]), [[0, 1], [2, 3]])
    assert broken["ordered"] is True and broken["groups"] == 1  # never twice is no order
    assert order_within(signal, medians, [[0], [1], [2], [3]])["ordered"] is None


def test_levels_are_grouped_by_the_other_settings():
    axes = [(0.2, 0.1), (0.2, 0.3), (0.6, 0.1), (0.6, 0.3)]
    ds = synthetic.dataset(levels=(0.1, 0.2, 0.3, 0.4), seeds=(0,))
    names = ("sep_col", "sep_size")
    ds = ds.assign_coords({name: ("run", np.array([one[i] for one in axes])) for i, name in enumerate(names)})
    found = levels(ds)
    assert level_groups(found, "color") == [[0, 2], [1, 3]] and level_groups(found, "size") == [[0, 1], [2, 3]]
    assert level_groups(found, "shape") == [[0, 1, 2, 3]]


def test_early_phase_does_not_grow_beyond_the_published_one():
    steps = np.arange(100, 60_001, 100)
    assert steps[curves.late_saves(steps)] == 1500
    assert steps[curves.late_saves(steps[:200])] == 1500  # 20,000 steps
    assert steps[curves.late_saves(steps[:20])] == 200  # 7.5 % of 2,000 is 150
    assert curves.late_saves(np.array([1, 2]), early=1.0) == 1


def test_product_check_sees_dependent_failures():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1))
    level = levels(ds)[0]
    independent = ds.copy()
    independent["joint_accuracy"] = independent["accuracy"].prod("concept")
    assert product_check(independent, level, 3, "naive")["largest"] == 0
    assert product_check(ds, level, 3, "naive")["largest"] > 0.1  # the made samples fail together


@pytest.mark.parametrize("active", [("color", "size", "bg_color"), ("shape", "color")])
def test_other_concepts_need_no_change(active):
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 1), active=active)
    summary = summarise(ds)
    held_out = [name for name, block in summary["levels"][0]["classes"].items() if not block["trained"]]
    assert held_out == (["011", "101", "110", "111"] if len(active) == 3 else ["11"])
    for name in held_out:
        assert set(summary["levels"][0]["classes"][name]["learning_times"]) == {*active, "joint"}
    json.dumps(report.to_json(summary), allow_nan=False)


def test_all_runs_diverged_still_gives_a_summary():
    ds = synthetic.dataset(levels=(0.2,), seeds=(0, 1), diverged=(0, 1))
    summary = summarise(ds)
    assert summary["runs"]["diverged"] == 2 and summary["levels"][0]["seeds"] == []
    report.print_summary(summary, Console(file=io.StringIO()))


def test_report_writes_strict_json_and_a_table(ds, tmp_path):
    out = io.StringIO()
    report.report(summarise(ds, wall_times={"train": 1.0}), Workdir(epath.Path(tmp_path)), Console(file=out, width=80))
    text = (tmp_path / "summary.json").read_text()
    stored = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["levels"][0]["classes"]["11"]["learning_times"]["color"]["stays_80"]["median"] is None
    printed = out.getvalue()
    assert "never 0/3" in printed and "01 0.1" in printed and "1 of 12 runs diverged" in printed
    assert "…" not in printed
    assert "learned sooner at every stronger signal" in printed


LONG = [f"learning_rate={rate:g}, sep_col={color:g}" for rate in (0.001, 0.003) for color in (0.2, 0.25, 0.8)]


def printed_with(summary, labels, width):
    """The table with other names of its levels, then that of an elicitation with the same names."""
    levels = [{**summary["levels"][0], "label": label} for label in labels]
    time = {"median": 100.0, "learned": 3, "seeds": 3}
    one = {"emergence": time, "emergence_std": 5.0, "sooner_than_naive": 2, "final_split": 0.5, "best_split": 0.6,
           "final": 0.7}  # fmt: skip
    asked = [
        {"label": label, "classes": {"11": {"naive": one, "overprompt+patch:color_random": one}}} for label in labels
    ]
    out = io.StringIO()
    report.print_summary({**summary, "levels": levels, "elicitation": asked}, Console(file=out, width=width))
    return out.getvalue()


def test_long_names_of_levels_are_numbered_and_told_in_full(ds):
    printed = printed_with(summarise(ds), LONG, 80)
    lines = printed.splitlines()
    assert "…" not in printed and max(map(len, lines)) <= 80
    for number, label in enumerate(LONG, 1):
        assert lines.count(f"level {number}: {label}") == 2  # above either table
        assert len([line for line in lines if line.split()[:2] == [str(number), "seen"]]) == 1
        assert len([line for line in lines if line.split()[:3] == [str(number), "11", "naive"]]) == 1


def test_names_that_fit_stand_in_the_table(ds):
    for labels, width in [
        (LONG, 200),
        (["sep_col=0.2", "sep_col=0.8"], 80),
        (["learning_rate=0.2", "learning_rate=0.5"], 100),
    ]:
        printed = printed_with(summarise(ds), labels, width)
        assert "level 1" not in printed and "…" not in printed
        names = labels if labels is LONG else [label.partition("=")[2] for label in labels]
        assert all(sum(line.startswith(f"{name} ") for line in printed.splitlines()) == 2 for name in names)
    assert "level 1" not in printed_with(summarise(ds), ["learning_rate=0.003, sep_col=0.2"], 80)  # the only one


def test_published_trajectories_give_the_published_numbers():
    """Class 11 of the paper's Fig. 4 at 18 of its 60 saves (already smoothed), two decimals."""
    steps = np.array([500, 1053, 1809, 2561, 3211, 3933, 4456, 5011, 5599, 6219, 6872, 7912, 9026, 10625, 12807, 15192,
                      17782, 20000], float)  # fmt: skip
    weak = np.array([[54, 47, 35, 19, 12, 8, 6, 7, 14, 24, 30, 38, 47, 50, 55, 61, 67, 72],
                     [38, 54, 62, 63, 76, 84, 87, 91, 91, 89, 88, 91, 96, 97, 98, 98, 98, 99]]).T / 100  # fmt: skip
    strong = np.array([[82, 81, 89, 94, 88, 85, 87, 89, 89, 89, 93, 97, 98, 99, 98, 99, 97, 98],
                       [63, 56, 49, 37, 52, 69, 74, 79, 84, 90, 95, 98, 98, 98, 98, 96, 96, 97]]).T / 100  # fmt: skip
    found = curves.find_memorisation(steps, weak, BITS, 3, TRAINED)
    assert found.nearest == 1 and found.memorised and found.weak_min == 0.06
    assert abs(found.turning_step - 4729) < 300  # published for all 60 saves
    assert curves.crossing_time(steps, weak[:, 1]) == pytest.approx(3486, abs=100)
    assert np.isnan(curves.crossing_time(steps, weak[:, 0]))
    found = curves.find_memorisation(steps, strong, BITS, 3, TRAINED)
    assert found.nearest == 2 and found.weak == 1 and found.turning_step == 2561
    assert curves.crossing_time(steps, strong[:, 1]) == pytest.approx(5155, abs=100)


def test_first_reach_and_stay_differ_where_a_curve_dips():
    steps = np.arange(0, 1000, 100)
    dips = np.array([[0, 0.9, 0.9, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9], [0, 0.9, 0, 0, 0, 0, 0, 0, 0, 0.0]])
    times = learning.learning_times(steps, dips)
    assert list(times) == ["first_80", "stays_80", "notebooks_90"]
    np.testing.assert_allclose(times["first_80"], [800 / 9, 800 / 9])
    np.testing.assert_allclose(times["stays_80"], [400 + 100 * 0.6 / 0.7, np.nan])


def test_the_configuration_says_which_definition_is_shown():
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100))
    ds["accuracy"].values[:, 20, :, 3] = 1.0  # one save at which class 11 is drawn, and not at the next
    shown = {}
    for name in ("stays_80", "first_80"):
        named = ds.assign_attrs(config=json.dumps({"study": "signal", "scale": "quick", "learned": name}))
        found = summarise(named)
        console = Console(width=200, record=True, file=io.StringIO())
        report.print_summary(found, console)
        text = console.export_text()
        assert f"Steps until a concept is learned ({name})" in text
        assert "learned: first_80 = accuracy reaches 0.8 at some save" in text
        shown[name] = text
        assert fig3(named).axes[0].get_ylabel() == f"learning speed, {name}  [1 / 1,000 steps]"
    assert shown["stays_80"].splitlines()[3:] != shown["first_80"].splitlines()[3:]
    median = {
        name: one["median"] for name, one in found["levels"][0]["classes"]["11"]["learning_times"]["color"].items()
    }
    assert median["first_80"] < median["stays_80"]


def test_a_time_at_the_first_save_is_no_more_than_that():
    """Six seeds are above from the first save on, four cross later."""
    steps = np.array([150, 300, 450, 600])
    curves_of = np.array([[0.9, 0.9, 0.9, 0.9]] * 6 + [[0.1, 0.7, 0.9, 0.9]] * 4)
    found = learning.describe_times(learning.times_by("stays_80", steps, curves_of), steps)
    assert found["first_save"] == 150
    assert verdict_tables.time_words(found) == "≤ 150 [≤ 150, 375]"
    assert report.time_text(found) == "<=150"
    later = learning.describe_times(np.full(6, 300.0), steps)
    assert verdict_tables.time_words(later) == "300 [300, 300]"
    never = learning.describe_times(np.full(6, np.nan), steps)
    assert verdict_tables.time_words(never) == "never, 0 of 6"
    nobody = learning.describe_times(np.array([]), np.array([150, 300]))
    assert verdict_tables.time_words(nobody) == "unknown"


def test_stored_results_are_shown_by_another_definition():
    stored = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 100))
    stored["accuracy"].values[:, 20, :, 3] = 1.0  # one save at which class 11 is drawn, and not at the next
    shown = learning.with_definition(stored, "first_80")
    assert (learning.definition_of(stored), learning.definition_of(shown)) == ("stays_80", "first_80")
    displayed = []
    for ds, name in ((stored, "stays_80"), (shown, "first_80")):
        found, console = summarise(ds), Console(width=200, record=True, file=io.StringIO())
        report.print_summary(found, console)
        row = next(line.split() for line in console.export_text().splitlines() if line.split()[:1] == ["11"])
        median = found["levels"][0]["classes"]["11"]["learning_times"]["color"][name]["median"]
        assert found["learned"] == name and row[1] == f"{median:,.0f}"  # of colour at the weakest signal
        displayed.append(row[1])
    assert displayed == ["5,571", "3,874"]
    kept, config = json.loads(stored.attrs["config"]), json.loads(shown.attrs["config"])
    assert config == kept | {"learned": "first_80"} and "learned" not in kept
