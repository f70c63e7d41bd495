"""The workdir: created or refused, entered again, read back."""

import dataclasses
import errno
import json
import os

import jax
import pytest
from disks import fail_with, one_line
from etils import epath

from cspace_jax.config import Config, EngineConfig, GridConfig, OptimConfig
from cspace_jax.errors import UserError
from cspace_jax.storage import lock
from cspace_jax.storage.workdir import Workdir, load, prepare

CONFIG = Config(study="signal", scale="paper", grid=GridConfig(sep_col=(0.1, 0.174)))


def test_new_workdir_holds_config_and_environment(tmp_path):
    workdir = prepare(tmp_path / "a" / "w", CONFIG, ["main.py", "--config=a b"])
    assert sorted(p.name for p in workdir.root.iterdir()) == ["config.json", "env.json"]
    env = json.loads(workdir.env.read_text())
    assert env["command_line"] == "main.py '--config=a b'"
    assert env["versions"]["jax"] and env["device_kind"] and env["device_count"] >= 1
    assert env["earlier"] == []


def test_load_returns_the_same_configuration(tmp_path):
    made = prepare(tmp_path / "w", CONFIG)
    workdir, config = load(tmp_path / "w")
    assert (workdir, config) == (made, CONFIG)


def test_same_command_enters_again_and_keeps_the_earlier_environment(tmp_path):
    prepare(tmp_path, CONFIG, "first")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    prepare(tmp_path, CONFIG, "second")
    workdir = prepare(tmp_path, CONFIG, "third")
    env = json.loads(workdir.env.read_text())
    assert [env["command_line"], *(e["command_line"] for e in env["earlier"])] == ["third", "first", "second"]
    for i in range(25):
        env = json.loads(prepare(tmp_path, CONFIG, f"later {i}").env.read_text())
    assert [one["command_line"] for one in env["earlier"]] == ["first", *(f"later {i}" for i in range(5, 24))]
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_damaged_environment_does_not_stop_a_resume(tmp_path):
    prepare(tmp_path, CONFIG)
    (tmp_path / "env.json").write_text('{"earl')
    assert json.loads(prepare(tmp_path, CONFIG).env.read_text())["earlier"] == []


def test_how_runs_are_executed_may_change_on_resume(tmp_path):
    prepare(tmp_path, CONFIG)
    other = dataclasses.replace(CONFIG, engine=EngineConfig(runs="map"), figures=("fig4",))
    prepare(tmp_path, other)
    assert load(tmp_path)[1] == other


def test_workdir_of_another_config_is_refused_with_the_fields_named(tmp_path):
    prepare(tmp_path, CONFIG)
    other = dataclasses.replace(CONFIG, grid=GridConfig(), optim=OptimConfig(steps=900))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError) as error:
        prepare(tmp_path, other)
    assert "differing in grid.sep_col, optim.steps" in one_line(error)
    assert str(tmp_path) in one_line(error)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["checkpoints", "metrics.jsonl", "report.html", "lock.json", "wandb", "metrics.part_001.jsonl"]
)
def test_folder_that_holds_a_name_of_ours_is_refused_untouched(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=f"holds '{name}'.*not a workdir of cspace_jax") as error:
        prepare(tmp_path, CONFIG)
    one_line(error)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "x")]


