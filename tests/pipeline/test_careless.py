"""Arguments of the front door that are of another kind: one line, and correct ones of NumPy, JAX and pathlib."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import synthetic

import cspace_jax as cs

pytestmark = pytest.mark.system  # annotations are not checked: users' arguments are of any kind


def test_arrays_of_any_library_are_values_of_an_axis():
    for seeds in (np.array([0, 3]), jnp.array([0, 3]), pd.Series([0, 3]), range(0, 6, 3), [0, 3]):
        assert cs.load_config("signal:smoke", seeds=seeds).grid.seeds == (0, 3)


def test_a_study_is_named_by_a_path_object_too(tmp_path):
    (tmp_path / "mine.py").write_text("from cspace_jax.studies.signal import get_config\n")
    with pytest.raises(cs.UserError, match="must be the name of a study or the path"):
        cs.load_config(None)
    assert cs.load_config(f"{tmp_path}/mine.py:smoke").scale == "smoke"
    assert cs.load_config(pathlib.Path(f"{tmp_path}/mine.py:smoke")).scale == "smoke"


@pytest.mark.parametrize("values", [(0.3, 0.1 + 0.2), (0.2, float(np.float32(0.2)))])
def test_levels_that_are_one_in_float32_are_refused(values):
    with pytest.raises(cs.UserError, match="^grid.sep_col = .*must differ as they are trained, in float32$"):
        cs.load_config("signal:smoke", sep_col=values)


def test_a_number_that_is_0_in_float32_is_refused():
    with pytest.raises(cs.UserError, match="^grid.learning_rate.0. = 1e-50: must be above 0"):
        cs.load_config("signal:smoke", learning_rate=(1e-50,))


CALLS = {
    "a name to run": (lambda w: cs.run("signal:smoke", w), "config = 'signal:smoke': must be a Config"),
    "nothing to run": (lambda w: cs.run(None, w), "config = None: must be a Config"),
    "a name to preview": (lambda w: cs.preview("signal:smoke"), "config = 'signal:smoke': must be a Config"),
    "a name to prompt": (lambda w: cs.data.prompt("signal", "blue small"), "config = 'signal': must be a Config"),
    "no workdir": (lambda w: cs.run(cs.load_config("signal:smoke"), None), "workdir = None: must be the path"),
    "words": (lambda w: cs.data.prompt(cs.load_config("signal:smoke"), 11), "prompt = 11: must be text"),
    "setting": (
        lambda w: cs.data.prompt(cs.load_config("signal:smoke"), "blue small", {"sep_col": 0.3}),
        "must be a cs.Setting",
    ),
    "nothing to open": (lambda w: cs.open_study(None), "workdir = None: must be a path, a pattern or a list"),
    "a list of nothing": (lambda w: cs.open_study([None]), "must be the path of a file or folder"),
    "nothing to compare": (lambda w: cs.compare(w, None), "compare: None must be a workdir"),
    "export": (lambda w: cs.open_study(w).export(5), "to = 5: must be the path"),
    "summary": (lambda w: cs.open_study(w).summary(5), "summary = 5: must be one of"),
    "figure": (lambda w: cs.open_study(w).figure(5), "figures = 5: must be one of"),
    "protocols": (
        lambda w: cs.open_study(w).elicit("latent", protocols=("patch",)),
        "protocols = .*: must be given as arguments",
    ),
    "a study of several": (lambda w: cs.open_study([w])["x"], "study = 'x': must be one of w"),
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("careless") / "w"
    synthetic.workdir(folder)
    return folder


@pytest.mark.parametrize("call", CALLS)
def test_another_kind_of_argument_is_one_line(call, workdir):
    careless, words = CALLS[call]
    with pytest.raises(cs.UserError, match=words) as caught:
        careless(str(workdir))
    assert "\n" not in str(caught.value)


def test_several_studies_are_a_collection_of_names(workdir):
    studies = cs.open_study([workdir])
    assert list(studies) == ["w"] and len(studies) == 1 and "w" in studies and "x" not in studies
