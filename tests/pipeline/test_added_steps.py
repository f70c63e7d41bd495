"""Merging of added steps: runs and steps that were asked with a battery beside others that were not."""

import numpy as np
import pytest
import tiny

from cspace_jax.config import GridConfig
from cspace_jax.pipeline import collect, elicit, replay
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import extensions, results
from cspace_jax.storage.evaluations import ELICITED, MEASURED, write_npz

ASKED = {"protocols": ("latent",), "alpha": (1.0,), "beta": (0.5,), "samples": 2}


@pytest.fixture
def asked(study):
    """A study and one more run, which answered a battery at initialisation."""
    extensions.write(study.workdir, extensions.Extensions((GridConfig(seeds=(9,), sep_col=(0.2,)),)))
    asked = Study(tiny.changed(study.config, elicit=ASKED), study.workdir, study.plan)
    for part in asked.parts:
        for wave in part.waves:
            write_npz(elicit.answer_file(elicit.folder(part), wave, 0), answers(part, runs=len(wave.rows)))
    return asked


def answers(study, runs=1, seed=0):
    draw, queries = np.random.default_rng(seed), len(elicit.names_and_values(study.config)[0])
    arrays = draw.random((runs, queries, 1, 2, 2), np.float32), draw.random((runs, queries, 1, 3), np.float32)
    return dict(zip(ELICITED, arrays, strict=True))


def add(study, evaluations, run, step, answered, exact=True):
    """Write the files of an added step of a run: an evaluation of its own, and perhaps answers."""
    one = {name: evaluations[study.steps[step % 3]][name][run : run + 1] for name in MEASURED}
    write_npz(replay.naive_file(study, run, step), {**one, "exact": np.array([exact])})
    if answered:
        write_npz(replay.answer_file(study, run, step), answers(study, seed=step))


def test_naive_prompting_comes_first_where_only_some_runs_were_asked(asked, evaluations):
    study, further = asked.parts
    add(study, evaluations, 1, 3, answered=False)
    add(study, evaluations, 2, 4, answered=False, exact=False)
    add(further, evaluations, 0, 1, answered=True)
    ds = collect.added(asked)
    assert ds["protocol"].values.tolist() == ["naive", "latent"] == ds["query_protocol"].values[[0, -1]].tolist()
    assert ds["run"].values.tolist() == [1, 2, 4] and ds["step"].values.tolist() == [1, 3, 4]
    np.testing.assert_array_equal(ds["exact"], [[np.nan, 1, np.nan], [np.nan, np.nan, 0], [1, np.nan, np.nan]])
    assert ds["seed"].sel(run=4) == 9 and ds["capability"].notnull().any(("step", "protocol", "klass")).values[-1]
    results.write_added(ds, study.workdir)
    table = asked.workdir.added_table.read_text().splitlines()
    assert sum(line.startswith("1,") and ",naive," in line for line in table) == 4 * 2  # of all classes and concepts


def test_an_added_step_without_answers_leaves_those_of_the_others(asked, evaluations):
    for step in (1, 3, 4):
        add(asked, evaluations, 0, step, answered=step != 3)
    partly = collect.added(asked)
    add(asked, evaluations, 0, 3, answered=True)
    whole = collect.added(asked)
    kept, lost = partly.sel(step=[1, 4]), partly.sel(step=3)
    assert kept.identical(whole.sel(step=[1, 4]))
    assert lost.sel(protocol="naive")["prob"].identical(whole["prob"].sel(step=3, protocol="naive"))
    for name in ("capability", "capability_concept", "best_query", "query_prob"):
        assert lost[name].isnull().all() and whole[name].sel(step=3, klass="11").notnull().all()
    assert lost["prob"].sel(protocol="latent").isnull().all()
