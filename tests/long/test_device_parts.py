"""The parts of the check of a device, and the processes that carry them out."""

import json
import pathlib
import sys
import textwrap

import commands
import faces
import numpy as np
import pytest

from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from experiments import device_check, device_kill, device_parts, memory_check, tpu_check

SCRIPT = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["part"] == "crash":
        os._exit(3)
    if request["part"] == "hang":
        time.sleep(600)
    answer = {"status": "done", "process": os.getpid(), "platforms": os.environ.get("JAX_PLATFORMS")}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(device_check, "WORKER", (sys.executable, str(script)))
    worker = device_check.Worker(tmp_path)
    yield worker
    worker.stop()


def test_a_process_that_crashes_or_hangs_is_an_answer_and_the_next_one_is_new(worker):
    first = worker.ask({"part": "train"}, 60.0)
    assert worker.ask({"part": "sample"}, 60.0) == first
    assert worker.ask({"part": "crash"}, 60.0) == {"status": "failed", "note": "its process ended with exit code 3"}
    second = worker.ask({"part": "train"}, 60.0)
    assert second["status"] == "done" and second["process"] != first["process"]
    assert worker.ask({"part": "hang"}, 0.3) == {"status": "skipped", "note": "stopped after 0 s"}
    assert worker.ask({"part": "train"}, 60.0)["process"] not in (first["process"], second["process"])


