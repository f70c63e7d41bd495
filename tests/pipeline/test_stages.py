"""The stages of a study: waves, interruptions at any step, lost files, runs that diverge, a disk that fills up."""

import os
import pathlib
import shutil
import signal
import subprocess

import numpy as np
import pytest
import tiny
from etils import epath
from events import measured, pictures, scalars
from kills import Killed, killed_at
from tiny import copy_of, logged, probe_of

from cspace_jax import stopping
from cspace_jax.config.plan import Plan
from cspace_jax.cost import fit, memory
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.pipeline import evaluate as evaluating
from cspace_jax.pipeline import log_writers, online_evaluation, planning, preparation
from cspace_jax.pipeline import waves as study_waves
from cspace_jax.pipeline.collect import collect
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.progress import Recorder
from cspace_jax.pipeline.train import train
from cspace_jax.storage import checkpoint, results
from cspace_jax.storage.metrics import read_metrics
from cspace_jax.storage.workdir import Workdir

# Studies are trained, or programs compiled, by the dozen.
pytestmark = pytest.mark.system
CONFIG = tiny.study(network=tiny.NARROW, diffusion={"schedule": "fixed_linear"}, optim={"clip": 1.0})
SAVES = (2, 5, 6)


@pytest.fixture(scope="module")
def reader():
    """A probe that was never trained: here only the same numbers count."""
    return probe_of(CONFIG)


def carry_out(root, config, reader):
    """Train, evaluate and collect in a workdir; return it."""
    workdir = Workdir(epath.Path(root))
    workdir.root.mkdir(exist_ok=True)
    train(tiny.in_workdir(workdir, config), reader)
    evaluate(tiny.in_workdir(workdir, config), reader)
    tiny.collected(workdir, config)
    return workdir


@pytest.fixture(scope="module")
def finished(tmp_path_factory, reader):
    return carry_out(tmp_path_factory.mktemp("work") / "w", CONFIG, reader)


def snapshot(workdir):
    """Every file of a workdir with its time of change and content."""
    files = [path for path in pathlib.Path(workdir.root).rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_what_is_compared_depends_on_the_images(finished):
    names, *rows = (line.split(",") for line in finished.table.read_text().splitlines())
    probabilities = [row[names.index("prob")] for row in rows]
    assert len(set(probabilities)) > len(probabilities) / 2


def assert_equals_finished(workdir, finished):
    assert workdir.table.read_bytes() == finished.table.read_bytes()
    assert logged(workdir) == logged(finished)


def test_metrics_have_each_run_and_logged_step_with_its_setting(finished):
    rows = logged(finished)
    assert set(rows) == {(run, step) for run in range(4) for step in (2, 4, 6)}
    assert (rows[3, 4]["seed"], rows[3, 4]["sep_col"]) == (7, 0.8)
    fields = {"loss", "diffusion", "latent", "reconstruction", "grad_norm", "grad_median", "schedule_b", "schedule_w"}
    assert all(fields <= row.keys() and np.isfinite([row[name] for name in fields]).all() for row in rows.values())


def test_evaluations_and_results_are_complete(finished):
    with np.load(finished.eval / "wave_000" / "step_00000005.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            "prob_samples": (4, 1, 4, 2, 2),
            "mean_rgb": (4, 1, 4, 3),
            "samples": (4, 4, 1, 8, 8, 3),
            "schedule_b": (4,),
            "schedule_w": (4,),
            "loss": (4, 2, 4),
            "embedding_cosine": (4, 4, 4, 4),
            "embedding_classes": (4, 1, 16),
            "written_as": (),
        }
        assert arrays["written_as"] == "eval/wave_000/step_00000005.npz"
        assert np.isfinite(arrays["loss"]).all() and (arrays["schedule_w"] == 15).all()
    assert checkpoint.steps(finished.checkpoints / "wave_000" / "params") == list(SAVES)
    assert checkpoint.steps(finished.checkpoints / "wave_000" / "state") == [6]
    assert len(finished.table.read_text().splitlines()) == 1 + 4 * 3 * 4 * 2


def test_results_hold_embeddings_unless_an_older_version_evaluated(finished, tmp_path):
    ds = collect(tiny.in_workdir(finished, CONFIG))
    assert ds["embedding_cosine"].dims == ("run", "step", "block", "vector", "other")
    assert ds["block"].values.tolist() == ["down_0_block_0", "mid_block_0", "mid_block_1", "up_0_block_0"]
    to_last = ds["embedding_to_last"].sel(klass="11")
    np.testing.assert_allclose(to_last.sel(step=6), 1.0, rtol=1e-6)
    assert (to_last.sel(step=2) < 1.0).any()
    workdir = copy_of(finished, tmp_path)
    path = workdir.eval / "wave_000" / "step_00000002.npz"
    with np.load(path) as stored:
        older = {name: stored[name] for name in stored if not name.startswith("embedding")}
    np.savez(path, **older)
    older = collect(tiny.in_workdir(workdir, CONFIG))
    assert "embedding_cosine" not in older and older["prob"].equals(ds["prob"])


def test_a_second_start_changes_nothing(finished, reader):
    before = snapshot(finished)
    train(tiny.in_workdir(finished, CONFIG))
    evaluate(tiny.in_workdir(finished, CONFIG), reader)
    assert snapshot(finished) == before


@pytest.mark.parametrize("wave", [1, 3])
def test_waves_give_the_same_results(wave, finished, reader, workdir):
    config = tiny.changed(CONFIG, engine={"wave": wave})
    carry_out(workdir.root, config, reader)
    assert len(list(workdir.checkpoints.iterdir())) == -(-4 // wave)
    assert_equals_finished(workdir, finished)


def test_states_are_saved_seldom_and_what_follows_the_last_is_trained_again(monkeypatch, finished, reader, workdir):
    config = tiny.changed(CONFIG, engine={"state_seconds": 1e9, "steps_per_call": 1})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Engine, "train", 5)  # in the last of the calls
        train(tiny.in_workdir(workdir, config))
    wave = workdir.checkpoints / "wave_000"
    assert checkpoint.steps(wave / "params") == [2, 5] and not checkpoint.steps(wave / "state")
    carry_out(workdir.root, config, reader)
    assert_equals_finished(workdir, finished)
    assert checkpoint.steps(wave / "state") == [6]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_training_stopped_in_any_call_goes_on_to_the_same_results(number, monkeypatch, finished, reader, workdir):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Engine, "train", number)
        train(tiny.in_workdir(workdir, CONFIG))
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)


