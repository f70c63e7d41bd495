"""The front door of the command: one screen of help, mistakes told at once, flags from files."""

import dataclasses
import os
import subprocess
import sys

import pytest
import tiny
from commands import ROOT, assert_one_line, command

from cspace_jax.pipeline import api, modes
from cspace_jax.storage import workdir

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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=signal:smoke", "--config.grid.seeds[0]=5"], "config.grid.seeds[0]: an entry cannot be set alone"),
        (["--config=a:b/mine.py:smoke"], "config = 'a:b/mine.py:smoke': the path of a config file cannot hold a colon"),
        (["--config=signal:"], "config = 'signal:': the scale must be one of smoke, quick, paper, or leave"),
        (
            ["--config=signal:smoke", "--config.scale=paper"],
            "config.scale = 'paper': would only change the label; choose it by --config=signal:paper",
        ),
    ],
)
def test_what_a_config_cannot_be_is_one_line(arguments, words, carried_out):
    assert_one_line(command("--workdir=w", *arguments), words)
    assert not carried_out


@pytest.mark.parametrize("name", ["wd:1", "100%3A", "w é?&#+.py"])
@pytest.mark.parametrize("mode", ["elicit", "extend"])
def test_a_workdir_of_any_name_keeps_its_config(name, mode, tmp_path, carried_out):
    made = tiny.study()
    workdir.prepare(tmp_path / name, made)
    done = command(f"--workdir={tmp_path / name}", f"--mode={mode}", "--config.figures=('fig4',)")
    assert done.code == 0, done.err
    assert carried_out[0][0][:2] == (dataclasses.replace(made, figures=("fig4",)), str(tmp_path / name))
