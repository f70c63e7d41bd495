"""What is logged for TensorBoard and Weights & Biases, read back and compared with the study's own files."""

import dataclasses
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
from events import events, measured, pictures, scalars
from PIL import Image

import cspace_jax as cs
from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.config import grid, to_dict
from cspace_jax.config.setting import SWEPT
from cspace_jax.data import concepts
from cspace_jax.pipeline import log_results, log_writers, logs
from cspace_jax.pipeline.progress import Recorder, earlier_metrics
from cspace_jax.storage.evaluations import write_npz
from cspace_jax.storage.metrics import append_metrics, read_metrics, truncate_metrics
from cspace_jax.storage.pictures import sheet
from cspace_jax.training.run import StepMetrics

LABELS = [
    "run_00000 sep_col=0.2 seed=0", "run_00001 sep_col=0.2 seed=7", "run_00002 sep_col=0.8 seed=0",
    "run_00003 sep_col=0.8 seed=7",
]  # fmt: skip


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


def expected_of(study, evaluations, steps=None):
    settings, classes = grid.grid_settings(study.config.grid), concepts.classes(study.config.data.active)
    ds = build_dataset(Measurements(evaluations, settings, classes), to_dict(study.config))
    return [measured(ds, run, steps) for run in range(4)]


def evaluate(logged, evaluations, *steps):
    """Write the evaluations of steps, and have them logged, as the stages do."""
    (wave,) = logged.waves
    for step in steps:
        write_npz(wave.eval_file(step), evaluations[step])
        log_results.take(logged, wave, step, evaluations[step])


def found_in(study, read=scalars):
    return [read(study.workdir.root / "tensorboard" / label) for label in LABELS]


def test_an_evaluation_is_in_the_log_as_soon_as_it_is_there_with_the_learning_times_so_far(study, evaluations):
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, logged.waves[0], 6)
        for number, step in enumerate(study.steps, 1):
            evaluate(logged, evaluations, step)
            here = study.steps[:number]
            assert found_in(study) == expected_of(study, evaluations, here)
            assert found_in(study, pictures) == [list(here)] * 4
    times = [{step for name, step in one if name == "learning_time/11_size"} for one in found_in(study)]
    assert times == [{5, 6}] * 4, "not yet, at the first save"
    picture = events(study.workdir.root / "tensorboard" / LABELS[1]).Images("samples")[0]
    shown = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    np.testing.assert_array_equal(shown, sheet(evaluations[2]["samples"][1][:, :4]))


def test_a_viewer_that_stays_open_sees_training_and_evaluations(study, evaluations):
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, logged.waves[0], 6)
        viewer = events(study.workdir.root / "tensorboard" / LABELS[0])
        for step in study.steps:
            logged.log.metrics([{"run": 0, "seed": 0, "step": step, "loss": 0.5}])
            evaluate(logged, evaluations, step)
            viewer.Reload()
            for name in ("train/loss", "concept_space/11_color"):
                assert viewer.Scalars(name)[-1].step == step


def test_a_learning_time_is_gone_where_the_run_no_longer_has_it(study, evaluations):
    evaluations[6] = evaluations[6] | {"prob_samples": evaluations[2]["prob_samples"]}
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, logged.waves[0], 6)
        evaluate(logged, evaluations, *study.steps)
    assert {step for name, step in found_in(study)[0] if name == "learning_time/11_size"} == {5}
    assert found_in(study) == expected_of(study, evaluations)


def test_a_log_that_was_killed_at_any_place_is_whole_after_the_next_start(study, evaluations):
    with log_writers.logging(study, "tensorboard") as killed:
        log_results.begin(killed, killed.waves[0], 6)
        evaluate(killed, evaluations, 2)
    write_npz(killed.waves[0].eval_file(5), evaluations[5])  # killed between the file and its event
    for file in (study.workdir.root / "tensorboard").glob("*/*"):
        file.write_bytes(file.read_bytes()[:-9])  # and within an event
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, logged.waves[0], 6)
        assert found_in(study) == expected_of(study, evaluations, (2, 5))
        evaluate(logged, evaluations, 6)
        log_results.finish(logged, logged.waves[0])
    assert found_in(study) == expected_of(study, evaluations)
    with log_writers.logging(study, "tensorboard") as again:  # of a finished study
        log_results.begin(again, again.waves[0], 6)
    assert found_in(study) == expected_of(study, evaluations)


