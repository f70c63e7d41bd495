"""Training that starts again from step 0: what was measured of the earlier one is set aside, once and in one piece."""

import pathlib
import shutil

import numpy as np
import pytest
import tiny
from etils import epath
from kills import Killed
from tiny import copy_of, probe_of

from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.pipeline import elicit
from cspace_jax.pipeline.evaluate import evaluate
from cspace_jax.pipeline.train import train
from cspace_jax.storage import checkpoint, superseded
from cspace_jax.storage.evaluations import write_npz
from cspace_jax.storage.metrics import read_metrics
from cspace_jax.storage.workdir import Workdir

# Studies are trained, or programs compiled, by the dozen.
pytestmark = pytest.mark.system
CONFIG = tiny.study(
    network=tiny.NARROW,
    diffusion={"schedule": "fixed_linear"},
    optim={"clip": 1.0},
    elicit={"protocols": ("overprompt",), "overprompt": (1.0,), "samples": 2},
)
PASSING = tiny.changed(CONFIG, save={"keep": "last"}, engine={"steps_per_call": 1, "state_seconds": 1e6})


@pytest.fixture(scope="module")
def reader():
    return probe_of(CONFIG)


def carry_out(workdir, config, reader):
    study = tiny.in_workdir(workdir, config)
    train(study, reader)
    evaluate(study, reader)
    elicit.ask(study, reader)
    tiny.collected(workdir, config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, reader):
    workdir = Workdir(epath.Path(tmp_path_factory.mktemp("work")))
    carry_out(workdir, CONFIG, reader)
    return workdir


def measured(root):
    """Content of the files of evaluations, answers and added steps below a folder, by name."""
    root = pathlib.Path(root)
    files = [file for part in ("eval", "elicit", "replay") for file in (root / part).rglob("*.npz")]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


@pytest.fixture
def lost(finished, tmp_path):
    """A study without its checkpoints, and an evaluation short, whose files hold what no training here gives."""
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.checkpoints)
    folder = workdir.eval / "wave_000"
    (folder / "step_00000006.npz").unlink()
    with np.load(folder / "step_00000002.npz") as arrays:
        other = {name: array + 0.125 if name == "prob_samples" else array for name, array in arrays.items()}
    write_npz(folder / "step_00000002.npz", other)
    write_npz(workdir.replay / "run_00001" / "step_00000003.npz", {"exact": np.array([True])})
    write_npz(workdir.replay / "run_00001" / "0123456789ab" / "step_00000003.npz", {"exact": np.array([True])})
    return workdir


def test_a_study_whose_checkpoints_are_lost_is_that_of_a_new_one(finished, lost, reader, capsys):
    before, logged = measured(lost.root), read_metrics(lost.metrics)
    carry_out(lost, CONFIG, reader)
    (folder,) = pathlib.Path(lost.aside).iterdir()
    said = [line for line in capsys.readouterr().out.splitlines() if "starts again" in line]
    assert said == [f"training of wave_000 starts again: what was measured of the earlier one is kept in {folder}"]
    assert len(before) == 8 and measured(folder) == before  # 2 evaluations, 4 answers, 2 added steps
    assert measured(lost.root) == measured(finished.root)
    assert lost.table.read_bytes() == finished.table.read_bytes()
    assert logged and read_metrics(folder / "metrics_wave_000.jsonl") == logged
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 8 + 1
    now = measured(lost.root)
    shutil.rmtree(lost.checkpoints / "wave_000" / "state")  # lost later, with every evaluation there: nothing to train
    carry_out(lost, CONFIG, reader)
    assert measured(lost.root) == now and len(list(lost.aside.iterdir())) == 1


def test_a_single_lost_checkpoint_sets_aside_what_stood_beside_it(finished, reader, tmp_path, capsys):
    workdir = copy_of(finished, tmp_path)
    checkpoint.remove(workdir.checkpoints / "wave_000" / "params", 5)
    (workdir.eval / "wave_000" / "step_00000005.npz").unlink()
    before = measured(workdir.root)
    carry_out(workdir, CONFIG, reader)
    assert "params/5 is missing: training starts again from step 0" in capsys.readouterr().out
    (folder,) = workdir.aside.iterdir()
    assert measured(folder) == before and measured(workdir.root) == measured(finished.root)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_kill_between_two_moves_leaves_one_folder(number, finished, lost, reader, monkeypatch):
    before = measured(lost.root)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        replace, calls = type(lost.root).replace, []

        def killed(path, target):
            if path.suffix == ".npz":
                calls.append(path)
                if len(calls) > number:
                    raise Killed
            return replace(path, target)

        patch.setattr(type(lost.root), "replace", killed)
        train(tiny.in_workdir(lost, CONFIG), reader)
    (folder,) = lost.aside.iterdir()
    assert len(measured(folder)) == number and {**measured(lost.root), **measured(folder)} == before
    carry_out(lost, CONFIG, reader)
    assert list(lost.aside.iterdir()) == [folder] and measured(folder) == before
    assert measured(lost.root) == measured(finished.root)


