"""The front door of the command: one screen of help, mistakes told at once, flags from files."""

import os
import platform
import subprocess
import sys

import jax
import pytest
from commands import ROOT, assert_one_line, command

from cspace_jax.cli import flags, overview
from cspace_jax.config import schema
from cspace_jax.pipeline import api, modes
from cspace_jax.studies import loading

pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")

HEAVY = ("jax", "flax", "optax", "orbax", "xarray", "matplotlib", "pandas", "scipy")
PROGRAM = """
import sys
sys.argv = ["cspace", *sys.argv[1:]]
from cspace_jax.main import main
try:
    main()
except SystemExit:
    pass
print("LOADED", [name for name in {heavy} if name in sys.modules])
"""


def test_help_is_one_screen_that_names_every_study_and_mode():
    lines = overview.screen().splitlines()
    assert len(lines) <= 45 and max(map(len, lines)) <= 100
    starts = [line.split()[0] for line in lines if line.startswith("  ")]
    assert {*loading.STUDIES, *modes.MODES} <= set(starts)


def test_overrides_that_the_help_shows_are_fields():
    shown = [word.partition("=")[0] for word in overview.screen().split() if word.startswith("--config.grid")]
    assert len(shown) >= 3 and {name.removeprefix("--config.grid.") for name in shown} <= set(schema.AXES)
    flags._check_fields([f"{name}=0" for name in shown])


def test_the_version_is_that_of_the_package_of_jax_and_of_python():
    assert overview.version() == f"cspace_jax 0.1.0 (jax {jax.__version__}, python {platform.python_version()})"


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], "STUDY, one of these"),
        (["--version"], "cspace_jax 0.1.0 (jax "),
        (["--config=signal:quick", "--config.optim.learning_rate=3"], "did you mean 'grid.learning_rate'?"),
        (["--config=signal:quick", "--config.learning_rate=3"], "did you mean 'grid.learning_rate'?"),
        (["--config=signal:quick", "--config.optin.steps=3"], "unknown field 'optin', did you mean 'optim.steps'?"),
        (["--config=signal:quick", "--config.optim.stepz=3"], "unknown field 'stepz', did you mean 'steps'?"),
        (["--config=signal", "--wrkdir=w"], "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
        (["--config=signal:quick", "--workdir=w", "--config.optim.clip=0.0"], "optim.clip = 0.0: must be above 0"),
        (["--mode=figures", "--wrkdir=w"], "Unknown command line flag 'wrkdir'"),
    ],
)
def test_help_and_mistakes_load_nothing_heavy(arguments, words, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CSPACE_JAX_RESTARTED": "1"}
    line = [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *arguments]
    done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=1200)
    assert words in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stdout + done.stderr


def test_the_first_words_come_before_the_study_is_read(capsys):
    said = []

    def say(text):
        said.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flags.parse_flags(["m", "--config=no_such_study", "--workdir=w"], say)
    assert said == ["cspace_jax: mode all, no_such_study, workdir w; loading JAX"]


@pytest.fixture
def carried_out(monkeypatch):
    """What the command asks of the pipeline, in place of carrying it out."""
    calls = []
    monkeypatch.setattr(api, "run", lambda *given, **named: calls.append((given, named)))
    return calls


@pytest.mark.parametrize(
    "form", [["--config=signal:smoke"], ["--config", "signal:smoke"], [f"--config={ROOT}/configs/signal.py:smoke"]]
)
def test_studies_are_found_by_name_and_by_file(form, carried_out):
    done = command("--workdir=w", "--config.optim.steps=1e1", *form)
    assert done.code == 0, done.err
    ((config, folder, mode), named) = carried_out[0]
    assert (config.study, config.scale, config.optim.steps) == ("signal", "smoke", 10)
    assert (folder, mode, named["scale_chosen"]) == ("w", "all", False)


@pytest.mark.parametrize("form", [["--config=signal"], ["--config", "signal"]])
def test_a_study_without_a_scale_takes_that_of_the_device(form, carried_out):
    done = command(*form, "--workdir=w")
    assert done.code == 0, done.err
    assert (carried_out[0][0][0].scale, carried_out[0][1]["scale_chosen"]) == ("quick", True)


@pytest.mark.parametrize(
    "order", [("--flagfile={}", "--config=signal:smoke"), ("--config=signal:smoke", "--flagfile={}")]
)
def test_a_file_of_flags_may_stand_anywhere(order, tmp_path, carried_out):
    (tmp_path / "flags").write_text("--config.grid.seeds=(3, 4)\n--config.optim.steps=7\n")
    done = command(*(one.format(tmp_path / "flags") for one in order), "--workdir=w")
    assert done.code == 0, done.err
    config = carried_out[0][0][0]
    assert (config.grid.seeds, config.optim.steps) == ((3, 4), 7)


def test_a_number_that_is_not_whole_is_one_line(carried_out):
    done = command("--config=signal:smoke", "--workdir=w", "--config.optim.steps=1.5e0")
    assert_one_line(done, "flag --config.optim.steps=1.5e0: 1.5 must be an integer")


def test_a_workdir_alone_is_enough_for_the_modes_that_say_so(tmp_path, carried_out):
    for name, mode in modes.MODES.items():
        done = command(f"--mode={name}", "--workdir=w")
        assert (done.code == 0) == mode.of_a_workdir, (name, done.err)
    assert [given[2] for given, _ in carried_out] == [name for name, mode in modes.MODES.items() if mode.of_a_workdir]


def test_the_mode_help_is_made_from_the_table_of_modes():
    assert all(f"{name}: {mode.does}." in flags.FLAGS["mode"].help for name, mode in modes.MODES.items())
