"""What is lost of a training log is said, and nothing is said of a log that is whole."""

import json
from types import SimpleNamespace

import pytest
import tiny
from etils import epath

from cspace_jax.pipeline import whole_log
from cspace_jax.storage import checkpoint
from cspace_jax.storage.metrics import append_metrics
from cspace_jax.storage.workdir import LOG_EVERY, Workdir


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A wave of two runs whose last state is that of step 250 of 1,000."""
    config = tiny.study(optim={"steps": 1000, "log_every": 50})
    workdir = Workdir(epath.Path(tmp_path))
    monkeypatch.setattr(checkpoint, "latest_step", lambda _: 250)
    wave = SimpleNamespace(rows=range(2), state_folder=None)
    return SimpleNamespace(config=config, workdir=workdir, waves=[wave])


def said(study, capsys, steps, spacings, runs=(0, 1)):
    study.workdir.metrics.unlink(missing_ok=True)
    append_metrics(study.workdir.metrics, [{"run": run, "step": step} for step in steps for run in runs])
    latest, *earlier = [{LOG_EVERY: spacing} if spacing else {} for spacing in spacings]
    study.workdir.env.write_text(json.dumps({**latest, "earlier": earlier}))
    whole_log.tell(study)
    return capsys.readouterr().out


def test_a_whole_log_is_not_spoken_of(study, capsys):
    assert not said(study, capsys, range(50, 251, 50), [50])
    assert not said(study, capsys, (100, 200), [50, 100])  # the spacing was changed after the kill
    assert not said(study, capsys, (), [400])  # no line was due
    assert not said(study, capsys, (), [50, 0])  # an older version did not write the spacing down


def test_a_log_without_its_end_is_said(study, capsys):
    assert "lines of run 0 up to step 250 are lost" in said(study, capsys, (50, 100, 150, 200), [50])
    assert "lines of run 1 up to step 250 are lost" in said(study, capsys, range(50, 251, 50), [50], runs=(0,))
    assert "lines of run 0 up to step 250 are lost" in said(study, capsys, (50, 100), [50, 100])


def test_the_last_step_is_always_logged(study, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, "latest_step", lambda _: 1000)
    assert not said(study, capsys, (1000,), [0])
    assert "up to step 1000 are lost" in said(study, capsys, (999,), [0])
