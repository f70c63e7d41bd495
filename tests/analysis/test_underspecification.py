"""What masked conditionings do to learning: the numbers and the report."""

import io
import json

import numpy as np
import pytest
import synthetic
from etils import epath
from rich.console import Console
from synthetic import answers_of_groups

from cspace_jax.analysis import levels as signal_levels
from cspace_jax.analysis import report, underspecification
from cspace_jax.analysis.levels import Level
from cspace_jax.analysis.summary import summarise
from cspace_jax.storage.workdir import Workdir


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked()


def test_numbers_of_the_study(ds):
    assert underspecification.is_swept(ds) and not underspecification.is_swept(synthetic.dataset())
    found = underspecification.summarise(ds)
    assert [found[name] for name in ("masked_concept", "masked_class", "held_out_class")] == ["color", "01", "11"]
    assert [level["mask"] for level in found["levels"]] == [0.0, 0.25, 0.5, 1.0]
    assert [len(level["seeds"]) for level in found["levels"]] == [3, 2, 3, 3]  # one run diverged
    medians = [level["steps_to_80"]["color"]["median"] for level in found["levels"]]
    assert medians[0] < medians[1] < medians[2] and np.isnan(medians[3])
    assert found["slower"]["color"]["ordered"] and not found["slower"]["size"]["ordered"]
    assert found["redness"]["rises"] and found["redness"]["spearman"] == pytest.approx(1.0)
    redness = [level["redness"]["mean"] for level in found["levels"]]
    np.testing.assert_allclose(redness, [-1.0, -0.5, 0.0, 1.0], atol=1e-6)
    assert underspecification.nearest_half(underspecification.mask_groups(ds)[0]).setting["mask"] == 0.5
    reversed_ = ds.assign_coords(mask=("run", 1 - ds["mask"].values))
    found = underspecification.summarise(reversed_)
    assert not found["redness"]["rises"] and not found["slower"]["color"]["ordered"]
    assert not found["redness"]["rises_within_intervals"]


@pytest.mark.parametrize(
    ("means", "within"),
    [((-0.5, 0.0, 0.5), True), ((-0.5, 0.1, 0.0, 0.5), True), ((-0.5, 0.4, 0.0, 0.5), False), ((0.0, 0.1), False)],
)
def test_a_trend_within_intervals_allows_what_seeds_scatter(means, within):
    """Each mean is known to +- .1."""
    spreads = [{"mean": m, "interval": [m - 0.1, m + 0.1], "per_seed": [m - 0.1, m + 0.1]} for m in means]
    levels = [Level("", {"mask": i / 4}, {}, (0, 1), (), (), ()) for i in range(len(means))]
    assert underspecification._trend(levels, spreads)["rises_within_intervals"] is within


def test_report_tells_what_masking_does(ds, tmp_path):
    console = Console(width=100, file=io.StringIO())
    report.report(summarise(ds), Workdir(epath.Path(tmp_path)), console)
    stored = json.loads((tmp_path / "summary.json").read_text())["underspecification"]
    assert stored["levels"][3]["steps_to_80"]["color"]["median"] is None and stored["redness"]["rises"]
    text = " ".join(console.file.getvalue().split())
    assert "Held-out class 11 by the share of class 01 whose color is hidden" in text
    assert "never 0/3" in text and "1.00, 0.20, 0.00" not in text and "1.01, 0.21, 0.01" in text
    assert "red minus blue of class 11 at the end: rises with the masked fraction." in text
    assert "order of the signal" not in text and "stronger signal" not in text  # no signal varies
    mean = np.mean([level["product_check"]["mean"] for level in stored["levels"]])
    assert f"product of the concepts' accuracies: {mean:+.3f} on average" in text


@pytest.fixture
def asked(ds):
    return synthetic.masked_answers(ds)


def test_pictures_have_no_colour_of_an_object(ds):
    config = {"study": "images", "scale": "quick", "data": {"source": "images"}}
    pictures = ds.assign_attrs(config=json.dumps(config))
    found = summarise(pictures)
    block = found["underspecification"]
    assert "redness" not in block and not {"redness", "rgb"} & set(block["levels"][0])
    console = Console(width=100, file=io.StringIO())
    report.print_summary(found, console)
    text = console.file.getvalue()
    assert "whose color is hidden" in text and "R - B" not in text and "red minus blue" not in text


