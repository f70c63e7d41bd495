"""Command lines of scripts: flags, overrides and lists; what ends them, each with its exit code and one line."""

import argparse

import pytest

from cspace_jax import startup, stopping
from cspace_jax.cli import scripts
from cspace_jax.errors import UserError


@pytest.fixture
def parser():
    made = scripts.Parser(prog="x")
    made.add_argument("--rounds", type=int, default=3)
    return made


def test_overrides_are_read_as_values_and_words(parser):
    given = [
        "--config.grid.seeds=(0, 1)",
        "--rounds=5",
        "--config.data.path=a/b=c",
        "--config.optim.steps=1e3",
        "--config.study={{}}",
    ]
    found = parser.parse_with_overrides(given)
    assert found.rounds == 5
    assert found.overrides == {"grid.seeds": (0, 1), "data.path": "a/b=c", "optim.steps": 1000.0, "study": "{{}}"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--config.optim.steps"], "--config.optim.steps must have a value: --config.optim.steps=VALUE"),
        (["--round=5"], "unrecognized arguments: --round=5"),  # never abbreviated
        (["--rounds=many"], "argument --rounds: invalid int value: 'many'"),
    ],
)
def test_a_mistake_is_a_line_of_the_command_line(given, words, parser):
    with pytest.raises(UserError) as error:
        parser.parse_with_overrides(given)
    assert str(error.value) == f"command line: {words}"


def test_lists_have_commas_between():
    read = scripts.comma_separated(int)
    assert (read("3, 4,5"), read(""), read(" 7 ")) == ((3, 4, 5), (), (7,))
    for text in ("3,,4", "3,", "3,x"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}': must be int values with commas between$"):
            read(text)
    with pytest.raises(argparse.ArgumentTypeError, match="must be str values"):
        scripts.comma_separated(str)("a,,b")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("steps = 0: must be positive"), 2, "error: steps = 0: must be positive"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on from the last checkpoint"),
        (MemoryError(), 2, "error: out of memory (of this machine); what is done is kept"),
    ],
)
def test_what_ends_a_command_is_one_line_and_a_code(error, code, words, capsys):
    def fail(_):
        raise error

    with pytest.raises(SystemExit) as exit_:
        scripts.exit_on_user_error(fail, [])
    assert (exit_.value.code, capsys.readouterr().err) == (code, f"{words}\n")


def test_what_succeeds_is_given_back_with_the_arguments():
    assert scripts.exit_on_user_error(lambda given: [*given, "b"], ["a"]) == ["a", "b"]
    assert issubclass(stopping.Stopped, BaseException)


def test_a_setting_of_jax_that_is_refused_is_one_line_in_scripts_too(monkeypatch, capsys):
    def refused():
        raise UserError("JAX_ENABLE_X64 = 'foo': must be false")

    monkeypatch.setattr(startup, "restart_with_allocator_settings", lambda: None)
    monkeypatch.setattr(startup, "set_up_jax", refused)
    with pytest.raises(SystemExit) as exit_:
        scripts.start(lambda _: pytest.fail("the script was called"))
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: JAX_ENABLE_X64 = 'foo': must be false\n"
