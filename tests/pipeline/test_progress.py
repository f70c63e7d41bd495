"""How long a step takes, as the calls before tell; the rows of the log that earlier starts wrote."""

import numpy as np
import pytest
import tiny
from tiny import logged

from cspace_jax.pipeline import progress
from cspace_jax.pipeline import waves as study_waves
from cspace_jax.pipeline.progress import Recorder
from cspace_jax.storage.metrics import append_metrics
from cspace_jax.storage.workdir import Workdir
from cspace_jax.training.run import StepMetrics


def test_calls_are_as_long_as_the_last_one_allows(monkeypatch):
    clock = iter([10.0, 14.0, 14.5, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    pace = progress.Pace()
    assert pace.steps_in(5.0) == 1  # nothing is known
    pace.ended(6)
    assert pace.steps_in(5.0) == 1  # from when that call ran is not known: it was compiled first
    pace.ended(8)  # two steps in four seconds
    assert pace.steps_in(5.0) == 2
    pace.ended(13)  # a tenth of a second each
    assert pace.steps_in(5.0) == pytest.approx(50, abs=1)
    pace.ended(14)
    assert pace.steps_in(5.0) == 1


def test_of_rows_that_two_starts_of_a_process_logged_the_later_counts(monkeypatch, workdir):
    """One of many processes has a part of its own, beside what was merged."""
    part = workdir.root / "metrics.part_000.jsonl"
    append_metrics(part, [{"run": 1, "step": step, "loss": 2.0} for step in (6, 4)])
    append_metrics(workdir.metrics, [{"run": run, "step": step, "loss": 1.0} for step in (2, 4, 8) for run in (1, 0)])
    monkeypatch.setattr(Workdir, "own_metrics", part)
    study = tiny.in_workdir(workdir, tiny.study())
    rows = progress.earlier_metrics(study, study.waves[0], 6)
    found = [(row["step"], row["run"], row["loss"]) for row in rows]
    assert found == [(2, 0, 1.0), (2, 1, 1.0), (4, 0, 1.0), (4, 1, 2.0), (6, 1, 2.0)]


CONFIG = tiny.study(network=tiny.NARROW, diffusion={"schedule": "fixed_linear"}, optim={"clip": 1.0})


def test_metrics_are_written_a_call_late_and_at_logged_steps_only(workdir):
    wave = study_waves.load(workdir, CONFIG)[0]
    names = StepMetrics.__dataclass_fields__

    def metrics(step):
        return [StepMetrics(**{name: np.full(1, 10.0 * r + step, np.float32) for name in names}) for r in range(4)]

    def steps():
        return sorted({step for _, step in logged(workdir)})

    with Recorder(tiny.in_workdir(workdir, CONFIG), wave, 0) as recorder:
        recorder.advance(2, metrics(2))
        assert steps() == []
        recorder.advance(3, metrics(3))
        assert steps() == [2]
        recorder.advance(4, metrics(4))
        recorder.flush()
        assert steps() == [2, 4]
        recorder.advance(6, metrics(6))
    assert steps() == [2, 4, 6]
    assert logged(workdir)[3, 4]["loss"] == 34.0
