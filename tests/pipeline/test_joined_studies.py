"""Several workdirs opened together, by a pattern or a list; of results with known truth, nothing is trained."""

import numpy as np
import pytest
import synthetic

import cspace_jax as cs
from cspace_jax.pipeline.export import ExportRequest


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("work") / "runs"
    synthetic.workdir(root / "b", levels=(0.8,), seeds=(0,), steps=(500, 20000))
    synthetic.workdir(root / "a")
    synthetic.workdir(root / "more" / "a", levels=(0.4,), seeds=(7,))
    (root / "notes").mkdir()
    (root / "notes.txt").write_text("no workdir either")
    return root


def test_a_pattern_opens_every_workdir_and_joins_them(runs):
    several = cs.open_study(f"{runs}/*")
    assert several.names == ["a", "b"] and several["b"].config.grid.seeds == (0,)
    ds = several.dataset
    assert ds["study"].values.tolist() == ["a"] * 6 + ["b"] and len(set(ds["run"].values.tolist())) == 7
    curves = ds["prob"].sel(klass="11", concept="color", protocol="naive").groupby("study").mean()
    np.testing.assert_allclose(curves.sel(study="b", step=20000), several["b"].dataset["prob"][0, -1, 0, 3, 0])


def test_a_summary_has_the_study_as_the_first_part_of_its_index(runs):
    several = cs.open_study([runs / "b", f"{runs}/a"])
    assert several.names == ["b", "a"]
    times = several.summary("learning_times")
    assert times.index.names == ["study", "level", "klass", "concept", "definition"]
    alone = cs.open_study(runs / "a").summary("learning_times")
    assert times.loc["a"].equals(alone)
    assert set(several.summary("order")) == {"a", "b"}


def test_folders_of_one_name_are_named_by_their_paths(runs):
    several = cs.open_study([f"{runs}/a", f"{runs}/more/*"])
    assert several.names == [f"{runs}/a", f"{runs}/more/a"]


def test_a_path_without_a_wildcard_is_one_study(runs):
    assert isinstance(cs.open_study(f"{runs}/a"), cs.Study)
    assert cs.open_study([f"{runs}/a"]).names == ["a"]


@pytest.mark.parametrize(
    ("workdirs", "words"),
    [
        ("{}/x*", "workdir = '.*x\\*': no workdir of cspace_jax is named like this"),
        (["{}/a", "{}/a"], "workdirs: '.*/a' is named twice"),
        (["{}/a", "{}/b/../a/"], "workdirs: '.*/a' is named twice"),
        (["{}/a", "{}/none"], "none': no such folder"),
        ([], "workdirs is empty"),
    ],
)
def test_a_mistake_is_one_line(runs, workdirs, words):
    asked = workdirs.format(runs) if isinstance(workdirs, str) else [one.format(runs) for one in workdirs]
    with pytest.raises(cs.UserError, match=words) as caught:
        cs.open_study(asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["memory://x", "file:///tmp/x", "hdfs://n/x", "gs:/b/x"])
def test_storage_that_is_not_known_is_one_line_wherever_a_place_is_asked_for(place, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done, elsewhere = runs / "a", cs.load_config("signal:smoke", **{"probe.cache_dir": place})
    calls = {
        "workdir": lambda: cs.open_study(place),
        "workdir ": lambda: cs.open_study(f"{place}*"),
        "workdir  ": lambda: cs.run(cs.load_config("signal:smoke"), place),
        "outdir": lambda: cs.run(None, done, "figures", outdir=place),
        "outdir ": lambda: cs.run(None, done, "report", outdir=place),
        "probe.cache_dir": lambda: cs.run(elsewhere, tmp_path / "w"),
        "probe.cache_dir ": lambda: cs.preview(elsewhere),
    }
    if "://" in place:
        calls["to"] = lambda: cs.run(None, done, "export", export=ExportRequest(place, ""))
        calls["data.cache_dir"] = lambda: cs.preview(cs.load_config("signal:smoke", **{"data.cache_dir": place}))
    for name, call in calls.items():
        with pytest.raises(cs.UserError, match="^" + name.strip() + " = '") as caught:
            call()
        assert "must" in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