@pytest.mark.parametrize("number", [0, 1, 4])  # parameters and state of the three saves, in turn
def test_training_stopped_before_any_save_goes_on_to_the_same_results(number, monkeypatch, finished, reader, workdir):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, checkpoint.CheckpointWriter, "save", number)
        train(tiny.in_workdir(workdir, CONFIG))
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)


@pytest.mark.parametrize("step", [1, 3, 5])  # before the first save, between two, at one
def test_training_that_is_asked_to_end_saves_the_state_of_its_step(step, monkeypatch, finished, reader, workdir):
    config = tiny.changed(CONFIG, engine={"state_seconds": 1000.0, "steps_per_call": 1})
    asked: list[int] = []

    def advance(self, state, done, count, train=Engine.train):
        if done + count >= step:
            asked.append(signal.SIGTERM)
        return train(self, state, done, count)

    with monkeypatch.context() as patch, pytest.raises(stopping.Stopped) as stopped:
        patch.setattr(stopping, "_asked", asked)
        patch.setattr(Engine, "train", advance)
        train(tiny.in_workdir(workdir, config))
    assert stopped.value.code == 143 and str(stopped.value).startswith("SIGTERM: ended; the same command goes on")
    assert checkpoint.steps(workdir.checkpoints / "wave_000" / "state") == [step]
    assert {row["step"] for row in read_metrics(workdir.metrics)} == {s for s in (2, 4) if s <= step}
    carry_out(workdir.root, config, reader)
    assert_equals_finished(workdir, finished)


def test_a_state_on_disk_has_all_metrics_before_it(monkeypatch, finished, reader, workdir):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Recorder, "__exit__", 0)  # after the last state is complete
        train(tiny.in_workdir(workdir, CONFIG))
    assert checkpoint.latest_step(workdir.checkpoints / "wave_000" / "state") == 6
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)


@pytest.mark.parametrize("number", [0, 2])
def test_evaluation_stopped_at_any_checkpoint_goes_on(number, monkeypatch, finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.eval)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, evaluating, "write_npz", number)
        evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    assert len(list(workdir.eval.glob("*/*.npz"))) == number
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)


