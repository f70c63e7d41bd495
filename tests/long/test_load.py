"""The script of a large study that was never trained: its files are those of a real one."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from cspace_jax.errors import UserError
from cspace_jax.pipeline import collect
from experiments import load, load_files


def test_its_files_are_merged_like_those_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(load_files.probe_cache, "load_or_train", lambda study: None)
    commands = []
    monkeypatch.setattr(load, "commanded", lambda line, folder: commands.append(line) or (10.0, 1.5))
    monkeypatch.setattr(load, "unpacked", lambda folder: (2.0, 0.5))
    written = []
    write = load_files.write
    monkeypatch.setattr(load_files, "write", lambda *args: written.append(write(*args)) or written[0])
    load.run([f"--workdir={tmp_path / 'w'}", "--runs=8", "--saves=3"])
    ((study, queries),) = written
    said = capsys.readouterr().out
    assert f"8 runs, 3 saves, {queries} queries: 0.50 GB, unpacked in 2.0 s" in said
    assert commands == [("--mode=elicit",), ("--mode=figures",)] and "| `--mode=figures` | 10.0 s | 5.0 |" in said
    ds = collect.collect(study)
    assert (ds.sizes["run"], ds.sizes["step"], ds.sizes["query"]) == (8, 3, queries) and queries >= 20
    assert sorted(set(ds["sep_col"].values)) == list(load_files.LEVELS)
    assert np.isfinite(ds["embedding_cosine"]).all()
    assert collect.Samples(study, ds)[int(ds["step"][0])].shape[0] == 8
    with pytest.raises(UserError, match="must be a new folder"):
        load_files.write(tmp_path / "w", 8, 3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_command_is_measured_with_its_own_memory(tmp_path, monkeypatch):
    start = subprocess.Popen
    program = (
        "import sys, time; held = b'x' * 200_000_000; time.sleep(0.5); print('last words'); sys.exit(len(sys.argv) - 1)"
    )
    line = [sys.executable, "-c", program]
    monkeypatch.setattr(load.subprocess, "Popen", lambda _, **more: start(line, **more))
    seconds, peak = load.commanded(("--mode=figures",), tmp_path / "w")
    assert seconds >= 0.5 and 0.2 <= peak < 1.0
    line.append("2")
    with pytest.raises(UserError, match="--mode=figures in .* ended with 1: last words"):
        load.commanded(("--mode=figures",), tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_command_ends_with_the_script_that_measures_it(tmp_path, monkeypatch):
    start, started = subprocess.Popen, []
    line = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(load.subprocess, "Popen", lambda _, **more: started.append(start(line, **more)) or started[0])

    def interrupted(pid):
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "_high_water", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load.commanded(("--mode=figures",), tmp_path / "w")
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runs=4"], "exactly one of both"),
        (["--workdir=w", "--results=r"], "exactly one"),
        (["--runs=0"], "at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        load.run(arguments)
