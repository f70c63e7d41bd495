"""One study over many processes: the results of one process, one dead process ends the others, and bad flags."""

import json
import signal
import socket
import time

import events
import jax
import pytest
from commands import NARROW, SHARED, command, process, real_command, study

import cspace_jax as cs
from cspace_jax.storage import workdir
from cspace_jax.storage.metrics import read_metrics

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")

# Two runs with many saves: a moment in training is found, and each process owns one run.
SMALL = (
    "--config.grid.seeds=(0,)",
    "--config.optim.steps=40",
    "--config.optim.log_every=10",
    "--config.save.start=4",
    "--config.save.count=6",
    "--config.figures=()",
    "--config.evaluate.losses=False",
    "--config.engine.state_seconds=0.0",
    *NARROW,
)
COUNT = 2
PATIENT = {"CSPACE_JAX_HEARTBEAT_SECONDS": "900", "JAX_NUM_CPU_DEVICES": "1"}  # a busy machine may pause processes


def start_all(*arguments):
    """Start one command in all processes, the first process first."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    group = ("--distributed", f"--coordinator={coordinator}", f"--num_processes={COUNT}")
    return [process(*arguments, *group, f"--process_id={i}", **PATIENT) for i in range(COUNT)]


def finish(running):
    """Wait for all processes and return their exit codes and outputs."""
    try:
        outputs = [one.communicate(timeout=1200) for one in running]
    finally:
        for one in running:
            one.kill()
    return [one.returncode for one in running], outputs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The study in one process on one device: the arguments it was given, and its workdir."""
    folder = tmp_path_factory.mktemp("alone")
    arguments = (study(), *SMALL, SHARED)
    done = command(*arguments, f"--workdir={folder / 'alone'}", "--config.engine.devices=1")
    assert done.code == 0, done.err
    return arguments, folder / "alone"


def test_a_process_whose_peers_never_come_says_so_and_ends_at_sigterm(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    group = ("--distributed", f"--coordinator={coordinator}", "--num_processes=2", "--process_id=0")
    running = process(study(), f"--workdir={tmp_path / 'w'}", *group, **PATIENT)
    assert running.stdout.readline() == f"distributed: waiting for 2 processes at {coordinator} to come (5 s)\n"
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=1200)
    assert running.returncode == 143
    assert err.endswith("SIGTERM: ended; the same command goes on from the last checkpoint\n")
    assert not (tmp_path / "w").exists()


def test_two_devices_give_the_table_of_one(alone, tmp_path):
    arguments, folder = alone
    done = real_command(*arguments, f"--workdir={tmp_path / 'w'}", JAX_NUM_CPU_DEVICES="2")
    assert done.code == 0 and "2 x cpu" in done.out, (done.out, done.err)
    assert (tmp_path / "w" / "concept_space.csv").read_bytes() == (folder / "concept_space.csv").read_bytes()


def test_two_processes_survive_a_kill_and_end_with_the_table_of_one(alone, tmp_path):
    arguments, expected = alone
    folder = tmp_path / "many"
    line = (*arguments, f"--workdir={folder}", "--log=tensorboard")

    running = start_all(*line)
    while all(one.poll() is None for one in running) and not any(folder.glob("checkpoints/wave_001/state/*")):
        time.sleep(0.002)
    running[0].send_signal(signal.SIGKILL)  # the first: the others notice that at once
    codes, outputs = finish(running)
    assert codes[0] == -signal.SIGKILL, outputs
    assert codes[1] not in (0, -signal.SIGKILL), outputs  # it ended by itself, and not as if all were well
    assert not (folder / "concept_space.csv").exists()

    codes, outputs = finish(start_all(*line))
    assert codes == [0, 0], outputs
    # The CPU's transport speaks, and Orbax where the kill left a save unfinished.
    said = [line for line in "".join(outputs[1]).splitlines() if "[Gloo]" not in line and "atomicity.py" not in line]
    assert not said and "2 processes with 1 x cpu" in outputs[0][0]
    assert (folder / "concept_space.csv").read_bytes() == (expected / "concept_space.csv").read_bytes()
    assert json.loads((folder / "waves.json").read_text()) == [[0, 1], [1, 2]]
    logs = [read_metrics(f / "metrics.jsonl") for f in (folder, expected)]
    ours, theirs = ({(r["run"], r["step"]): {**r, "steps_per_second": 0} for r in rows} for rows in logs)
    assert ours == theirs and len(logs[0]) == len(ours) == 2 * 4
    assert not list(folder.glob("metrics.part_*"))
    events.assert_whole(folder)

    # One process goes on with what two have left, in their waves.
    next(folder.glob("eval/wave_001/*")).unlink()
    table = (folder / "concept_space.csv").read_bytes()
    done = command(*line)
    assert done.code == 0, done.err
    assert (folder / "concept_space.csv").read_bytes() == table
    events.assert_whole(folder)


def test_a_workdir_of_another_config_is_refused_by_all_processes(tmp_path):
    folder = tmp_path / "w"
    config = cs.load_config("signal:smoke")
    workdir.prepare(folder, config)
    codes, outputs = finish(start_all(study(), f"--workdir={folder}", "--config.optim.batch_size=4"))
    assert codes == [2, 2], outputs
    for _, err in outputs:
        assert err.count("\n") == 1 and "belongs to another config, differing in optim.batch_size" in err


MISTAKES = {
    "no --distributed": (["--num_processes=2"], "num_processes = 2: only goes with --distributed"),
    "a part": (["--distributed", "--coordinator=here:1234"], "num_processes is not given: outside SLURM"),
    "no port": (
        ["--distributed", "--coordinator=here", "--num_processes=2", "--process_id=0"],
        "coordinator = 'here': must be HOST:PORT",
    ),
    "no such process": (
        ["--distributed", "--coordinator=here:1234", "--num_processes=2", "--process_id=2"],
        "process_id = 2: must be less than num_processes = 2",
    ),
    "no number": (["--distributed", "--num_processes=two"], "flag --num_processes=two"),
    "none": (
        ["--distributed", "--coordinator=here:1234", "--num_processes=0", "--process_id=0"],
        "flag --num_processes=0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_bad_flags_are_one_line(name, tmp_path):
    arguments, words = MISTAKES[name]
    done = command(study(), f"--workdir={tmp_path / 'w'}", *arguments)
    assert done.code == 2 and done.out == "", done.out
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and words in done.err, done.err
    assert not (tmp_path / "w").exists()


def test_no_cluster_is_one_line(tmp_path, monkeypatch):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    done = command(study(), f"--workdir={tmp_path / 'w'}", "--distributed")
    assert done.code == 2 and done.err.count("\n") == 1, done.err
    assert "coordinator_address should be defined" in done.err and "give --coordinator=HOST:PORT" in done.err