def test_a_lost_checkpoint_is_trained_again_unless_it_was_evaluated(finished, reader, tmp_path, capsys):
    workdir = copy_of(finished, tmp_path)
    checkpoint.remove(workdir.checkpoints / "wave_000" / "params", 5)
    before = snapshot(workdir)
    carry_out(workdir.root, CONFIG, reader)
    assert {k: v for k, v in snapshot(workdir).items() if "concept_space" not in k} == {
        k: v for k, v in before.items() if "concept_space" not in k
    }
    (workdir.eval / "wave_000" / "step_00000005.npz").unlink()
    with pytest.raises(UserError, match="params/5 is missing; run --mode=train first"):
        evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    carry_out(workdir.root, CONFIG, reader)
    assert "params/5 is missing: training starts again from step 0" in capsys.readouterr().out
    assert_equals_finished(workdir, finished)


def test_a_damaged_checkpoint_is_one_line_and_can_be_put_right(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    folder = workdir.checkpoints / "wave_000" / "params" / "2"
    for file in pathlib.Path(folder).rglob("*"):
        if file.is_file() and file.stat().st_size > 100:
            os.truncate(file, file.stat().st_size // 2)
    (workdir.eval / "wave_000" / "step_00000002.npz").unlink()
    with pytest.raises(UserError, match=r"params/2.*damaged|params/2 is missing"):
        evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    shutil.rmtree(folder)
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)


def test_a_damaged_evaluation_names_the_file(finished, tmp_path):
    workdir = copy_of(finished, tmp_path)
    file = workdir.eval / "wave_000" / "step_00000002.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="step_00000002.npz cannot be read .*delete the file"):
        collect(tiny.in_workdir(workdir, CONFIG))


def test_a_run_that_diverges_is_reported_once_and_the_others_stay(reader, workdir, finished, capsys):
    config = tiny.changed(CONFIG, grid={"learning_rate": (1e-3, 1e30)})
    carry_out(workdir.root, config, reader)
    out = capsys.readouterr().out
    broken = [2, 3, 6, 7]  # the learning rate varies faster than the signal, the seed fastest
    assert [out.count(f"run {run} diverged") for run in range(8)] == [int(run in broken) for run in range(8)]
    ds = results.open_results(workdir.root)
    assert ds["status"].values.tolist() == ["diverged" if run in broken else "ok" for run in range(8)]
    kept = results.open_results(finished.root)
    np.testing.assert_array_equal(ds["prob"].values[[0, 1, 4, 5]], kept["prob"].values)
    rows = logged(workdir)
    assert rows[2, 6]["loss"] is None and np.isfinite(rows[0, 6]["loss"])


def test_a_full_disk_is_one_line_and_training_goes_on_when_there_is_space(tmp_path, finished, reader):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(UserError, match="cannot be written|cannot write"):
            carry_out(disk / "w", CONFIG, reader)
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        assert_equals_finished(carry_out(disk / "w", CONFIG, reader), finished)
    finally:
        subprocess.run(["umount", disk], check=True)


def keeping(*steps, keep="last"):
    return tiny.changed(CONFIG, save={"keep": keep, "keep_steps": steps})


@pytest.mark.parametrize(("config", "kept"), [(keeping(), [6]), (keeping(2), [2, 6])])
def test_saves_that_are_not_kept_are_evaluated_in_passing_with_the_same_results(
    config, kept, finished, reader, workdir
):
    carry_out(workdir.root, config, reader)
    assert checkpoint.steps(workdir.checkpoints / "wave_000" / "params") == kept
    assert_equals_finished(workdir, finished)
    ours, theirs = ({p.name: p.read_bytes() for p in w.eval.glob("*/*.npz")} for w in (workdir, finished))
    assert ours == theirs and len(ours) == 3


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        *((online_evaluation, "write_npz", number) for number in (0, 1)),  # before an evaluation is written
        *((checkpoint.CheckpointWriter, "save", number) for number in (0, 1, 2)),  # two states, the last parameters
        (Engine, "train", 2),
    ],
)
def test_training_that_reads_in_passing_stopped_anywhere_goes_on(
    owner, name, number, monkeypatch, finished, reader, workdir
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, owner, name, number)
        train(tiny.in_workdir(workdir, keeping()), reader)
    carry_out(workdir.root, keeping(), reader)
    assert_equals_finished(workdir, finished)
    assert checkpoint.steps(workdir.checkpoints / "wave_000" / "params") == [6]


