"""Steps trained again: the same bits as saved ones, files of each run, what differs is said, mistakes are one line."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
import synthetic
import tiny
from etils import epath
from rich.console import Console
from tiny import copy_of, probe_of

from cspace_jax.analysis import report, turning_steps
from cspace_jax.config import to_dict
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.pipeline import collect, elicit, preparation, replay
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.replay import ReplayRequest
from cspace_jax.pipeline.train import train
from cspace_jax.storage import checkpoint, results
from cspace_jax.storage.environment import environment
from cspace_jax.storage.evaluations import read_evaluation
from cspace_jax.storage.metrics import append_metrics, read_metrics
from cspace_jax.storage.workdir import Workdir

# Studies are trained, or programs compiled, by the dozen.
pytestmark = pytest.mark.system
CONFIG = tiny.study(
    network=tiny.NARROW,
    diffusion={"schedule": "fixed_linear"},
    optim={"clip": 1.0},
    save={"keep": "last", "keep_states": (2,)},
)
SAVED = tiny.changed(CONFIG, save={"steps": (2, 3, 4, 5, 6), "keep": "all"})  # what is replayed below was saved here
ARRAYS = ("prob_samples", "mean_rgb", "loss", "schedule_b", "schedule_w", "embedding_classes")


@pytest.fixture(scope="module")
def reader():
    return probe_of(CONFIG)


def carried_out(root, config, reader):
    study = tiny.in_workdir(Workdir(epath.Path(root)), config)
    study.workdir.config.write_text(json.dumps(to_dict(config)))
    study.workdir.env.write_text(json.dumps(environment()))
    train(study, reader)
    evaluate(study, reader)
    if config.elicit.protocols:
        elicit.ask(study, reader)
    tiny.collected(study.workdir, config)
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory, reader):
    return carried_out(tmp_path_factory.mktemp("work"), CONFIG, reader)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, reader):
    return carried_out(tmp_path_factory.mktemp("saved"), SAVED, reader)


def copied(study, tmp_path):
    return dataclasses.replace(study, workdir=copy_of(study.workdir, tmp_path))


def of_run(study, step, run):
    stored = read_evaluation(study.waves[0].eval_file(step), ARRAYS)
    return {name: values[run : run + 1] for name, values in stored.items()}


def test_added_steps_are_bit_for_bit_what_a_save_there_gives(finished, saved, reader, tmp_path):
    study = copied(finished, tmp_path)
    table = study.workdir.table.read_bytes()
    replay.replay(study, reader, ReplayRequest(steps=(4, 3, 5)))  # 5 is a save
    assert study.workdir.table.read_bytes() == table
    for run in range(4):
        assert sorted(path.name for path in replay.folder(study, run).iterdir()) == [
            f"step_0000000{step}.npz" for step in (3, 4)
        ]
        for step in (3, 4):
            tiny.assert_same_bits(
                read_evaluation(replay.naive_file(study, run, step), ARRAYS), of_run(saved, step, run)
            )
    ds = collect.added(study)
    assert ds["step"].values.tolist() == [3, 4] and (ds["exact"] == 1).all()
    np.testing.assert_array_equal(ds["prob"], results.open_results(saved.workdir.root)["prob"].sel(step=[3, 4]))
    results.write_added(ds, study.workdir)
    assert study.added.equals(results.open_results(study.workdir.added_dataset))
    ours = pd.read_csv(study.workdir.added_table, dtype={"klass": str})
    theirs = pd.read_csv(saved.workdir.table, dtype={"klass": str})
    expected = theirs[theirs["step"].isin((3, 4))].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours.drop(columns="exact"), expected)


def test_runs_keep_their_numbers_where_only_some_have_added_steps(finished, reader, tmp_path):
    """As around a turn that not every run makes."""
    study = copied(finished, tmp_path)
    replay.replay(study, reader, ReplayRequest(steps=(3,)))
    for run in (0, 2):
        shutil.rmtree(replay.folder(study, run))
    ds = collect.added(study)
    assert ds["run"].values.tolist() == [1, 3]
    results.write_added(ds, study.workdir)
    table = pd.read_csv(study.workdir.added_table, dtype={"klass": str})
    assert sorted(table["run"].unique()) == [1, 3] and (table["exact"] == 1).all()
    seeds = {run: int(study.config.grid.seeds[run % 2]) for run in (1, 3)}
    assert dict(zip(table["run"], table["seed"], strict=True)) == seeds


def test_a_replay_starts_from_the_nearest_kept_state(finished, reader, tmp_path, monkeypatch):
    wave = finished.waves[0]
    assert (checkpoint.steps(wave.kept_folder), checkpoint.steps(wave.state_folder)) == ([2], [6])
    study, starts, original = copied(finished, tmp_path), [], Engine.train

    def seen(self, state, step, count):
        starts.append(step)
        return original(self, state, step, count)

    monkeypatch.setattr(Engine, "train", seen)
    replay.replay(study, reader, ReplayRequest(steps=(3,)))
    assert starts == [2]
    shutil.rmtree(study.waves[0].kept_folder)  # a user may free the disk: then from the first step
    replay.replay(study, reader, ReplayRequest(steps=(4,)))
    assert starts[1] == 0
    before = len(starts)
    replay.replay(study, reader, ReplayRequest(steps=(3, 4)))  # nothing is missing
    assert len(starts) == before


def test_a_replay_that_is_killed_goes_on(finished, reader, tmp_path, monkeypatch):
    study = copied(finished, tmp_path)
    writes = iter(range(100))

    def write(path, arrays):
        if next(writes) == 5:
            raise KeyboardInterrupt
        original(path, arrays)

    original = replay.write_npz
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(replay, "write_npz", write)
        replay.replay(study, reader, ReplayRequest(steps=(3, 4)))
    first = {path: path.read_bytes() for path in study.workdir.replay.glob("*/*.npz")}
    assert len(first) == 5
    replay.replay(study, reader, ReplayRequest(steps=(3, 4)))
    assert all(path.read_bytes() == content for path, content in first.items())
    assert collect.added(study)["exact"].notnull().all()


def test_a_run_that_differs_is_said_and_marked(finished, reader, tmp_path, capsys):
    study = copied(finished, tmp_path)
    rows = read_metrics(study.workdir.metrics)
    for row in rows:
        if (row["run"], row["step"]) == (1, 4):
            row["loss"] += 1e-3
    study.workdir.metrics.unlink()
    append_metrics(study.workdir.metrics, rows)
    replay.replay(study, reader, ReplayRequest(steps=(3, 4)))
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("differs from its first training at step 4") == 1
    exact = collect.added(study)["exact"].values.tolist()
    assert exact == [[1, 1], [1, 0], [1, 1], [1, 1]]


def test_parameters_that_were_kept_are_compared(finished):
    study = finished
    runner = study.engine(study.waves[0])
    folder, abstract = study.waves[0].params_folder, runner.abstract_state().evaluated
    stored = runner.fetch(checkpoint.restore_groups(folder, 6, abstract, runner.groups))
    assert checkpoint.equal_runs(folder, 6, stored).tolist() == [True] * 4
    stored["network"]["conv_in"]["kernel"] = np.array(stored["network"]["conv_in"]["kernel"])
    stored["network"]["conv_in"]["kernel"][2] += 1e-7
    assert checkpoint.equal_runs(folder, 6, stored).tolist() == [True, True, False, True]


def test_added_steps_are_asked_with_the_battery(reader, tmp_path):
    config = tiny.changed(
        CONFIG,
        grid={"sep_col": (0.2,), "seeds": (0,)},
        elicit={"protocols": ("latent", "patch"), "alpha": (1.0,), "samples": 2},
    )
    saved_there = tiny.changed(config, save={"steps": (2, 3, 5, 6), "keep": "all"})
    config = tiny.changed(config, save={"keep": "all"})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    study, other = carried_out(tmp_path / "a", config, reader), carried_out(tmp_path / "b", saved_there, reader)
    replay.replay(study, reader, ReplayRequest(steps=(3,)))
    ds, theirs = collect.added(study), results.open_results(other.workdir.root).sel(step=[3])
    assert ds["protocol"].values.tolist() == ["naive", "latent", "patch"]
    for name in ("prob", "capability", "capability_split", "capability_init"):
        np.testing.assert_array_equal(ds[name], theirs[name])


def test_each_run_gets_steps_around_its_own_turn(finished, monkeypatch, capsys):
    monkeypatch.setattr(replay, "turns", lambda study: {0: 4.0, 2: 6.0})
    assert replay.wanted(finished, ReplayRequest(around="turn", width=4, count=5)) == {
        0: [3, 4],
        2: [4],
    }  # 2, 5, 6 are saves
    assert capsys.readouterr().out == "run 1 never turns: no steps are added\nrun 3 never turns: no steps are added\n"


def test_added_steps_time_the_turn_to_their_own_spacing():
    ds, dense = synthetic.dataset(levels=(0.2, 0.8)), synthetic.dataset(levels=(0.2, 0.8), steps=range(500, 9000, 10))
    coarse = turning_steps.turns(ds)
    assert [one.run for one in coarse] == [0, 1, 2]  # those of the strong level never fall below one half
    assert all((one.klass, one.concept) == ("11", "color") for one in coarse)
    for one in coarse:
        assert one.spacing > 100 and np.isnan(one.zoomed)
        around = [step for step in range(500, 9000, 10) if abs(step - one.by_saves) <= 400]
        (fine,) = [turn for turn in turning_steps.turns(ds, dense.sel(step=around)) if turn.run == one.run]
        assert fine.zoomed_spacing <= 10 and dataclasses.replace(fine, zoomed=0, zoomed_spacing=0) == (
            dataclasses.replace(one, zoomed=0, zoomed_spacing=0)
        )
        curve = dense["prob"].sel(run=one.run, klass="11", concept="color", protocol="naive", step=around)
        assert float(curve.sel(step=fine.zoomed, method="nearest")) == float(curve.min())


def test_turns_are_printed_with_their_spacing():
    ds, dense = synthetic.dataset(levels=(0.2,)), synthetic.dataset(levels=(0.2,), steps=range(2500, 6000, 10))
    console = Console(width=120, record=True, file=io.StringIO())
    report.print_turns(turning_steps.turns(ds, dense.sel(run=[0])), console)
    lines = [line for line in console.export_text().splitlines() if " color " in line]
    assert len(lines) == 3 and "(every 10)" in lines[0] and lines[1].rstrip().endswith("-"), lines
    assert all("apart around it)" in line for line in lines)
    report.print_turns([], console)
    assert "No run turns" in console.export_text()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ReplayRequest(), "replay needs either --steps"),
        (ReplayRequest(steps=(3,), around="turn"), "replay needs either --steps"),
        (ReplayRequest(around="corner"), "around = 'corner': must be one of turn"),
        (ReplayRequest(around="turn", width=0), "width = 0: must be at least 1"),
        (ReplayRequest(around="turn", count=1), "count = 1: must be at least 2"),
        (ReplayRequest(steps=(7,)), "steps: 7 must be from 1 to optim.steps = 6"),
        (ReplayRequest(steps=(0,)), "steps: 0 must be from 1"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(request_, words, finished):
    with pytest.raises(UserError, match=words):
        preparation.check_replay(finished.workdir.root, request_)


@pytest.mark.parametrize(
    "change",
    [{"device_kind": "H100"}, {"xla_flags": "--other"}, {"versions": {"jax": "0.1", "jaxlib": "0.1"}}],
)
def test_another_machine_is_refused(change, finished, tmp_path):
    study = copied(finished, tmp_path)
    study.workdir.env.write_text(json.dumps(environment() | change))
    with pytest.raises(UserError, match=r"^replay: trained on .* this is cpu .* repeats bit for bit only on the same"):
        preparation.check_replay(study.workdir.root, ReplayRequest(steps=(3,)))
    with_earlier = environment() | change | {"earlier": [environment()]}  # the training was one of several commands
    study.workdir.env.write_text(json.dumps(with_earlier))
    preparation.check_replay(study.workdir.root, ReplayRequest(steps=(3,)))
    for damaged in ("{", json.dumps(environment() | {"earlier": None})):
        study.workdir.env.write_text(damaged)
        with pytest.raises(UserError, match=r"env.json is missing or damaged"):
            preparation.check_replay(study.workdir.root, ReplayRequest(steps=(3,)))


def test_a_kept_state_that_differs_is_noticed(finished, reader, tmp_path, capsys):
    study = copied(finished, tmp_path)
    folder, runner = study.waves[0].kept_folder, study.engine(study.waves[0])
    state = checkpoint.restore(folder, 2, runner.abstract_state())
    bias = next(i for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.dtype == np.float32)
    leaves, form = jax.tree.flatten(state)
    leaves[bias] = leaves[bias].at[1].add(1e-3)  # of run 1
    with checkpoint.CheckpointWriter(folder) as writer:
        writer.save(2, jax.tree.unflatten(form, leaves))
    replay.replay(study, reader, ReplayRequest(steps=(1, 3)))
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("differs from its first training at step 2") == 1
    exact = collect.added(study)["exact"]
    assert exact.sel(step=1).values.tolist() == [1, 1, 1, 1] and exact.sel(step=3).values.tolist() == [1, 0, 1, 1]


def test_steps_are_not_trained_where_there_are_no_results_to_add_them_to(finished, reader, tmp_path, monkeypatch):
    study = copied(finished, tmp_path)
    monkeypatch.setattr(Engine, "train", lambda *_: pytest.fail("trained"))
    study.workdir.dataset.unlink()
    with pytest.raises(UserError, match="has no results that steps could be added to; run --mode=eval first"):
        replay.replay(study, reader, ReplayRequest(steps=(3,)))


def test_what_was_not_trained_cannot_be_repeated(finished, reader, tmp_path):
    study = copied(finished, tmp_path)
    study.waves[0].eval_file(6).unlink()
    checkpoint.remove(study.waves[0].state_folder, 6)
    shutil.copytree(study.waves[0].kept_folder / "2", study.waves[0].state_folder / "2")  # stopped after step 2
    with pytest.raises(UserError, match="replay: step 4 is beyond the 2 steps that were trained"):
        replay.replay(study, reader, ReplayRequest(steps=(4,)))
    shutil.rmtree(study.workdir.checkpoints)
    with pytest.raises(UserError, match="holds no training to repeat; run --mode=train first"):
        replay.replay(study, reader, ReplayRequest(steps=(1,)))