def test_a_broken_query_leaves_its_seed_out_of_what_is_elicited(asked):
    broken = asked.copy(deep=True)
    (half,) = [one for one in signal_levels.levels(asked) if one.setting["mask"] == 0.5]
    broken["capability_split"].values[half.runs[0], 3, 1, 3] = np.nan
    for ds, seeds in ((asked, 3), (broken, 2)):
        found = underspecification.summarise(ds)["elicited"]["protocols"]["overprompt"]
        assert found["class"]["steps_to_80"]["seeds"] == len(found["class"]["final"]["per_seed"]) == seeds
        assert found["masked_concept"]["steps_to_80"]["seeds"] == 3


def test_numbers_of_what_is_elicited_at_one_half(asked, tmp_path):
    found = underspecification.summarise(asked)["elicited"]
    assert found["mask"] == 0.5 and list(found["protocols"]) == ["naive", "overprompt"]
    over = found["protocols"]["overprompt"]
    first, second = asked["step"].values[1:3]
    assert first < over["masked_concept"]["steps_to_80"]["median"] <= second
    assert over["masked_concept"]["final"]["mean"] == 1 and over["class"]["steps_to_80"]["learned"] == 0
    assert found["protocols"]["naive"]["masked_concept"]["steps_to_80"]["learned"] == 0
    console = Console(width=100, file=io.StringIO())
    report.print_summary({**summarise(asked), "underspecification": underspecification.summarise(asked)}, console)
    text = console.file.getvalue()
    row = next(line.split() for line in text.splitlines() if line.startswith("overprompt"))
    assert "Elicited at a masked share of 0.5" in text and row[2:] == ["1.00", "never", "0/3", "0.00"]


@pytest.fixture(scope="module")
def two_groups():
    return synthetic.masked_groups()


def test_groups_differ_in_the_masked_fraction_alone_and_the_largest_is_first(two_groups):
    groups = underspecification.mask_groups(two_groups)
    assert [underspecification.fractions(found).tolist() for found in groups] == [[0, 0.25, 0.5, 1], [0, 0.5]]
    assert [underspecification.group_setting(found) for found in groups] == [{"sep_size": 0.4}, {"sep_size": 0.2}]
    assert [underspecification.common_seeds(two_groups, found) for found in groups] == [[0, 200], [0, 100, 200]]
    runs = [run for found in groups for level in found for run in level.runs]
    assert sorted(runs) == [run for run in range(two_groups.sizes["run"]) if run != 6 + 4]  # it diverged
    assert underspecification.group_setting(underspecification.mask_groups(synthetic.masked())[0]) == {}


def test_each_group_has_the_numbers_it_has_alone(two_groups):
    found = underspecification.summarise(answers_of_groups(two_groups))
    assert [group["label"] for group in found["groups"]] == ["sep_size=0.4", "sep_size=0.2"]
    for size, group in zip((0.4, 0.2), found["groups"], strict=True):
        alone = answers_of_groups(two_groups).isel(run=np.flatnonzero(two_groups["sep_size"].values == size))
        expected = underspecification.summarise(alone)
        for name in ("levels", "slower", "redness", "elicited"):
            np.testing.assert_equal(group[name], expected[name])
    for name in ("levels", "slower", "redness", "elicited"):
        assert found[name] is found["groups"][0][name]  # as in summaries of older versions


def printed(summary):
    console = Console(width=100, file=io.StringIO())
    report.print_summary(summary, console)
    return console.file.getvalue()


def test_the_report_has_a_table_and_sentences_a_group(two_groups):
    summary = summarise(answers_of_groups(two_groups))
    text = printed(summary)
    tables = [text.index(f"whose color is hidden at sep_size={size}") for size in (0.4, 0.2)]
    first, second = text[tables[0] : tables[1]], text[tables[1] : text.index("to: steps until learned")]
    rows = [[line.split()[0] for line in part.splitlines() if line.strip()[:1].isdigit()] for part in (first, second)]
    assert rows == [["0", "0.25", "0.5", "1"], ["0", "0.5"]]
    for size, end in ((0.4, "0.00"), (0.2, "1.00")):
        table = text.split(f"Elicited at a masked share of 0.5 at sep_size={size}")[1]
        row = next(line.split() for line in table.splitlines() if line.startswith("overprompt"))
        assert row[-1] == end
    flat = " ".join(text.split())
    for size in (0.4, 0.2):
        assert f"red minus blue of class 11 at sep_size={size} at the end: rises with the masked fraction." in flat


def test_summaries_of_older_versions_are_printed(two_groups):
    summary = summarise(answers_of_groups(two_groups))
    summary["underspecification"].pop("groups")
    text = printed(summary)
    assert "whose color is hidden at" not in text and text.count("whose color is hidden") == 1