def test_a_log_gets_what_is_evaluated_in_passing_while_it_trains(monkeypatch, finished, reader, workdir):
    def start():
        with log_writers.logging(tiny.in_workdir(workdir, keeping()), "tensorboard") as study:
            train(study, reader)
            evaluate(study, reader)

    def killed(self, state, step, count, advance=Engine.train):
        if step == 5:
            raise Killed
        return advance(self, state, step, count)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Engine, "train", killed)
        start()
    ds, folders = results.open_results(finished.root), sorted((workdir.root / "tensorboard").iterdir())

    def of_results(folder):
        return {key: value for key, value in scalars(folder).items() if not key[0].startswith("train/")}

    for run, folder in enumerate(folders):
        assert of_results(folder) == measured(ds, run, (2, 5)) and pictures(folder) == [2, 5]
    for _ in range(2):  # goes on; and is finished
        start()
        for run, folder in enumerate(folders):
            assert of_results(folder) == measured(ds, run) and pictures(folder) == [2, 5, 6]
            assert {step for name, step in scalars(folder) if name == "train/loss"} == {2, 4, 6}
    tiny.collected(workdir, keeping())
    assert_equals_finished(workdir, finished)


def test_what_is_kept_already_is_never_removed(monkeypatch, finished, reader, workdir):
    everything = tiny.changed(CONFIG, save={"keep": "all", "keep_states": (2,)}, engine={"steps_per_call": 1})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, Engine, "train", 5)  # after the save of step 5
        train(tiny.in_workdir(workdir, everything))
    carry_out(workdir.root, keeping(), reader)  # goes on, and would keep the last save alone
    wave = study_waves.load(workdir, CONFIG)[0]
    assert checkpoint.steps(wave.params_folder) == list(SAVES)
    assert (checkpoint.steps(wave.kept_folder), checkpoint.steps(wave.state_folder)) == ([2], [6])
    assert_equals_finished(workdir, finished)


def test_a_finished_study_stays_finished_when_its_checkpoints_are_removed(monkeypatch, finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.checkpoints)
    monkeypatch.setattr(Engine, "train", lambda *_: pytest.fail("trained again"))
    carry_out(workdir.root, CONFIG, reader)
    assert_equals_finished(workdir, finished)
    (workdir.eval / "wave_000" / "step_00000002.npz").unlink()  # now it is not finished
    assert study_waves.load(workdir, CONFIG)[0].trained_steps(CONFIG) == 0


def within(runs, config=CONFIG):
    """The study on a machine whose memory just holds that many runs."""
    plan = Plan.resolve(config, "cpu")
    peak = memory.peak_bytes(memory.outline(config, plan), memory.here(config, plan), runs)
    return tiny.changed(config, engine={"memory_gb": 1.001 * fit.MARGIN * peak / memory.GB})


def test_runs_go_in_waves_where_memory_does_not_hold_them_and_a_begun_workdir_keeps_them(finished, reader, tmp_path):
    config = within(2)
    study = preparation.prepare(config, tmp_path / "w", "all")
    assert study.plan.wave == 2 and "4 runs in 2 waves of at most 2 (" in planning.describe(study)
    study_waves.record(study.workdir, config, study.plan.wave, 1)
    study.workdir.checkpoints.mkdir()  # begun, nothing trained
    with pytest.raises(UserError, match=r"^waves of workdir .*/w: 2 runs at once are predicted .*; a device with more"):
        preparation.prepare(within(1), tmp_path / "w", "all")
    assert preparation.prepare(CONFIG, tmp_path / "w", "all").plan.wave == 2
    assert_equals_finished(carry_out(tmp_path / "w", config, reader), finished)
    assert [len(wave.rows) for wave in study.waves] == [2, 2]
    # Nothing is left to train: memory does not matter.
    preparation.prepare(within(1), tmp_path / "w", "all")


def test_on_a_cpu_the_cache_decides_and_nothing_is_kept(finished):
    assert study_waves.load(finished, CONFIG)[0].microbatch is None
