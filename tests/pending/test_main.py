"""The real command line, in subprocesses: every study at smoke scale, resuming, and mistakes."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = ("config.json", "env.json", "metrics.jsonl", "concept_space.nc", "concept_space.csv", "summary.json")


def command(*flags: str, cache: pathlib.Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CSPACE_JAX_RESTARTED": "1", "XDG_CACHE_HOME": str(cache)}
    line = [sys.executable, "-m", "cspace_jax.main", *flags]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("work") / "signal"
    done = command("--config=configs/signal.py:smoke", f"--workdir={folder}", cache=cache)
    assert done.returncode == 0, done.stderr
    assert "scale smoke" in done.stdout.splitlines()[0]
    return folder


def test_a_study_leaves_the_promised_files(finished):
    assert all((finished / name).exists() for name in FILES)
    assert (finished / "figures" / "fig4.png").exists() and (finished / "figures" / "gif.gif").exists()
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 4 * 3  # runs x logged steps


def test_lost_evaluation_and_training_are_made_again_with_the_same_numbers(finished, cache):
    table, metrics = (finished / "concept_space.csv").read_bytes(), (finished / "metrics.jsonl").read_text()
    next(iter(sorted(finished.glob("eval/*/step_*.npz")))).unlink()
    (finished / "concept_space.csv").unlink()
    done = command("--mode=eval", f"--workdir={finished}", cache=cache)
    assert done.returncode == 0, done.stderr
    assert (finished / "concept_space.csv").read_bytes() == table
    assert (finished / "metrics.jsonl").read_text() == metrics


@pytest.mark.parametrize("study", ["signal_size", "signal_grid"])
def test_other_studies_run(study, tmp_path, cache):
    done = command(f"--config=configs/{study}.py:smoke", f"--workdir={tmp_path / 'w'}", cache=cache)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w" / "summary.json").exists()


MISTAKES = {
    "field": ("--config.optim.stepz=3", "stepz"),
    "type": ("--config.optim.steps=abc", "steps"),
    "separation": ("--config.grid.sep_col=(-0.2,)", "sep_col"),
    "axis": ("--config.grid.sep_col=()", "sep_col"),
    "seeds": ("--config.grid.seeds=()", "seeds"),
    "save": ("--config.save.steps=(3, 60)", "save.steps"),
    "image": ("--config.data.image_size=9", "image_size"),
    "active": ("--config.data.active=('color',)", "data.active"),
    "mode": ("--mode=fit", "mode"),
    "foreign": ("--config.optim.batch_size=4", "batch_size"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, finished, cache):
    flag, word = MISTAKES[name]
    before = (finished / "config.json").read_text()
    done = command("--config=configs/signal.py:smoke", f"--workdir={finished}", flag, cache=cache)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ") and word in done.stderr
    assert (finished / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--config=configs/signal.py:huge", "--workdir=x"), "huge"),
        (("--config=configs/none.py", "--workdir=x"), "none.py"),
        (("--config=configs/signal.py:smoke",), "workdir"),
        (("--mode=figures", "--workdir=/nowhere/x"), "no such folder"),
        (("--config=configs/signal.py:smoke", "--workdir=/dev/null/x"), "/dev/null"),
    ],
)
def test_a_bad_path_is_one_line(flags, word, cache):
    done = command(*flags, cache=cache)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and word in done.stderr