def test_memory_and_kill_have_processes_of_their_own(worker, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    answers = [worker.ask({"part": part}, 60.0) for part in ("train", "memory", "memory", "kill", "train")]
    processes = [answer["process"] for answer in answers]
    assert processes[1] == processes[2] and len(set(processes)) == 4
    assert [answer["platforms"] for answer in answers] == ["cuda", "cuda", "cuda", "cpu", "cuda"]


@pytest.fixture
def narrow(tmp_path):
    """A study whose network compiles fastest."""
    file = tmp_path / "narrow.py"
    file.write_text(
        textwrap.dedent("""
        from cspace_jax.studies import signal

        def get_config(scale):
            config = signal.get_config(scale)
            config.network.channels, config.network.groups, config.network.attention = (4,), 2, False
            return config
        """)
    )
    return f"{file}:smoke"


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_the_command_measures_every_part_on_a_cpu(tmp_path, narrow, monkeypatch, capsys):
    def ask(self, request, limit, hurried):
        assert hurried
        return device_parts.carry_out(request)

    monkeypatch.setattr(device_check.Worker, "ask", ask)
    arguments = [f"--workdir={tmp_path}", f"--config={narrow}", "--parts=memory,train,sample,save,auto", "--runs=2"]
    device_check.main([*arguments, "--layouts=loop:canonical", "--seconds=0.01"])
    report = json.loads((tmp_path / "device_check.json").read_text())
    rows = report["rows"]
    assert {row["status"] for row in rows.values()} == {"done"}, rows
    assert set(rows) == {f"{part}/2/loop:canonical" for part in ("memory", "train", "sample", "save")} | {
        "auto/4/loop:winograd"
    }
    assert rows["train/2/loop:canonical"]["rate"] > 0 and rows["sample/2/loop:canonical"]["flops"] > 0
    saved = rows["save/2/loop:canonical"]
    assert saved["equal"] and saved["runs"] == 2 and saved["bytes"] > 1000
    assert rows["memory/2/loop:canonical"]["peak"] is None and "not told by the backend" in capsys.readouterr().out
    assert not (tmp_path / "save").exists()


def test_a_study_of_pictures_is_opened_and_its_fields_can_be_overridden(tmp_path, monkeypatch):
    """Every script that measures a device or a compiler opens the source itself."""
    faces.write_folder(tmp_path, 40, seed=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = [f"--config.data.path={tmp_path}", "--config.grid.seeds=(3,)", "--config.optim.batch_size=4"]
    options = device_check.parser().parse_with_overrides(["--workdir=w", "--config=images:smoke", *given])
    asked = []
    device_check.Check(
        tmp_path, options, lambda request, *_: asked.append(request) or {"status": "failed", "note": ""}
    ).run()
    about = device_parts.carry_out(asked[0])
    assert about["status"] == "done" and about["wave"] == 1, about
    task = device_check.plan(about, options, tmp_path)[-1]
    config = device_parts.study(json.loads(json.dumps({**task.request, "runs": 2, "way": ""})))
    assert (config.optim.batch_size, config.data.path, config.grid.seeds) == (4, str(tmp_path), (0, 1))
    assert source_of(config.data).real
    gone = device_parts.carry_out({"part": "device", "config": "images:smoke", "overrides": {"data.path": "/no/where"}})
    assert gone["status"] == "failed" and gone["note"] == "data.path = '/no/where': no such folder"


@pytest.mark.parametrize("script", [memory_check.main, tpu_check.run])
def test_other_scripts_open_the_source_too(script, monkeypatch):
    monkeypatch.setattr(tpu_check, "_chip", lambda topology: pytest.fail("it was not opened"))
    arguments = ["--config=images:smoke", "--config.data.path=/no/where", "--runs=1"]
    with pytest.raises(UserError, match="data.path = '/no/where': no such folder"):
        script([*arguments, "--inside"] if script is memory_check.main else arguments)
    with pytest.raises(UserError, match="--config.data.path must have a value"):
        script(["--config=images:smoke", "--config.data.path"])


def test_a_part_that_fails_is_an_answer_of_one_line(monkeypatch):
    def fail(request):
        raise RuntimeError("first\nsecond " + "x" * 200)

    monkeypatch.setitem(device_parts.PARTS, "train", fail)
    answer = device_parts.carry_out({"part": "train"})
    assert answer["status"] == "failed" and answer["note"].startswith("RuntimeError: first second x")
    assert len(answer["note"]) == 160


# The state comes last, as in a training: it is what the kill waits for.
COPY = """
import shutil, sys, time
def own_state(folder, names):
    return ["state"] if folder.endswith("wave_000") else []
shutil.copytree(sys.argv[1], sys.argv[2], ignore=own_state)
state = "/checkpoints/wave_000/state"
shutil.copytree(sys.argv[1] + state, sys.argv[2] + "/state_being_copied")
shutil.move(sys.argv[2] + "/state_being_copied", sys.argv[2] + state)
time.sleep(600)
"""


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_a_training_is_killed_goes_on_and_is_compared_bit_for_bit(tmp_path, monkeypatch):
    """The first training is a real command, the one to be killed a process that leaves a copy of its workdir."""
    train_and_kill, folders = device_kill._train_and_kill, []

    def train(line, environment):
        folders.append(line[-1].partition("=")[2])
        if len(folders) == 1:
            done = commands.command(*line[3:])
            assert done.code == 0, done.err

    def kill(line, environment, workdir):
        return train_and_kill([sys.executable, "-c", COPY, folders[0], str(workdir)], environment, workdir)

    monkeypatch.setattr(device_kill, "_train", train)
    monkeypatch.setattr(device_kill, "_train_and_kill", kill)
    shorter = [f"--config.{change}" for change in ("optim.steps=6", "save.start=2", "save.count=2")]
    found = device_kill.kill_and_resume(tmp_path / "kill", "cpu", (*device_kill.ARGUMENTS, *shorter))
    assert found == {"killed_at": 6, "last": 6, "equal": True}
    assert [pathlib.Path(folder).name for folder in folders] == ["straight", "killed"]
    assert not (tmp_path / "kill").exists()


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_difference_after_a_kill_is_held_against_a_second_undisturbed_training(tmp_path, monkeypatch, repeatable):
    monkeypatch.setattr(device_kill, "_train", lambda line, environment: None)
    monkeypatch.setattr(device_kill, "_train_and_kill", lambda line, environment, workdir: 4)
    monkeypatch.setattr(device_kill, "_last_state", lambda workdir: 40)
    monkeypatch.setattr(device_kill, "equal", lambda first, second: second.name == "again" and repeatable)
    found = device_kill.kill_and_resume(tmp_path, None)
    assert found == {"killed_at": 4, "last": 40, "equal": False, "repeatable": repeatable}


def test_bits_are_compared():
    tree = {"a": np.float32([0.0, np.nan]), "b": [1, 2.0]}
    assert device_kill.same_bits(tree, {"a": np.float32([0.0, np.nan]), "b": [1, 2.0]})
    for other in ({"a": np.float32([-0.0, np.nan])}, {"a": np.float64([0.0, np.nan])}, {"b": [1]}, {"b": [1, 2.5]}):
        assert not device_kill.same_bits(tree, tree | other)


def test_a_training_that_fails_or_ends_too_soon_is_told(tmp_path):
    with pytest.raises(UserError, match="ended with exit code 3: nothing on standard error"):
        device_kill._train([sys.executable, "-c", "raise SystemExit(3)"], {})
    with pytest.raises(UserError, match="ended with exit code 0 before it could be killed"):
        device_kill._train_and_kill([sys.executable, "-c", ""], {}, tmp_path)
