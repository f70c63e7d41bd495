"""Any field with any value: a study that is planned, or one line and exit code 2; never a traceback."""

import os
import warnings

import pytest
from commands import assert_one_line, command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspace_jax.config import Config, to_dict
from cspace_jax.config.reading import flatten

EXAMPLES = int(os.environ.get("CSPACE_JAX_EXAMPLES", "40"))
FIELDS = sorted(flatten(to_dict(Config(study="signal", scale="smoke"))))
NUMBERS = st.one_of(
    st.sampled_from(
        ("0", "-0.0", "1", "-1", "0.5", "1e-400", "1e308", "1e400", "-1e400", "nan", "inf", "0x10", "1_000")
    ),
    st.sampled_from((str(2**31), str(-(2**31)), str(2**63 - 1), str(2**63), str(10**30), "1j", "True", "None")),
    st.integers(-3, 70).map(str),
    st.integers().map(str),
    st.floats().map(repr),
)
WORDS = st.one_of(
    st.text(max_size=20),
    st.text("aé漢\u202e\x00\n\t'\"\\", max_size=8),
    st.sampled_from(("a" * 10_000, "", " ", "../../etc/passwd", "=1+1", "<b>x</b>", "signal", "%s%n", "{}", "${HOME}")),
)
SCALARS = st.one_of(NUMBERS, WORDS, WORDS.map(repr))
TUPLES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4).map(lambda one: f"({','.join(one)},)"), max_leaves=8
)
HUGE = st.sampled_from((f"({'1,' * 5000})", f"({'0.5,' * 5000})", "(" * 60 + ")" * 60, "(" * 5000, f"({'(),' * 500})"))
VALUES = st.one_of(SCALARS, TUPLES, HUGE)
SLOW = {"max_examples": EXAMPLES, "deadline": None, "suppress_health_check": list(HealthCheck)}


def planned(*arguments):
    with warnings.catch_warnings():  # Hypothesis takes pytest's filters away
        warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
        done = command("--mode=plan", *arguments)
    if done.code:
        assert_one_line(done, "")
    assert "Traceback" not in done.err


@pytest.fixture(scope="module", autouse=True)
def nothing_to_read(tmp_path_factory):
    """Names of files lead nowhere."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@settings(**SLOW)
@given(st.sampled_from(FIELDS), VALUES)
def test_any_value_of_any_field_is_planned_or_refused_in_one_line(field, value):
    planned("--config=signal:smoke", f"--config.{field}={value}")


@settings(**{**SLOW, "max_examples": max(EXAMPLES // 4, 10)})
@given(
    WORDS, st.sampled_from(("config", "mode", "workdir", "steps", "around", "width", "to", "workdirs", "config.", ""))
)
def test_any_word_of_any_flag_is_planned_or_refused_in_one_line(word, flag):
    planned("--config=signal:smoke", f"--{flag}={word}", "--mode=plan")
