"""What is logged for TensorBoard and Weights & Biases, read back and compared with the study's own files."""

import importlib.machinery
import io
import os
import sys
import threading
import types

import jax.numpy as jnp
import numpy as np
import pytest
import synthetic
import tiny
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cspace_jax as cs
from cspace_jax.config.setting import SWEPT
from cspace_jax.pipeline import log_writers, logs
from cspace_jax.pipeline.progress import Recorder
from cspace_jax.pipeline.train import earlier_metrics
from cspace_jax.storage.metrics import read_metrics, truncate_metrics
from cspace_jax.storage.pictures import sheet
from cspace_jax.storage.workdir import Workdir
from cspace_jax.training.run import StepMetrics

LABELS = [
    "run_00000 sep_col=0.2 seed=0", "run_00001 sep_col=0.2 seed=7", "run_00002 sep_col=0.8 seed=0",
    "run_00003 sep_col=0.8 seed=7",
]  # fmt: skip


@pytest.fixture
def study(tmp_path):
    return tiny.in_workdir(Workdir(epath.Path(tmp_path)), tiny.study())


def events(folder, label):
    found = EventAccumulator(str(folder / label), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def scalars(folder, label):
    """Every number of a run: {(name, step): value}; each may be there once."""
    found = events(folder, label)
    rows = [(name, one.step, one.value) for name in found.Tags()["scalars"] for one in found.Scalars(name)]
    assert len({row[:2] for row in rows}) == len(rows)
    return {(name, step): value for name, step, value in rows}


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
        assert scalars(folder, label) == expected
    assert ("train/loss", 2) in expected and ("train/loss", 4) not in expected


def test_results_are_the_dataset_its_learning_times_and_its_samples(study):
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 7), steps=(500, 2000, 4000, 9000, 15000))
    images = synthetic.sample_images(ds, number=6)
    for _ in range(2):  # the second time replaces the first
        with log_writers.logging(study, "tensorboard") as logged:
            logged.log.results(ds, images)
    folder = study.workdir.root / "tensorboard"
    times = cs.analysis.learning.times_by
    for run, label in enumerate(LABELS):
        found = scalars(folder, label)
        naive = ds.isel(run=run, protocol=0)
        for step in ds["step"].values.tolist():
            here = naive.sel(step=step)
            assert found["concept_space/11_color", step] == np.float32(here["prob"].sel(klass="11", concept="color"))
            assert found["joint_accuracy/10", step] == np.float32(here["joint_accuracy"].sel(klass="10"))
            np.testing.assert_allclose(found["loss/test_diffusion", step], here["loss"].sel(split="test")[1], rtol=1e-6)
        joint = naive["joint_accuracy"].sel(klass="10").values[None]
        (time,) = times("stays_80", ds["step"].values, joint)
        assert found["learning_time/10_joint", 15000] == np.float32(time) < 9000
        pictures = events(folder, label).Images("samples")
        assert [one.step for one in pictures] == sorted(images)
        shown = np.asarray(Image.open(io.BytesIO(pictures[0].encoded_image_string)))
        np.testing.assert_array_equal(shown, sheet(images[500][run][:, :4]))


def test_many_runs_take_no_descriptors_and_no_threads(tmp_path):
    writer = log_writers.TensorBoard(epath.Path(tmp_path))
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for run in range(40):
        writer.begin(f"run_{run:05d}", logs.TRAINING)
        writer.scalars(f"run_{run:05d}", logs.TRAINING, 2, {"train/loss": 0.5})
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
    assert scalars(tmp_path, "run_00039") == {("train/loss", 2): 0.5}


def test_a_full_disk_ends_the_log_with_one_line_and_not_the_training(tmp_path, capsys):
    writer = log_writers.TensorBoard(epath.Path(tmp_path))
    for label in ("run_00000", "run_00001"):
        writer.begin(label, logs.TRAINING)
    (file,) = (tmp_path / "run_00000").iterdir()
    file.unlink()
    file.symlink_to("/dev/full")
    for step in range(40):  # more than a queue holds
        for label in ("run_00000", "run_00001"):
            writer.scalars(label, logs.TRAINING, step, {"train/loss": 0.5})
    writer.begin("run_00002", logs.TRAINING)
    writer.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("log = 'tensorboard': ") and "no space left on the disk; the study goes on" in line


def test_a_sheet_has_a_row_a_class_and_stands_upright():
    images = np.zeros((2, 3, 4, 5, 3), np.uint8)
    images[1, 2, 0, 4] = 255  # the second class's third image: x smallest, y largest
    rows = sheet(images)
    assert rows.shape == (2 * 5, 3 * 4, 3) and np.argwhere(rows[..., 0]).tolist() == [[5, 8]]


def test_parts_of_a_study_are_logged_under_their_own_numbers():
    taken = []
    take = {name: lambda *one: taken.append(one) for name in ("begin", "scalars", "picture", "close")}
    writer = types.SimpleNamespace(**take)
    log = logs.Log(writer, ("a", "b", "c")).of_part(1)
    log.begin([0, 1], [{"run": 1, "seed": 3, "step": 4, "loss": 0.5, "grad_norm": None}])
    assert taken == [("b", "training"), ("c", "training"), ("c", "training", 4, {"train/loss": 0.5})]


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
        cs.run(None, workdir, mode, log=name)
    assert list(tmp_path.iterdir()) == []


def test_without_a_log_nothing_is_written(study):
    with log_writers.logging(study, None) as same:
        assert same is study
        same.log.results(synthetic.dataset(levels=(0.2,), seeds=(0,)), {})
    assert list(study.workdir.root.iterdir()) == []
