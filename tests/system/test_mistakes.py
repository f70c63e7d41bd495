"""Mistakes of the command line cost one line and change nothing."""

import pathlib

import pytest
from commands import ROOT, assert_one_line, command, real_command, snapshot, study

import cspace_jax as cs
from cspace_jax.storage import workdir

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A workdir of the study, in which nothing is done yet."""
    return pathlib.Path(workdir.prepare(tmp_path_factory.mktemp("begun") / "w", cs.load_config("signal:smoke")).root)


# Arguments beside the study, and what the one line must say.
MISTAKES = {
    "unknown field": (["--config.optim.stepz=3"], "config.optim.stepz: unknown field 'stepz', did you mean 'steps'"),
    "unknown group": (["--config.optin.steps=3"], "config.optin.steps: unknown field 'optin'"),
    "steps of no replay": (["--steps=(3,)"], "steps = '(3,)': only goes with --mode=replay"),
    "plan of a log": (["--mode=plan", "--log=wandb"], "log = 'wandb': only goes with --mode=train, eval"),
    "width of no replay": (["--width=3"], "width = 3: only goes with --around"),
    "wrong type": (["--config.optim.steps=abc"], "config.optim.steps=abc"),
    "wrong type in a tuple": (["--config.grid.sep_col=(0.2,'a')"], "grid.sep_col[1] = 'a': must be a number"),
    "value missing": (["--config.optim.steps"], "config.optim.steps"),
    "negative separation": (["--config.grid.sep_col=(-0.2,)"], "grid.sep_col[0] = -0.2: must be in (0, 0.8]"),
    "colour means outside": (["--config.grid.sep_col=(0.9,)"], "must stay within [0, 1]"),
    "size means outside": (["--config.grid.sep_size=(0.8,)"], "grid.sep_size[0] = 0.8"),
    "empty axis": (["--config.grid.sep_size=()"], "grid.sep_size = (): an axis of the grid needs at least one"),
    "no seeds": (["--config.grid.seeds=()"], "grid.seeds = ()"),
    "negative seed": (["--config.grid.seeds=(-1,)"], "grid.seeds[0] = -1"),
    "repeated seed": (["--config.grid.seeds=(1, 1)"], "1 is repeated"),
    "zero steps": (["--config.optim.steps=0"], "optim.steps = 0"),
    "save past the end": (["--config.save.steps=(2, 60)"], "save.steps[1] = 60: must be at most optim.steps = 6"),
    "save start past the end": (["--config.save.start=7"], "save.start = 7"),
    "image not divisible": (["--config.data.image_size=9"], "data.image_size = 9: must be divisible by 2"),
    "one concept": (["--config.data.active=('color',)"], "must hold 2 to 6 concepts"),
    "no such concept": (["--config.data.active=('color', 'weight')"], "data.active = 'weight'"),
    "concepts out of order": (["--config.data.active=('size', 'color')"], "must follow the order"),
    "groups do not divide": (["--config.network.groups=3"], "network.groups = 3: must divide"),
    "dropout of one": (["--config.network.dropout=1.0"], "network.dropout = 1.0: must be in [0, 1)"),
    "batch too large": (["--config.optim.batch_size=999"], "optim.batch_size = 999"),
    "guidance without training": (["--config.evaluate.guidance=2.0"], "evaluate.guidance = 2.0"),
    "no such figure": (["--config.figures=('fig99',)"], "figures = 'fig99': must be one of all, fig2"),
    "no such plan": (["--config.engine.runs=scan"], "engine.runs = 'scan': must be one of auto, vmap, map"),
    "unknown mode": (["--mode=fit"], "mode = 'fit': must be one of plan, train, eval, elicit, replay, figures"),
    "unknown protocol": (
        ["--config.elicit.protocols=('overpromt',)"],
        "elicit.protocols = 'overpromt': unknown protocol 'overpromt', did you mean 'overprompt'",
    ),
    "a shared edit": (
        ["--config.elicit.protocols=('latent_shared',)"],
        "elicit.protocols = 'latent_shared': needs one embedding shared by all blocks",
    ),
    "no protocol": (["--mode=elicit"], "elicit.protocols is empty"),
    "unknown flag": (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
    "stray argument": (["extra"], "unexpected argument 'extra'"),
    "another config": (["--config.optim.batch_size=4"], "belongs to another config, differing in optim.batch_size"),
    "another wave": (["--config.engine.wave=1"], "belongs to another config, differing in engine.wave"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(name, begun):
    arguments, words = MISTAKES[name]
    before = snapshot(begun)
    assert_one_line(command(study(), f"--workdir={begun}", *arguments), words)
    assert snapshot(begun) == before


BAD_FILES = {
    "syntax": ("def get_config(:\n", "SyntaxError"),
    "failing": ("def get_config(scale=None):\n    return nothing\n", "NameError: name 'nothing' is not defined"),
    "leaving": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "lacking": ("import no_such_package\n", "No module named 'no_such_package'"),
    "empty": ("", "defines no function get_config"),
    "no config": ("def get_config(scale=None):\n    return 3\n", "config = 3: must be a group of fields"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_config_file_is_one_line(name, tmp_path):
    text, words = BAD_FILES[name]
    (tmp_path / "bad.py").write_text(text)
    assert_one_line(command(f"--config={tmp_path / 'bad.py'}", f"--workdir={tmp_path / 'w'}"), words)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_a_missing_config_file_or_scale_is_one_line(form, tmp_path):
    for value, words in [
        (tmp_path / "none.py", "no such Python file"),
        (f"{ROOT}/configs/signal.py:papr", "scale = 'papr': must be one of smoke, quick, paper, did you mean 'paper'?"),
    ]:
        assert_one_line(command(*form.format(value).split(), f"--workdir={tmp_path / 'w'}"), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mode=all"], "config is not given"),
        (["--mode=eval"], "workdir is not given"),
        (["--mode=figures", "--workdir="], "workdir is not given"),
        (["--mode=extend", "--config.grid.seeds=(1,)"], "workdir is not given"),
        (["--workdir=/nowhere/w", "--config.grid.seeds=(1,)"], "config is not given"),
        (["--mode=compare", "--config.grid.seeds=(1,)"], "config.grid.seeds: --mode=compare knows no fields"),
        (["--mode=compare", "--mode=extend", "--config.grid.seeds=(1,)"], "workdir is not given"),
        (["--mode=extend", "--mode=compare", "--config.grid.seeds=(1,)"], "--mode=compare knows no fields"),
        (["--mode=extend", "--mode=all", "--workdir=/nowhere/w", "--config.grid.seeds=(1,)"], "config is not given"),
        (["--mode=figures", "--workdir=/nowhere/w"], "no such folder"),
        (["--mode=eval", "--workdir=/nowhere/w"], "no such folder"),
        (["--mode=replay", "--workdir=/nowhere/w", "--steps=(3,)"], "no such folder"),
        (["--mode=replay", "--workdir=/nowhere/w", "--steps=3,x"], "steps = '3,x': must be whole numbers"),
        ([study(), "--workdir=/dev/null/w"], "a part of the path is a file"),
        ([study(), "--workdir=/proc/w"], "cannot write '/proc/w'"),
        ([study(), f"--workdir={ROOT / 'pyproject.toml'}"], "is a file, must be a folder"),
    ],
)
def test_a_bad_place_is_one_line(arguments, words, monkeypatch):
    if "--mode=all" in arguments:
        arguments = [*arguments, "--workdir=/nowhere/w"]
    if arguments == ["--mode=eval"]:
        arguments = [study(), "--mode=eval"]
    assert_one_line(command(*arguments), words)


def test_figures_of_a_mistyped_workdir_make_nothing(tmp_path):
    for mode in ("figures", "report"):
        assert_one_line(command(study(), f"--mode={mode}", f"--workdir={tmp_path / 'w'}"), "no such folder")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_jax_cannot_read_is_one_line(tmp_path):
    done = real_command(study(), f"--workdir={tmp_path / 'w'}", JAX_ENABLE_X64="maybe")
    assert_one_line(done, "JAX_ENABLE_X64 in the environment: JAX cannot read its value (invalid truth value 'maybe'")


def test_a_bad_command_line_in_a_real_process_is_one_line_also_after_the_restart():
    more = {"CSPACE_JAX_RESTARTED": "", "GLIBC_TUNABLES": ""}
    done = real_command(study().replace(":smoke", ":quick"), "--config.optim.stepz=3", **more)
    assert done.code == 2 and done.out == ""
    assert done.err == "error: config.optim.stepz: unknown field 'stepz', did you mean 'steps'?\n"
