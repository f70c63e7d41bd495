"""The cache of the probe: where it lies, and accuracies that are refused."""

import math

import pytest
import tiny

from cspace_jax.errors import UserError
from cspace_jax.pipeline import probe_cache


def test_the_file_is_named_after_what_decides_the_probe(study, tmp_path):
    own = probe_cache.cache_path(study.config, study.workdir)
    assert own.parent == study.workdir.probe and own.suffix == ".npz"
    elsewhere = tiny.changed(study.config, probe={"cache_dir": str(tmp_path / "shared")}, optim={"steps": 9})
    assert probe_cache.cache_path(elsewhere, study.workdir) == tmp_path / "shared" / own.name
    other = tiny.changed(study.config, probe={"steps": 3})
    assert probe_cache.cache_path(other, study.workdir).name != own.name


@pytest.mark.parametrize(("size", "shown"), [(0.7, "0.7000"), (math.nan, "nan")])
def test_the_concept_that_is_read_worst_is_named(size, shown):
    config = tiny.study(probe={"min_accuracy": 0.8}).probe
    found = {"accuracy": {"color": 1.0, "size": 0.8, "joint": 0.5}}
    probe_cache._require_accuracy(config, found)  # all concepts at once need not be
    found["accuracy"] = {"size": size, "color": 1.0, "joint": 0.5}
    with pytest.raises(UserError, match=f"^probe.min_accuracy = 0.8: the probe reads size with an accuracy of {shown}"):
        probe_cache._require_accuracy(config, found)


def test_without_a_probe_and_without_training_it_says_where_it_would_lie(study):
    with pytest.raises(
        UserError, match=f"no usable trained probe at '{probe_cache.cache_path(study.config, study.workdir)}"
    ):
        probe_cache.load_or_train(study, train=False)


def test_a_probe_that_has_read_checkpoints_and_is_gone_is_not_trained_without_being_asked(study):
    (study.workdir.eval / "wave_000").mkdir(parents=True)
    (study.workdir.eval / "wave_000" / "step_00000002.npz").touch()
    with pytest.raises(UserError, match="is gone: --mode=train trains it again, or set probe.cache_dir"):
        probe_cache.load_or_train(study)
    file = probe_cache.cache_path(study.config, study.workdir)
    file.parent.mkdir()
    for part in (file, file.with_suffix(".json")):
        part.write_text("x")
    with pytest.raises(UserError, match="is damaged: --mode=train trains it again$"):
        probe_cache.load_or_train(study)
