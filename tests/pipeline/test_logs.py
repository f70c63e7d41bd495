"""What of a study is logged, and under which names."""

import dataclasses
import types

import numpy as np
import synthetic
import tiny
from logged import LABELS

from cspace_jax.pipeline import log_results, log_writers, logs
from cspace_jax.storage.evaluations import write_npz


def test_samples_are_read_where_a_run_of_the_wave_is_pictured(study, evaluations, monkeypatch):
    read = []
    take = log_results.read_evaluation
    monkeypatch.setattr(log_results, "read_evaluation", lambda file, keys: read.append(keys) or take(file, keys))
    write_npz(study.waves[0].eval_file(2), evaluations[2])
    for pictured in (frozenset({3}), frozenset({4})):
        log = logs.Log(log_writers.TensorBoard(study.workdir.tensorboard), tuple(LABELS), pictured)
        log_results.begin(dataclasses.replace(study, log=log), study.waves[0], 6)
    assert ["samples" in keys for keys in read] == [True, False]


def test_samples_are_shown_of_few_runs(study, capsys):
    assert logs.pictured(synthetic.grid(seeds=range(4))) == frozenset(range(16))
    assert logs.pictured(synthetic.grid(seeds=range(5))) == {0, 5, 10, 15}  # one of each level
    many = logs.pictured(synthetic.grid(levels=np.linspace(0.1, 0.9, 40), seeds=(0, 1)))
    assert len(many) == 16 and min(many) == 0 and max(many) == 78 and all(run % 2 == 0 for run in many)
    with log_writers.logging(study, "tensorboard"):
        assert capsys.readouterr().out == ""
    with log_writers.logging(
        tiny.in_workdir(study.workdir, tiny.study(grid={"seeds": tuple(range(9))})), "tensorboard"
    ):
        assert capsys.readouterr().out == "log: samples are shown of 2 of 18 runs, one of a level\n"


def test_parts_of_a_study_are_logged_under_their_own_numbers():
    taken = []
    take = {name: lambda *one: taken.append(one) for name in ("begin", "scalars", "picture", "close")}
    writer = types.SimpleNamespace(**take)
    log = logs.Log(writer, ("a", "b", "c")).of_part(1)
    log.begin([0, 1], [{"run": 1, "seed": 3, "step": 4, "loss": 0.5, "grad_norm": None}])
    assert taken == [("b",), ("c",), ("c", 4, {"train/loss": 0.5})]