@pytest.mark.parametrize("processes", [1, 2])
def test_rests_of_killed_writes_are_removed_by_who_holds_the_workdir(processes, tmp_path, monkeypatch):
    workdir = prepare(tmp_path / "w", CONFIG)
    rest = f".step_00000002.npz.{'0a' * 16}.tmp"
    rests = [workdir.eval / "wave_000" / rest, workdir.root / rest]
    others = [workdir.figures / rest, workdir.root / ".mine.tmp", workdir.checkpoints / "wave_000" / "params" / rest]
    for file in (*rests, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    prepare(tmp_path / "w", CONFIG)  # does not hold it
    assert all(file.exists() for file in (*rests, *others))
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    with lock.released_after():
        prepare(tmp_path / "w", CONFIG)
    assert not any(file.exists() for file in rests) and all(file.exists() for file in others)


def test_logs_and_other_files_may_lie_in_a_new_workdir(tmp_path):
    others = ("log.txt", ".DS_Store", "slurm-17.out", "thesis.tex")
    for name in others:
        (tmp_path / name).write_text("x")
    assert prepare(tmp_path, CONFIG).config.exists()
    assert all((tmp_path / name).read_text() == "x" for name in others)


def test_folder_left_by_a_kill_before_the_config_was_written_is_taken(tmp_path):
    (tmp_path / ".config.json.0123.tmp").write_text('{"stu')
    assert prepare(tmp_path, CONFIG).config.exists()


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "w").write_text("x")
    for call in (lambda: prepare(tmp_path / "w", CONFIG), lambda: load(tmp_path / "w")):
        with pytest.raises(UserError, match="is a file, must be a folder") as error:
            call()
        one_line(error)


def test_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match="part of the path is a file") as error:
        prepare(tmp_path / "f" / "w", CONFIG)
    one_line(error)


@pytest.mark.parametrize("path", ["", "  "])
def test_empty_path_is_refused(path):
    with pytest.raises(UserError, match="must be the path of a folder"):
        prepare(path, CONFIG)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_folder_that_cannot_be_made_is_refused_in_plain_words(tmp_path, monkeypatch, number, words):
    monkeypatch.setattr(type(epath.Path(tmp_path)), "mkdir", fail_with(number))
    with pytest.raises(UserError, match=words) as error:
        prepare(tmp_path / "w", CONFIG)
    assert str(tmp_path / "w") in one_line(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission_is_refused(tmp_path):
    (tmp_path / "w").mkdir(mode=0o555)
    with pytest.raises(UserError, match="no permission"):
        prepare(tmp_path / "w", CONFIG)


@pytest.mark.parametrize("content", ["", '{"study": "sig', "\udcff", "[]", '{"study": "signal"}', "nul"])
def test_damaged_config_is_one_clear_line_for_train_and_figures(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("utf8", "surrogateescape"))
    for call in (lambda: prepare(tmp_path, CONFIG), lambda: load(tmp_path)):
        with pytest.raises(UserError, match="config.json' (is damaged|does not fit)") as error:
            call()
        one_line(error)


def test_config_of_another_version_names_the_unknown_field(tmp_path):
    (tmp_path / "config.json").write_text('{"study": "signal", "scale": "paper", "optim": {"muon": true}}')
    with pytest.raises(UserError, match="does not fit this version.*optim.muon = True: unknown field"):
        load(tmp_path)


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="has no config.json"):
        load(tmp_path)


def test_paths_are_those_of_the_contract(tmp_path):
    workdir = Workdir(epath.Path(tmp_path))
    names = ["config", "env", "metrics", "checkpoints", "probe", "eval", "dataset", "table", "summary", "figures"]
    assert [getattr(workdir, name).relative_to(workdir.root).as_posix() for name in names] == [
        "config.json",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "probe",
        "eval",
        "concept_space.nc",
        "concept_space.csv",
        "summary.json",
        "figures",
    ]
    assert len({workdir, Workdir(epath.Path(tmp_path))}) == 1


def test_bucket_paths_are_kept():
    assert os.fspath(Workdir(epath.Path("gs://bucket/w")).metrics) == "gs://bucket/w/metrics.jsonl"


def test_a_configuration_that_was_changed_is_said_once(tmp_path, capsys):
    prepare(tmp_path / "w", CONFIG)
    load(tmp_path / "w")
    assert capsys.readouterr().out == ""
    file = tmp_path / "w" / "config.json"
    file.write_text(file.read_text().replace('"log_every": 100', '"log_every": 101'))
    for _ in range(2):
        assert load(tmp_path / "w")[1].optim.log_every == 101
    said = capsys.readouterr().out
    assert said.startswith(f"{file} is not what the last command wrote: ") and said.count("\n") == 1
