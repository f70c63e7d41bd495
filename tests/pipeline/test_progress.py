"""How long a step takes, as the calls before tell."""

import pytest

from cspace_jax.pipeline import progress


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
