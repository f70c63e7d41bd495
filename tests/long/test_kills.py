"""Kills and full disks at any moment of real processes: nothing is lost, and the same command goes on."""

import signal
import subprocess
import time

import events
import pytest
from commands import NARROW, SHARED, assert_one_line, command, process, real_command, study, without_progress

from cspace_jax.storage.metrics import read_metrics

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")

# Kills. Cheap steps and many saves, so that a random moment can be in any of them.

LONG = (
    "--config.grid.seeds=(0,)",
    "--config.optim.steps=40",
    "--config.optim.log_every=3",
    "--config.save.start=4",
    "--config.save.count=8",
    "--config.figures=()",
    "--config.evaluate.losses=False",
    "--config.engine.state_seconds=0.0",
    *NARROW,
)


def appears(folder, pattern):
    return lambda: any(folder.glob(pattern))


def end_when(moment, number, *arguments):
    """Start a command, send it a signal as soon as `moment()` is true; return its exit code and its errors."""
    running = process(*arguments)
    while running.poll() is None and not moment():
        time.sleep(0.002)
    running.send_signal(number)
    _, err = running.communicate(timeout=1200)
    return running.returncode, err


def grown(file, before):
    """Whether a log has more lines than it had: this process trains."""
    return lambda: file.exists() and file.stat().st_size > before


def test_killed_commands_go_on_to_the_results_of_an_uninterrupted_one(tmp_path):
    """Kills in a save and in the evaluation; between them SIGTERM in training, after a wait that can be repeated."""
    arguments = (study(), *LONG, SHARED)
    straight = command(*arguments, f"--workdir={tmp_path / 'straight'}")
    assert straight.code == 0, straight.err
    folder = tmp_path / "killed"
    line = (*arguments, f"--workdir={folder}", "--log=tensorboard")
    log = folder / "metrics.jsonl"
    # While a checkpoint is being written.
    first, _ = end_when(appears(folder, "checkpoints/wave_000/params/*"), signal.SIGKILL, *line)
    # In training: a state is saved first.
    second, said = end_when(grown(log, log.stat().st_size if log.exists() else 0), signal.SIGTERM, *line)
    # While an evaluation is being written or just after.
    third, _ = end_when(appears(folder, "eval/wave_000/*"), signal.SIGKILL, *line)
    assert (first, third) == (-signal.SIGKILL, -signal.SIGKILL)
    assert "SIGTERM: a state is saved first\n" in said, said
    assert second == 143 and said.endswith("SIGTERM: ended; the same command goes on from the last checkpoint\n"), said
    done = real_command(*line)
    assert done.code == 0, done.err
    assert (folder / "concept_space.csv").read_bytes() == (tmp_path / "straight" / "concept_space.csv").read_bytes()
    logs = [read_metrics(f / "metrics.jsonl") for f in (folder, tmp_path / "straight")]
    ours, theirs = ({(r["run"], r["step"]): {**r, "steps_per_second": 0} for r in rows} for rows in logs)
    assert ours == theirs and len(logs[0]) == len(ours) == 2 * 14
    events.assert_whole(folder)
    states = list((folder / "checkpoints" / "wave_000" / "state").iterdir())
    assert [path.name for path in states] == ["40"], "rests of killed saves are left"


def test_a_full_disk_in_a_real_process_is_one_line(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        done = real_command(study(), f"--workdir={disk / 'w'}", *NARROW)
    finally:
        subprocess.run(["umount", disk], check=True)
    words = "params/2: cannot be written (no space left on the disk; it needs about "
    assert_one_line(without_progress(done), words)
