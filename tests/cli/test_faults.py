"""Errors that are ours: exit code 1, the traceback, and a file for the report."""

import pathlib
import re

import pytest

from cspace_jax import startup
from cspace_jax.cli import scripts


def broken(_):
    raise ZeroDivisionError("of our own making")


def fail(capsys):
    with pytest.raises(SystemExit) as exit_:
        scripts.exit_on_user_error(broken, [])
    assert exit_.value.code == 1
    return capsys.readouterr().err


def test_a_fault_of_ours_asks_for_a_report_and_names_its_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    err = fail(capsys)
    assert err.startswith("Traceback") and "ZeroDivisionError: of our own making" in err
    (named,) = re.findall(r"error: this is a fault of cspace_jax; please report it with (\S+)\n$", err)
    text = pathlib.Path(named).read_text()
    assert named.startswith(str(tmp_path)) and "ZeroDivisionError: of our own making" in text
    for word in ("command line: ", "Python 3.", "jax 0.", "JAX_PLATFORMS=cpu"):
        assert word in text, word


def test_files_of_faults_are_bounded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = startup.usable_cache("faults")
    for i in range(40):
        (folder / f"2020-01-{i:02d}.txt").write_text("old")
    fail(capsys)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 20 and names[0] == "2020-01-21.txt" and not names[-1].startswith("2020")


def test_without_a_folder_the_lines_themselves_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(startup, "usable_cache", lambda name: None)
    assert fail(capsys).endswith("please report it with the lines above\n")
