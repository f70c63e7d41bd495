"""Evaluations and learning times in a log, as soon as they are there and after any kill."""

import io

import numpy as np
import pytest
import tiny
from events import events, measured, pictures, scalars
from logged import LABELS, evaluate
from PIL import Image

from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.config import grid, to_dict
from cspace_jax.data import concepts
from cspace_jax.pipeline import log_results, log_writers
from cspace_jax.storage.evaluations import write_npz
from cspace_jax.storage.pictures import sheet


def expected_of(study, evaluations, steps=None):
    settings, classes = grid.grid_settings(study.config.grid), concepts.classes(study.config.data.active)
    ds = build_dataset(Measurements(evaluations, settings, classes), to_dict(study.config))
    return [measured(ds, run, steps) for run in range(4)]


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


def test_without_a_log_nothing_is_written_or_read(study, evaluations, monkeypatch):
    monkeypatch.setattr(log_results, "read_evaluation", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(log_results, "numbers", lambda *_: pytest.fail("computed"))
    with log_writers.logging(study, None) as same:
        assert same is study
        evaluate(same, evaluations, 2)
        log_results.begin(same, same.waves[0], 6)
        log_results.finish(same, same.waves[0])
    assert [path.name for path in study.workdir.root.iterdir()] == ["eval"]