def test_learning_times_wait_for_saves_that_are_evaluated_later(study, evaluations):
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, logged.waves[0], 6)
        evaluate(logged, evaluations, 5, 6)  # the parameters of step 2 are kept
        assert not any(name.startswith("learning_time") for one in found_in(study) for name, _ in one)
        evaluate(logged, evaluations, 2)
        log_results.finish(logged, logged.waves[0])  # in the order of steps
    assert found_in(study) == expected_of(study, evaluations)


def test_a_damaged_evaluation_is_one_line_and_the_log_goes_on(study, evaluations, capsys):
    (wave,) = study.waves
    for step in study.steps:
        write_npz(wave.eval_file(step), evaluations[step])
    wave.eval_file(5).write_bytes(b"damaged")
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, wave, 6)
    (line,) = capsys.readouterr().out.splitlines()
    assert "step_00000005.npz cannot be read" in line and line.endswith("; the log goes without it")
    assert {step for one in found_in(study) for _, step in one} == {2, 6}


@pytest.mark.parametrize("name", ["prob_samples", "loss"])
def test_an_evaluation_of_another_shape_is_one_line_and_the_log_goes_on(name, study, evaluations, capsys):
    evaluations[5] = evaluations[5] | {name: evaluations[5][name][:2]}
    (wave,) = study.waves
    for step in study.steps:
        write_npz(wave.eval_file(step), evaluations[step])
    with log_writers.logging(study, "tensorboard") as logged:
        log_results.begin(logged, wave, 6)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("results: ") and "of step 5 has" in line and line.endswith("; the log goes without it")
    assert {step for one in found_in(study) for _, step in one} == {2, 6}


def test_samples_are_read_where_a_run_of_the_wave_is_pictured(study, evaluations, monkeypatch):
    read = []
    take = log_results.read_evaluation
    monkeypatch.setattr(log_results, "read_evaluation", lambda file, keys: read.append(keys) or take(file, keys))
    write_npz(study.waves[0].eval_file(2), evaluations[2])
    for pictured in (frozenset({3}), frozenset({4})):
        log = logs.Log(log_writers.TensorBoard(study.workdir.tensorboard), tuple(LABELS), pictured)
        log_results.begin(dataclasses.replace(study, log=log), study.waves[0], 6)
    assert ["samples" in keys for keys in read] == [True, False]


def test_samples_are_shown_of_few_runs(study, capsys):
    assert logs.pictured(synthetic.grid(seeds=range(4))) == frozenset(range(16))
    assert logs.pictured(synthetic.grid(seeds=range(5))) == {0, 5, 10, 15}  # one of each level
    many = logs.pictured(synthetic.grid(levels=np.linspace(0.1, 0.9, 40), seeds=(0, 1)))
    assert len(many) == 16 and min(many) == 0 and max(many) == 78 and all(run % 2 == 0 for run in many)
    with log_writers.logging(study, "tensorboard"):
        assert capsys.readouterr().out == ""
    with log_writers.logging(
        tiny.in_workdir(study.workdir, tiny.study(grid={"seeds": tuple(range(9))})), "tensorboard"
    ):
        assert capsys.readouterr().out == "log: samples are shown of 2 of 18 runs, one of a level\n"


def test_how_results_come_while_it_trains_is_said_once_where_they_do_not(study, capsys):
    def said(config, name="tensorboard"):
        with log_writers.logging(tiny.in_workdir(study.workdir, config), name) as logged:
            log_results.tell(logged.parts)
        return capsys.readouterr().out

    line = said(study.config)
    assert line.count("\n") == 1 and "with --config.save.keep=last" in line
    assert said(study.config, None) == "" == said(tiny.changed(study.config, save={"keep": "last"}))
    for step in study.steps:
        write_npz(study.waves[0].eval_file(step), {"x": np.zeros(1)})  # nothing is left to train
    assert said(study.config) == ""


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
    assert taken == [("b",), ("c",), ("c", 4, {"train/loss": 0.5})]


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
        cs.run(None, workdir, mode, log=name)
    assert list(tmp_path.iterdir()) == []


def test_without_a_log_nothing_is_written_or_read(study, evaluations, monkeypatch):
    monkeypatch.setattr(log_results, "read_evaluation", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(log_results, "numbers", lambda *_: pytest.fail("computed"))
    with log_writers.logging(study, None) as same:
        assert same is study
        evaluate(same, evaluations, 2)
        log_results.begin(same, same.waves[0], 6)
        log_results.finish(same, same.waves[0])
    assert [path.name for path in study.workdir.root.iterdir()] == ["eval"]