@pytest.mark.parametrize(("number", "measurements"), [(1, 0), (5, 4)])  # steps before the kill, files of saves 2 and 5
def test_a_training_that_is_resumed_keeps_what_it_measured_itself(number, measurements, reader, tmp_path, monkeypatch):
    workdir = Workdir(epath.Path(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        advance, calls = Engine.train, []

        def killed(*arguments):
            calls.append(arguments)
            if len(calls) > number:
                raise Killed
            return advance(*arguments)

        patch.setattr(Engine, "train", killed)
        train(tiny.in_workdir(workdir, PASSING), reader)
    assert checkpoint.steps(workdir.checkpoints / "wave_000" / "state") == []  # it starts from step 0 once more
    files = list(pathlib.Path(workdir.root).rglob("step_*.npz"))
    assert len(files) == measurements
    times = {file: file.stat().st_mtime_ns for file in files}
    carry_out(workdir, PASSING, reader)
    assert {file: file.stat().st_mtime_ns for file in files} == times
    assert not workdir.aside.exists() and not (workdir.checkpoints / "wave_000" / "no_state_yet").exists()


def test_what_was_set_aside_twice_with_the_same_content_is_there_once(tmp_path):
    workdir = Workdir(epath.Path(tmp_path))
    file = workdir.eval / "wave_000" / "step_00000002.npz"
    folders = []
    for value in (1, 1, 2):
        write_npz(file, {"a": np.full(3, value)})
        folders += superseded.set_aside(workdir, "wave_000", [file])
        assert not file.exists() and superseded.set_aside(workdir, "wave_000", []) == []
    assert folders[0] == folders[1] != folders[2]
    assert [np.load(folder / "eval" / "wave_000" / file.name)["a"][0] for folder in folders[1:]] == [1, 2]


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/wave_000/state"])
def test_a_finished_study_whose_checkpoints_were_removed_is_left_alone(part, finished, reader, tmp_path, capsys):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.root / part)
    before = {file: file.read_bytes() for file in pathlib.Path(workdir.root).rglob("*") if file.is_file()}
    train(tiny.in_workdir(workdir, CONFIG), reader, again=False)
    (said,) = capsys.readouterr().out.splitlines()
    assert "nothing is trained again" in said and ("further protocols" in said) == (part == "checkpoints")
    assert {file: file.read_bytes() for file in pathlib.Path(workdir.root).rglob("*") if file.is_file()} == before


def test_states_that_were_removed_before_all_is_read_are_not_missed(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.checkpoints / "wave_000" / "state")
    shutil.rmtree(workdir.eval)
    carry_out(workdir, CONFIG, reader)
    assert measured(workdir.root) == measured(finished.root)
    assert workdir.metrics.read_bytes() == finished.metrics.read_bytes()  # with the speeds of the first training


def test_training_again_is_asked_for_and_never_assumed(lost, reader):
    before = {file: file.read_bytes() for file in pathlib.Path(lost.root).rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="wave_000 was trained, .*--mode=train trains it again from step 0"):
        train(tiny.in_workdir(lost, CONFIG), reader, again=False)
    assert {file: file.read_bytes() for file in pathlib.Path(lost.root).rglob("*") if file.is_file()} == before


def empty(folder):
    for file in pathlib.Path(folder).rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def test_a_log_alone_tells_that_a_study_was_trained_and_is_kept(finished, reader, tmp_path):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.checkpoints)
    shutil.rmtree(workdir.eval)
    log = workdir.metrics.read_bytes()
    with pytest.raises(UserError, match="was trained, but its states to go on from are gone: --mode=train trains it"):
        train(tiny.in_workdir(workdir, CONFIG), reader, again=False)
    assert workdir.metrics.read_bytes() == log and not workdir.aside.exists()
    train(tiny.in_workdir(workdir, CONFIG), reader)
    (folder,) = workdir.aside.iterdir()
    assert read_metrics(folder / "metrics_wave_000.jsonl") == read_metrics(finished.metrics)


def test_a_training_again_that_was_killed_at_once_goes_on_without_being_asked_for_again(
    finished, reader, tmp_path, monkeypatch
):
    workdir = copy_of(finished, tmp_path)
    shutil.rmtree(workdir.checkpoints)
    shutil.rmtree(workdir.eval)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Engine, "train", killed)
        train(tiny.in_workdir(workdir, CONFIG), reader)
    train(tiny.in_workdir(workdir, CONFIG), reader, again=False)
    assert len(list(workdir.aside.iterdir())) == 1
    ours, theirs = (
        [{**row, "steps_per_second": 0} for row in read_metrics(one.metrics)] for one in (workdir, finished)
    )
    assert ours == theirs


def test_newest_parameters_that_a_power_cut_emptied_are_put_aside_and_made_again(finished, reader, tmp_path, capsys):
    workdir = copy_of(finished, tmp_path)
    params = workdir.checkpoints / "wave_000" / "params"
    empty(params / "6")
    (workdir.eval / "wave_000" / "step_00000006.npz").unlink()
    train(tiny.in_workdir(workdir, CONFIG), reader, again=False)
    assert "params/6 is damaged: it is put aside as 6.damaged" in capsys.readouterr().out
    assert (params / "6.damaged").exists() and checkpoint.steps(params) == [2, 5, 6]
    evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    assert measured(workdir.root) == measured(finished.root)


def test_a_newest_state_that_a_power_cut_emptied_gives_way_to_the_one_before(finished, reader, tmp_path, capsys):
    workdir = Workdir(epath.Path(tmp_path / "two"))
    workdir.root.mkdir()
    two = tiny.changed(CONFIG, save={"keep_states": (5,)})
    train(tiny.in_workdir(workdir, two), reader)
    wave = workdir.checkpoints / "wave_000"
    shutil.move(wave / "kept_states" / "5", wave / "state" / "5")  # as between a save and the removal of the last
    empty(wave / "state" / "6")
    empty(wave / "params" / "6")
    train(tiny.in_workdir(workdir, CONFIG), reader, again=False)
    assert capsys.readouterr().out.count("is put aside") == 2
    assert checkpoint.steps(wave / "state") == [6] and (wave / "state" / "6.damaged").exists()
    evaluate(tiny.in_workdir(workdir, CONFIG), reader)
    evaluations = {name: data for name, data in measured(finished.root).items() if name.startswith("eval")}
    assert measured(workdir.root) == evaluations
