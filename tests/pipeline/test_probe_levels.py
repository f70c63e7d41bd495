"""Whether the probe reads every level of a study: what is asked, what is kept, what is refused."""

import json

import pytest
import tiny

from cspace_jax.errors import UserError
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.pipeline import probe_levels
from cspace_jax.pipeline.probe import Probe

SPEC = ProbeSpec.from_config(tiny.study())
PROBE = Probe(SPEC, {}, {"hash": "0123"})


@pytest.fixture
def strict(workdir):
    return tiny.in_workdir(workdir, tiny.study(probe={"min_accuracy": 0.9}))


@pytest.fixture
def measured(monkeypatch):
    """What is measured of each level; a list that says how often."""
    asked = []

    def measure(study, probe, levels):
        asked.append(levels)
        means = [{"color": 0.95, "size": 1.0}, {"color": 0.99, "size": 0.85}]
        return [{"setting": level, "means": one} for level, one in zip(levels, means, strict=True)]

    monkeypatch.setattr(probe_levels, "_measure", measure)
    return asked


def test_each_level_is_asked_once_whatever_its_seeds(strict, measured):
    with pytest.raises(UserError):
        probe_levels.check(strict, PROBE)
    ((first, second),) = measured  # four runs
    assert (first["sep_col"], second["sep_col"]) == strict.config.grid.sep_col
    assert list(first) == ["sep_col", "sep_size", "sep_bg"]


def test_the_worst_concept_of_all_levels_is_named_with_its_level(strict, measured):
    level = f"sep_col={strict.config.grid.sep_col[1]:g}, sep_size={strict.config.grid.sep_size[0]:g}, "
    with pytest.raises(UserError, match=f"^probe.min_accuracy = 0.9: at {level}.* reads size with .* of 0.8500 only; "):
        probe_levels.check(strict, PROBE)


def test_where_nothing_would_be_refused_nothing_is_measured(workdir, measured):
    probe_levels.check(tiny.in_workdir(workdir, tiny.study(probe={"min_accuracy": 0.0})), PROBE)
    assert not measured


@pytest.mark.parametrize("text", [None, "[", "3", '[{"setting": {}}]', '[{"means": {}}]'])
def test_what_was_measured_is_kept_and_a_damaged_file_measured_anew(text, strict, measured):
    levels = probe_levels._levels(strict)
    file = probe_levels._file(strict, PROBE, levels)
    file.parent.mkdir(parents=True)
    good = [{"setting": level, "means": {"color": 0.9, "size": 0.99}} for level in levels]
    file.write_text(json.dumps(good) if text is None else text)
    if text is None:
        probe_levels.check(strict, PROBE)
        assert not measured
    else:
        with pytest.raises(UserError, match="0.8500"):
            probe_levels.check(strict, PROBE)
        assert len(measured) == 1


def test_another_probe_and_other_levels_have_a_file_of_their_own(strict):
    levels = probe_levels._levels(strict)
    files = {
        probe_levels._file(strict, one, some)
        for one in (PROBE, Probe(SPEC, {}, {"hash": "4567"}))
        for some in (levels, levels[:1])
    }
    assert len(files) == 4
