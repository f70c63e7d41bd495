"""A study with added runs: its parts, their numbers, and the configuration of what was evaluated."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
import tiny

import cspace_jax as cs
from cspace_jax.analysis import learning
from cspace_jax.config import GridConfig, to_dict
from cspace_jax.errors import UserError
from cspace_jax.pipeline import api, model
from cspace_jax.pipeline.replay import ReplayRequest
from cspace_jax.pipeline.study import Study
from cspace_jax.plots import figures
from cspace_jax.storage import extensions

ADDED = (GridConfig(seeds=(5, 6), sep_col=(0.5,)), GridConfig(seeds=(9,), sep_col=(0.2,)))


@pytest.fixture
def extended(study):
    extensions.write(study.workdir, extensions.Extensions(ADDED))
    return Study(study.config, study.workdir, study.plan)


def test_a_study_to_which_nothing_was_added_is_its_only_part(study):
    assert study.parts == [study] and study.first_runs == [0, 4] and study.steps == (2, 5, 6)


def test_added_runs_come_after_those_of_the_study(extended):
    assert extended.first_runs == [0, 4, 6, 7]
    assert [part.config.grid for part in extended.parts] == [extended.config.grid, *ADDED]
    folders = [part.workdir.root for part in extended.parts]
    assert folders == [extended.workdir.root, *(extended.workdir.extension(i).root for i in (0, 1))]
    assert all(part.plan is extended.plan for part in extended.parts)


@pytest.mark.parametrize(("runs", "parts"), [(4, 1), (5, 1), (6, 2), (7, 3), (9, 3)])
def test_parts_that_were_added_since_are_not_in_a_dataset(runs, parts, extended):
    found = extended.parts_in(SimpleNamespace(sizes={"run": runs}))
    assert found == extended.parts[:parts]


def test_what_was_evaluated_has_the_grid_and_the_steps_of_the_dataset(extended):
    stored = tiny.changed(extended.config, optim={"steps": 9}, save={"steps": (2, 5, 6, 9)})
    ds = synthetic.dataset(levels=(0.2, 0.8), seeds=(0, 1, 2), config=to_dict(stored))
    found = extended.as_evaluated(ds)
    assert (found.optim.steps, found.save.steps) == (9, (2, 5, 6, 9))
    assert set(found.grid.seeds) == {*extended.config.grid.seeds, 5, 6}  # not those of the last part
    assert set(found.grid.sep_col) == {*extended.config.grid.sep_col, 0.5}


def test_numbers_and_figures_show_the_definition_of_the_configuration(tmp_path, monkeypatch):
    synthetic.workdir(tmp_path / "a")
    stored = cs.open_study(tmp_path / "a")
    study = dataclasses.replace(stored, config=dataclasses.replace(stored.config, learned="first_80"))
    monkeypatch.setattr(figures, "draw", lambda name, inputs: learning.definition_of(inputs.ds))
    for one, definition in ((stored, "stays_80"), (study, "first_80")):
        assert one.summary()["learned"] == one.figure("fig4") == definition


def test_a_study_without_added_steps_says_how_to_add_some(study):
    with pytest.raises(cs.UserError, match=r"^added: no steps were added; study\.replay\(\(\.\.\.\)\) adds some$"):
        _ = study.added


@pytest.mark.parametrize("run", ["0", None, [0], 1.5, 1.0, True, np.True_])
def test_a_run_or_step_that_is_no_whole_number_is_one_line(run, study):
    with pytest.raises(UserError, match="run = .*: must be a whole number"):
        study.model(run=run)
    if run is not None:
        with pytest.raises(UserError, match="step = .*: must be a whole number"):
            study.model(step=run)


def test_a_model_has_plain_numbers_and_the_folder_of_its_study(study, monkeypatch):
    monkeypatch.setattr(model, "require_checkpoints", lambda *_: None)
    monkeypatch.setattr(model.checkpoint, "restore_run", lambda *_: {})
    found = study.model(run=np.int64(2), step=np.int32(5))
    assert (type(found.run), found.run, type(found.step), found.step) == (int, 2, int, 5)
    assert found.workdir == study.workdir.root and study.model(run=3).step == 6


@pytest.mark.parametrize(
    ("asked", "request_"),
    [
        ({"steps": 100}, ReplayRequest((100,))),
        ({"steps": np.array([3, 4])}, ReplayRequest((3, 4))),
        ({"steps": range(3, 5)}, ReplayRequest((3, 4))),
        ({"steps": [3.0, np.int64(4)]}, ReplayRequest((3, 4))),
        ({"around": "turn", "width": 8.0, "count": np.int32(3)}, ReplayRequest((), "turn", 8, 3)),
    ],
)
def test_steps_to_replay_become_plain_whole_numbers(asked, request_, study, monkeypatch):
    seen = []
    monkeypatch.setattr(api, "run", lambda *_, replay, **__: seen.append(replay))
    assert study.replay(**asked) is study and seen == [request_]
    assert all(type(step) is int for step in (*seen[0].steps, seen[0].width, seen[0].count))


@pytest.mark.parametrize(
    "asked",
    [
        *({"steps": steps} for steps in (None, "100", ("3",), (1.5,), (True,), (None,), ((3, 4),))),
        *({"around": "turn", "count": count} for count in ("3", 2.5, None)),
        {"around": "turn", "width": float("nan")},
        {"around": 1},
    ],
)
def test_steps_to_replay_of_a_wrong_type_are_one_line(asked, study):
    with pytest.raises(UserError, match=r"^(steps(\[0\])?|around|count|width) = .*: must be") as error:
        study.replay(**asked)
    assert "\n" not in str(error.value)
