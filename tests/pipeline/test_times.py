"""Wall time of stages: added up over all starts, kept after failures, begun anew where the file is damaged."""

import json
import time

import pytest

from cspace_jax import processes
from cspace_jax.errors import UserError
from cspace_jax.pipeline import times


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def spend(workdir, clock, stage, seconds, error=None):
    with times.Times(workdir).measure(stage):
        clock[0] += seconds
        if error:
            raise error


def stored(workdir):
    return json.loads(workdir.times.read_text())


def test_the_time_of_all_starts_is_added_up(workdir, clock):
    spend(workdir, clock, "train", 2.5)
    spend(workdir, clock, "evaluate", 1.25)
    spend(workdir, clock, "train", 4.0)
    assert stored(workdir) == {"train": 6.5, "evaluate": 1.2}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_fails_or_is_interrupted_has_taken_its_time(error, workdir, clock):
    with pytest.raises(error):
        spend(workdir, clock, "train", 3.0, error)
    assert stored(workdir) == {"train": 3.0}


def test_the_error_of_a_stage_is_told_and_not_that_its_time_cannot_be_written(workdir, clock, monkeypatch):
    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(times, "write_atomic", full)
    with pytest.raises(ZeroDivisionError):
        spend(workdir, clock, "train", 3.0, ZeroDivisionError)
    with pytest.raises(UserError, match="no space"):
        spend(workdir, clock, "train", 3.0)


@pytest.mark.parametrize("text", ["{", "[1]", '{"train": "long"}', '{"train": null}', "3"])
def test_a_damaged_file_begins_anew(text, workdir, clock):
    workdir.times.write_text(text)
    spend(workdir, clock, "train", 1.0)
    assert stored(workdir) == {"train": 1.0}


def test_of_many_processes_the_first_writes(workdir, clock, monkeypatch):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    spend(workdir, clock, "train", 1.0)
    assert not workdir.times.exists()
