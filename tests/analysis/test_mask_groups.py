"""Masked fractions at several settings: every group of levels is told and drawn, each as if it were alone."""

import io

import numpy as np
import pytest
import synthetic
import xarray as xr
from rich.console import Console

from cspace_jax.analysis import report, underspecification
from cspace_jax.analysis.summary import summarise
from cspace_jax.plots import landscapes
from cspace_jax.plots import underspecification as masked_figures


@pytest.fixture(scope="module")
def ds():
    return synthetic.masked_groups()


def with_answers(ds):
    """Two protocols, of which overprompting alone draws the masked colour; it draws it in the group at .2 alone."""
    both = xr.concat([ds, ds.assign_coords(protocol=["overprompt"])], "protocol", data_vars="minimal", join="override")
    dims = ("run", "step", "protocol", "klass", "concept")
    elicited = np.zeros(tuple(both.sizes[name] for name in dims))
    elicited[both["sep_size"].values == 0.2, :, 1, 3, 0] = 1.0
    return both.assign(capability_concept=(dims, elicited), capability_split=(dims[:-1], elicited[..., 0]))


def panels(fig):
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>" and ax.axison]


def titles(fig):
    return [part.get_suptitle() for part in fig.subfigs]


def test_groups_differ_in_the_masked_fraction_alone_and_the_largest_is_first(ds):
    groups = underspecification.mask_groups(ds)
    assert [underspecification.fractions(found).tolist() for found in groups] == [[0, 0.25, 0.5, 1], [0, 0.5]]
    assert [underspecification.group_setting(found) for found in groups] == [{"sep_size": 0.4}, {"sep_size": 0.2}]
    assert [underspecification.common_seeds(ds, found) for found in groups] == [[0, 200], [0, 100, 200]]
    runs = [run for found in groups for level in found for run in level.runs]
    assert sorted(runs) == [run for run in range(ds.sizes["run"]) if run != 6 + 4]  # it diverged
    assert underspecification.group_setting(underspecification.mask_groups(synthetic.masked())[0]) == {}


def test_each_group_has_the_numbers_it_has_alone(ds):
    found = underspecification.summarise(with_answers(ds))
    assert [group["label"] for group in found["groups"]] == ["sep_size=0.4", "sep_size=0.2"]
    for size, group in zip((0.4, 0.2), found["groups"], strict=True):
        alone = with_answers(ds).isel(run=np.flatnonzero(ds["sep_size"].values == size))
        expected = underspecification.summarise(alone)
        for name in ("levels", "slower", "redness", "elicited"):
            np.testing.assert_equal(group[name], expected[name])
    for name in ("levels", "slower", "redness", "elicited"):
        assert found[name] is found["groups"][0][name]  # as in summaries of older versions


def printed(summary):
    console = Console(width=100, file=io.StringIO())
    report.print_summary(summary, console)
    return console.file.getvalue()


def test_the_report_has_a_table_and_sentences_a_group(ds):
    summary = summarise(with_answers(ds))
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


def test_summaries_of_older_versions_are_printed(ds):
    summary = summarise(with_answers(ds))
    summary["underspecification"].pop("groups")
    text = printed(summary)
    assert "whose color is hidden at" not in text and text.count("whose color is hidden") == 1


def test_fig7_has_a_part_a_group(ds):
    fig = masked_figures.fig7(ds, synthetic.sample_images(ds))
    large, small = (panels(part) for part in fig.subfigs)
    assert (len(large), len(small)) == (4 * 2 * 3, 2 * 3 * 3)  # fractions x common seeds x kept samples
    assert [ax.get_ylabel() for ax in small[::9]] == ["0%", "50%"]
    assert titles(fig)[0].startswith("asked for 11") and titles(fig)[0].endswith("\nsep_size=0.4")
    assert titles(fig)[1] == "sep_size=0.2"


def test_fig7_leaves_out_a_group_without_a_common_seed():
    few = synthetic.masked(fractions=(0.0, 0.5), diverged=(0, 4, 5), sep_size=0.2)  # each seed once
    fig = masked_figures.fig7(both := xr.concat([few, synthetic.masked()], "run", join="override"),
                              synthetic.sample_images(both))  # fmt: skip
    assert len(panels(fig)) == 4 * 2 * 3 and "sep_size=0.4" in fig.get_suptitle()


def test_figs_8_and_9_have_a_row_a_group(ds):
    speed = masked_figures.fig8(ds)
    assert titles(speed) == ["sep_size=0.4", "sep_size=0.2"] and len(panels(speed)) == 4
    summary = underspecification.summarise(ds)
    for part, group in zip(speed.subfigs, summary["groups"], strict=True):
        line = next(one for one in panels(part)[0].lines if one.get_label() == "colour")
        medians = np.array([level["steps_to_80"]["color"]["median"] for level in group["levels"]])
        np.testing.assert_allclose(line.get_ydata(), 1000 / medians[np.isfinite(medians)])
    paths = masked_figures.fig9(ds)
    assert titles(paths) == ["sep_size=0.4", "sep_size=0.2"]
    words = [[text.get_text() for text in panels(part)[0].get_legend().get_texts()] for part in paths.subfigs]
    assert words == [["0%", "25%", "50%", "100%"], ["0%", "50%"]]
    one, other = (next(line for line in panels(part)[0].lines if line.get_label() == "50%") for part in paths.subfigs)
    assert np.array_equal(one.get_color(), other.get_color())


def test_fig10_shows_the_fraction_closest_to_one_half_of_each_group(ds):
    fig = masked_figures.fig10(with_answers(ds))
    assert titles(fig) == ["sep_size=0.4, 50% masked", "sep_size=0.2, 50% masked"]
    ends = [panels(part)[3].lines[0].get_ydata()[-1] for part in fig.subfigs]
    assert ends == [0.0, 1.0]


def test_all_groups_are_fitted(ds):
    _, fits, shared = landscapes.measured(ds)
    expected = [(0.4, 0.0), (0.4, 0.25), (0.4, 0.5), (0.4, 1.0), (0.2, 0.0), (0.2, 0.5)]
    assert [(level.setting["sep_size"], level.setting["mask"]) for level, _ in fits] == expected
    assert shared is None  # no signal varies here
