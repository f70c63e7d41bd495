"""What is read off a command line before its flags are parsed."""

import pytest

from cspace_jax.cli import arguments


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["m", "--config.optim.steps=3", "--config=a"], ["m", "--config=a", "--config.optim.steps=3"]),
        (["m", "--workdir", "w", "--config", "a", "-x"], ["m", "--config=a", "--workdir", "w", "-x"]),
        (["m", "--config.a=1", "--", "--config=b"], ["m", "--config.a=1", "--", "--config=b"]),
        (["m", "--config"], ["m", "--config"]),
        (["m"], ["m"]),
    ],
)
def test_config_comes_first_and_the_rest_keeps_its_order(given, expected):
    assert arguments.config_first(given) == expected


def test_values_are_found_in_both_forms():
    assert arguments.values(["m", "--mode=plan", "-mode", "all", "--modes=x", "--mode"], "mode") == ["plan", "all"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["m", "--help"], True), (["m", "-h"], True), (["m", "--workdir=w", "--helpshort"], True),
        (["m", "--", "--help"], False), (["--help"], False), (["m", "--helpfull"], False),
    ],
)  # fmt: skip
def test_help_is_asked_for_by_its_flags_alone(given, expected):
    assert arguments.asks(given, arguments.HELP) == expected


def test_a_workdir_tells_whether_it_is_of_smoke_scale(tmp_path):
    assert arguments.is_smoke(["m", "--config=signal:smoke"]) and not arguments.is_smoke(["m", "--config=signal:quick"])
    assert not arguments.is_smoke(["m", f"--workdir={tmp_path}"])
    (tmp_path / "config.json").write_text('{"scale": "smoke"}')
    assert arguments.is_smoke(["m", "--workdir", str(tmp_path)])
