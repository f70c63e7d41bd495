"""Workdirs compared from Python and by the command, with each other and with published numbers; nothing is trained."""

import dataclasses
import json

import pytest
import synthetic
from commands import assert_one_line, command, snapshot

import cspace_jax as cs
from cspace_jax.pipeline import compare


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("work")
    synthetic.workdir(root / "a", levels=(0.1, 0.8))
    synthetic.workdir(root / "b", levels=(0.4, 0.8), overrides={"grid.learning_rate": (2e-3,), "optim.b1": 0.8})
    synthetic.workdir(root / "paper", "signal:paper", levels=(0.1, 0.35, 0.8))
    synthetic.workdir(root / "shapes", levels=(0.4,), active=("shape", "color"))
    return root


def test_the_command_shows_and_writes_into_a_folder_of_its_own(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = snapshot(runs)
    done = command("--mode=compare", f"--workdirs=('{runs / 'a'}', '{runs / 'b'}')")
    assert done.code == 0, done.err
    assert snapshot(runs) == before
    lines = [line.split() for line in done.out.splitlines()]
    assert ["optim.b1", "0.9", "0.8"] in lines and ["grid.learning_rate", "(0.003,)", "(0.002,)"] in lines
    assert "only in a: sep_col=0.1" in done.out and "only in b: sep_col=0.4" in done.out
    folder = tmp_path / "comparison_a_b"
    names = {path.name for path in folder.iterdir()}
    assert names == {"comparison.json", "curves.png", "curves.pdf", "times.png", "times.pdf"}
    stored = json.loads((folder / "comparison.json").read_text())
    assert [one["field"] for one in stored["differences"]] == ["grid.sep_col", "grid.learning_rate", "optim.b1"]
    assert {row["level"] for row in stored["rows"]} == {"sep_col=0.8"}


def test_from_python_it_takes_studies_and_paths(runs):
    found = cs.compare(cs.open_study(runs / "a"), runs / "b")
    assert found.names == ["a", "b"]
    assert found.times.loc["sep_col=0.8", "11", "joint"]["shared_seeds"] == 3
    assert set(found.figures) == {"curves", "times"}


def test_a_definition_counts_where_both_studies_show_it(runs):
    stored = [cs.open_study(runs / name) for name in "ab"]
    first, second = (
        dataclasses.replace(one, config=dataclasses.replace(one.config, learned="first_80")) for one in stored
    )
    assert cs.compare(first, second).numbers["learned"] == "first_80"
    assert cs.compare(first, stored[1]).numbers["learned"] == "stays_80"


def test_published_numbers_stand_beside_a_study_of_either_scale(runs, tmp_path, capsys, monkeypatch):
    found = cs.compare(runs / "paper", "published:signal")
    assert found.differences == [] and len(found.times.loc["sep_col=0.8"]) == 8
    found.show()
    assert "At the paper's setting" in capsys.readouterr().out
    found.save(tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored["comparable"] and [row["sep_col"] for row in stored["parts"][0]["rows"]] == [0.1, 0.8]
    assert stored["parts"][0]["rows"][0]["published"]["t80_color"] is None  # never
    monkeypatch.setenv("COLUMNS", "60")  # a narrow terminal cuts nothing
    found.show()
    shown = capsys.readouterr().out
    assert "…" not in shown and "sep_col=0.8" in shown and "ours | publ." in shown
    quick = cs.compare("published:signal_grid", runs / "a")
    quick.show()
    assert "NOT AT PAPER SCALE" in capsys.readouterr().out and len(quick.differences) > 5


def test_studies_without_a_shared_level_are_said_to_have_none(runs, tmp_path, capsys):
    synthetic.workdir(tmp_path / "c", levels=(0.2,))
    synthetic.workdir(tmp_path / "d", levels=(0.3, 0.5))
    found = compare.compare(tmp_path / "c", tmp_path / "d")
    found.show()
    assert "share no level" in capsys.readouterr().out
    assert [path.name for path in found.save(tmp_path / "out")] == ["comparison.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workdirs=('{}/a',)"], "must be two paths, for example"),
        ([], "workdirs = None: must be two paths"),
        (["--workdirs={0}/a,{0}/none"], "none': no such folder"),
        (["--workdirs={0}/a,{0}/a/../a"], "is named twice"),
        (["--workdirs={0}/a,published:signl"], "published:NAME = 'signl': must be one of signal, signal_grid"),
        (["--workdirs=published:signal,published:signal_grid"], "one of both must be a workdir"),
        (["--workdirs={0}/a,{0}/shapes"], "shapes has the concepts shape, color, a has color, size"),
        (["--workdirs={0}/a,{0}/b", "--outdir={0}/a/x"], "lies in the workdir"),
        (["--workdirs={0}/a,{0}/b", "--outdir={0}/paper"], "paper', must be another folder"),
        (["--workdirs={0}/a,{0}/b", "--outdir="], "outdir = '': must be the path of a folder"),
    ],
)
def test_a_mistake_is_one_line(runs, arguments, words):
    before = snapshot(runs)
    assert_one_line(command("--mode=compare", *(one.format(runs) for one in arguments)), words)
    assert snapshot(runs) == before


def test_its_flags_go_with_no_other_mode(runs):
    done = command("--mode=figures", f"--workdir={runs / 'a'}", "--workdirs=a,b")
    assert_one_line(done, "workdirs = 'a,b': only goes with --mode=compare")
