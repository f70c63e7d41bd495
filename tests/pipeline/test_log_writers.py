"""What writes a log: events of TensorBoard and runs of Weights & Biases, read back."""

import importlib.machinery
import os
import sys
import threading
import types

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from events import scalars
from logged import LABELS, evaluate

import cspace_jax as cs
from cspace_jax.config.setting import SWEPT
from cspace_jax.pipeline import log_results, log_writers
from cspace_jax.pipeline.progress import Recorder, earlier_metrics
from cspace_jax.storage.metrics import append_metrics, read_metrics, truncate_metrics
from cspace_jax.training.run import StepMetrics


def train(study, done, last):
    """Log the steps after `done` as training does, run 3 NaN from step 4 on."""
    with log_writers.logging(study, "tensorboard") as logged:
        wave = logged.waves[0]
        logged.log.begin(wave.rows, earlier_metrics(logged, wave, done))
        truncate_metrics(logged.workdir.own_metrics, done, wave.rows)
        with Recorder(logged, wave, done) as recorder:
            for step in range(done + 2, last + 1, 2):
                values = np.random.default_rng(step).random((8, 4), np.float32)
                values[0, 3] = np.nan if step >= 4 else 1.0
                recorder.advance(step, [StepMetrics(*map(jnp.asarray, values))])


def test_events_of_a_training_that_was_interrupted_are_those_of_metrics_jsonl(study):
    train(study, 0, 4)  # the last state is that of step 2
    train(study, 2, 6)
    rows = read_metrics(study.workdir.metrics)
    assert [row["step"] for row in rows if row["run"] == 0] == [2, 4, 6]
    folder = study.workdir.root / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == LABELS
    for run, label in enumerate(LABELS):
        expected = {
            (f"train/{name}", row["step"]): np.float32(value)
            for row in rows if row["run"] == run for name, value in row.items()
            if name not in ("run", "step", "seed", *SWEPT) and value is not None
        }  # fmt: skip
        assert scalars(folder / label) == expected
    assert ("train/loss", 2) in expected and ("train/loss", 4) not in expected


def test_many_runs_take_no_descriptors_and_no_threads(tmp_path):
    writer = log_writers.TensorBoard(epath.Path(tmp_path))
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for run in range(40):
        writer.begin(f"run_{run:05d}")
        writer.scalars(f"run_{run:05d}", 2, {"train/loss": 0.5})
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert scalars(tmp_path / "run_00039") == {("train/loss", 2): 0.5}


def test_a_run_whose_label_changes_is_there_once(tmp_path):
    for label in ("run_10000 seed=0", "run_100000 seed=0", "run_10000 sep_col=0.2 seed=0"):
        log_writers.TensorBoard(epath.Path(tmp_path)).begin(label)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run_10000 sep_col=0.2 seed=0", "run_100000 seed=0"]


def test_a_full_disk_ends_the_log_with_one_line_and_not_the_training(tmp_path, capsys):
    writer = log_writers.TensorBoard(epath.Path(tmp_path))
    for label in ("run_00000", "run_00001"):
        writer.begin(label)
    (file,) = (tmp_path / "run_00000").iterdir()
    file.unlink()
    file.symlink_to("/dev/full")
    for step in range(40):  # more than a queue holds
        for label in ("run_00000", "run_00001"):
            writer.scalars(label, step, {"train/loss": 0.5})
    older = tmp_path / "run_00002" / "events.out.tfevents.1.a"
    older.parent.mkdir()
    older.write_bytes(b"of an earlier start")
    writer.begin("run_00002")
    writer.close()
    assert older.read_bytes() == b"of an earlier start"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("log = 'tensorboard': ") and "no space left on the disk; the study goes on" in line


class Error(Exception):
    pass


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package, which writes down how it is called."""
    calls = []
    run = types.SimpleNamespace(
        log=lambda values: calls.append(("log", values)), finish=lambda: calls.append(("finish",)),
        define_metric=lambda *given, **named: calls.append(("define_metric", given, named)),
    )  # fmt: skip
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    module.calls, module.Error, module.Settings, module.Image = calls, Error, dict, np.asarray
    module.init = lambda **named: calls.append(("init", named)) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return module


def test_weights_and_biases_gets_one_run_a_study_offline_by_default(study, wandb, monkeypatch):
    with log_writers.logging(study, "wandb") as logged:
        logged.log.begin([0], [{"run": 0, "seed": 0, "step": 2, "loss": 0.5}])
    (_, init), _, log, finish = wandb.calls
    assert (init["mode"], init["dir"]) == ("offline", str(study.workdir.root)) and init["config"]["study"] == "tiny"
    assert log == ("log", {f"train/loss/{LABELS[0]}": 0.5, "step": 2}) and finish == ("finish",)
    monkeypatch.setenv("WANDB_MODE", "online")
    with log_writers.logging(study, "wandb"):
        assert wandb.calls[-2][1]["mode"] == "online"


def test_weights_and_biases_gets_nothing_twice_in_a_start(study, evaluations, wandb):
    with log_writers.logging(study, "wandb") as logged:
        for _ in range(2):  # again, as where memory did not suffice for training
            append_metrics(study.workdir.metrics, [{"run": 0, "seed": 0, "step": 2, "loss": 0.5}])
            log_results.begin(logged, logged.waves[0], 6)
            evaluate(logged, evaluations, 2, 5)
    taken = [(values["step"], name) for kind, values, *_ in wandb.calls[2:-1] for name in values if name != "step"]
    assert len(set(taken)) == len(taken)
    assert {
        (2, f"train/loss/{LABELS[0]}"),
        (2, f"samples/{LABELS[3]}"),
        (5, f"learning_time/11_size/{LABELS[0]}"),
    } < set(taken)


def test_each_of_many_processes_has_a_run_of_weights_and_biases_in_one_group(study, wandb, monkeypatch):
    monkeypatch.setattr(log_writers.processes, "are_many", lambda: True)
    with log_writers.logging(study, "wandb"):
        name = study.workdir.root.name
    init = wandb.calls[0][1]
    assert (init["name"], init["group"]) == (f"{name} process 0", name)


def test_weights_and_biases_that_cannot_start_is_one_line(study, wandb):
    def fail(**_):
        raise Error("no key\nfound")

    wandb.init = fail
    with pytest.raises(cs.UserError, match=r"^log = 'wandb': it cannot start \(no key found\)$"):
        log_writers.logging(study, "wandb").__enter__()


@pytest.mark.parametrize(
    ("name", "mode", "workdir", "words"),
    [
        ("tensorbord", "all", "w", "log = 'tensorbord': must be one of tensorboard, wandb"),
        ("tensorboard", "figures", "w", "log = 'tensorboard': only goes with --mode=train, eval, elicit, extend, all"),
        ("tensorboard", "all", "gs://b/w", "needs a workdir on this machine"),
        ("wandb", "all", "w", r"needs the package wandb: pip install 'cspace_jax\[wandb\]'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(name, mode, workdir, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "wandb":
        monkeypatch.setattr(log_writers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(cs.UserError, match=words):
        cs.run(cs.load_config("signal:smoke") if mode == "all" else None, workdir, mode, log=name)
    assert list(tmp_path.iterdir()) == []
