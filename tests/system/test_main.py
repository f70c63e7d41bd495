"""The command line: every study from start to figures, and mistakes that cost one line."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from commands import (
    ROOT,
    assert_one_line,
    assert_same_table,
    command,
    environment,
    snapshot,
    study,
    without_progress,
)
from smoke import made

from cspace_jax import startup
from cspace_jax.storage.metrics import read_metrics

# How ml_collections loads config files.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")

# One study for each kind of program; the others share it (tests/studies, tests/plots).
STUDIES = ("signal", "hidden", "underspec")
RUNS = {"signal": 4, "hidden": 2, "underspec": 6}
GOLDEN = {"signal": "smoke", "hidden": "smoke_narrow", "underspec": "smoke_narrow"}
# The contract of a workdir (README).
FILES = ("config.json", "env.json", "metrics.jsonl", "concept_space.nc", "concept_space.csv", "summary.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdirs of all studies, each made by one command."""
    folders = {}
    root = tmp_path_factory.mktemp("work")
    for name in STUDIES:
        folders[name] = root / name
        done = made(name, folders[name])
        first = done.out.splitlines()[0]
        assert (
            f"study {name}, scale smoke, {RUNS[name]} runs x 6 steps" in first
            and "if nothing is done yet" in first
            and "run-steps/s" in done.err
        )
    return folders


DRAWN = {
    "signal": {"fig2.png", "fig4.png", "fig4.pdf", "fig12.png", "fig13.png", "gif.gif"},
    "hidden": {"fig6.png", "fig6.pdf", "fig17.png", "elicitation.png", "embeddings.png"},
    "underspec": {"fig7.png", "fig8.png", "fig9.png", "fig9.pdf", "fig10.png", "product.png"},
}


@pytest.mark.parametrize("name", STUDIES)
def test_numbers_are_those_of_earlier_versions(name, finished):
    assert_same_table(finished[name] / "concept_space.csv", ROOT / "tests" / "golden" / GOLDEN[name] / f"{name}.csv")


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_leaves_the_promised_files(name, finished):
    folder = finished[name]
    assert all((folder / file).stat().st_size > 0 for file in FILES)
    names = {path.name for path in (folder / "figures").rglob("*.*")}
    assert DRAWN[name] <= names, names
    assert not list(folder.rglob("*.tmp"))
    config = json.loads((folder / "config.json").read_text())
    assert (config["study"], config["scale"]) == (name, "smoke")
    env = json.loads((folder / "env.json").read_text())
    assert env["backend"] == "cpu" and "main.py" in env["command_line"] and env["versions"]["jax"]
    assert len(read_metrics(folder / "metrics.jsonl")) == RUNS[name] * 3
    assert {"probe", "train", "evaluate"} <= json.loads((folder / "times.json").read_text()).keys()


def test_protocols_are_added_to_a_finished_study(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    before = (folder / "concept_space.csv").read_text().splitlines()
    more = ["--config.elicit.protocols=('overprompt',)", "--config.elicit.overprompt=(1.0,)"]
    done = command("--mode=elicit", f"--workdir={folder}", *more, "--config.figures=('fig6',)")
    assert done.code == 0, done.err
    after = (folder / "concept_space.csv").read_text().splitlines()
    assert after[0] == f"{before[0]},capability,capability_split"
    naive = {line.rsplit(",", 2)[0] for line in after if ",overprompt," not in line}
    assert naive == set(before) and all(",overprompt,11," in line for line in set(after[1:]) if ",naive," not in line)
    assert "What protocols elicit" in done.out and (folder / "figures" / "fig6.png").exists()
    assert "elicitation" in json.loads((folder / "summary.json").read_text())


def test_steps_between_the_saves_are_trained_again_and_added(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    before = snapshot(folder)
    done = command("--mode=replay", f"--workdir={folder}", "--steps=(4,)")
    assert done.code == 0, done.err
    assert "differs" not in done.out + done.err and "4 steps of 4 runs are in" in done.out
    header, *rows = (folder / "added_steps.csv").read_text().splitlines()
    table = (folder / "concept_space.csv").read_text().splitlines()
    assert header == f"{table[0]},exact" and len(rows) == (len(table) - 1) // 3  # one step where there were three saves
    assert all(",4,naive," in row and row.endswith(",1") for row in rows)
    after = snapshot(folder)
    assert all(after[name][1] == before[name][1] for name in before if name != "times.json")


MADE_AGAIN = ("env.json", "times.json", "summary.json", "concept_space.nc", "report.html")


def test_the_same_command_again_only_redraws(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    before = snapshot(folder)
    done = command(study(), f"--workdir={folder}", "--config.figures=('fig4',)")
    assert done.code == 0, done.err
    after = snapshot(folder)
    changed = {name for name in before if before[name][0] != after[name][0]}
    assert changed <= {*MADE_AGAIN, "config.json", "concept_space.csv", "figures/fig4.png", "figures/fig4.pdf"}
    for name in ("concept_space.csv", "metrics.jsonl"):
        assert after[name][1] == before[name][1]
    assert "figures/fig4.png" in changed and "train:" not in done.err


def test_figures_need_no_config(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    shutil.rmtree(folder / "figures")
    shutil.rmtree(folder / "checkpoints")
    (folder / "report.html").unlink()
    done = command("--mode=figures", f"--workdir={folder}")
    assert done.code == 0, done.err
    assert page_of(folder) == page_of(finished["signal"])
    drawn, original = ({p.name for p in (f / "figures").rglob("*.*")} for f in (folder, finished["signal"]))
    assert drawn == original


def page_of(folder):
    """What the page of a workdir was made from; it holds the samples of every run."""
    text = (folder / "report.html").read_text()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["images"]["sheets"]) == len(data["runs"]) == RUNS["signal"] and data["steps"] == [2, 3, 6]
    assert "the colour signal decides" in text.lower() and data["charts"].keys() == {
        "curves",
        "speeds",
        "losses",
        "embeddings",
    }
    return data


def test_a_page_alone_is_made_from_stored_results(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "figures")
    shutil.rmtree(folder / "eval")  # to free the disk; the samples lay in it
    done = command("--mode=report", f"--workdir={folder}")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"the study as a page: {folder / 'report.html'}"
    assert "No sample images" in (folder / "report.html").read_text() and not (folder / "figures").exists()
    done = command("--mode=figures", f"--workdir={folder}", "--config.figures=('samples', 'fig4')")
    assert done.code == 0 and "figures: samples left out, 3 of 3 evaluations are gone, " in done.out, (
        done.out + done.err
    )
    assert {path.stem for path in (folder / "figures").iterdir()} == {"fig4"}


def test_figures_can_go_to_another_folder_and_the_workdir_stays_as_it_is(finished, tmp_path):
    folder, elsewhere = finished["signal"], tmp_path / "figures"
    before = snapshot(folder)
    for name, given in [("fig4", ()), ("fig13", (study(),)), ("fig3", ("--verbose",))]:
        one = f"--config.figures=('{name}', 'fig6')"
        done = command(*given, "--mode=figures", f"--workdir={folder}", f"--outdir={elsewhere}", one)
        assert done.code == 0 and f"2 files in {elsewhere}" in done.out, done.err
    assert {path.stem for path in elsewhere.iterdir()} == {"fig3", "fig4", "fig13", "report"}
    assert_one_line(
        command(study(), f"--workdir={folder}", f"--outdir={elsewhere}"),
        f"outdir = '{elsewhere}': only goes with --mode=figures, report",
    )
    other = command(
        study(), "--mode=figures", f"--workdir={folder}", f"--outdir={elsewhere}", "--config.optim.batch_size=4"
    )
    assert_one_line(other, "belongs to another config, differing in optim.batch_size")
    assert snapshot(folder) == before


def test_evaluation_needs_no_config(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    table = (folder / "concept_space.csv").read_bytes()
    (folder / "concept_space.csv").unlink()
    next(folder.rglob("step_00000003.npz")).unlink()
    done = command("--mode=eval", f"--workdir={folder}")
    assert done.code == 0, done.err
    assert (folder / "concept_space.csv").read_bytes() == table


def test_training_and_evaluation_can_be_separate_commands(finished, tmp_path):
    folder = tmp_path / "w"
    for mode in ("train", "eval"):
        done = command(study(), f"--workdir={folder}", f"--mode={mode}")
        assert done.code == 0, done.err
        assert (folder / "concept_space.csv").exists() == (mode == "eval")
    assert (folder / "concept_space.csv").read_bytes() == (finished["signal"] / "concept_space.csv").read_bytes()


def test_damaged_files_that_only_inform_are_made_again(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    for name in ("env.json", "times.json", "summary.json"):
        (folder / name).write_text("{")
    done = command(study(), f"--workdir={folder}", "--config.figures=()")
    assert done.code == 0, done.err
    assert all(json.loads((folder / name).read_text()) for name in ("env.json", "times.json", "summary.json"))


def copy_of(folder, tmp_path):
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


RESTART = """
import os, sys
from cspace_jax import startup
startup.restart_with_allocator_settings()
startup.set_up_jax()
import jax
print(sys.argv[1:], os.environ["GLIBC_TUNABLES"].count("glibc.malloc"), startup.restarted(), jax.device_count())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_the_program_restarts_once_with_its_arguments_and_allocator_settings(tmp_path):
    (tmp_path / "program.py").write_text(RESTART)
    env = environment(CSPACE_JAX_RESTARTED="", GLIBC_TUNABLES="", JAX_NUM_CPU_DEVICES="3")
    line = [sys.executable, str(tmp_path / "program.py"), "--flag=a b", "c"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=1200)
    assert done.stdout == "['--flag=a b', 'c'] 3 True 3\n", done.stderr


def test_a_user_keeps_the_allocator_settings_of_the_environment(monkeypatch):
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("restarted"))
    monkeypatch.delenv("CSPACE_JAX_RESTARTED", raising=False)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
    startup.restart_with_allocator_settings()


def test_evaluation_before_training_is_one_line(finished, tmp_path):
    folder = tmp_path / "w"
    done = command(study(), f"--workdir={folder}", "--mode=eval")
    assert_one_line(done, "there is no usable trained probe")
    shutil.copytree(finished["signal"] / "probe", folder / "probe")
    done = command(study(), f"--workdir={folder}", "--mode=eval")
    assert_one_line(done, "params/2 is missing; run --mode=train first")
    assert_one_line(command("--mode=figures", f"--workdir={folder}"), "run --mode=eval first")


def test_a_missing_or_unfit_probe_is_one_line(finished, tmp_path):
    folder = copy_of(finished["signal"], tmp_path)
    shutil.rmtree(folder / "probe")
    next(folder.rglob("step_00000003.npz")).unlink()
    before = snapshot(folder, ignored=("env.json", "times.json"))
    assert_one_line(command("--mode=eval", f"--workdir={folder}"), "is gone: --mode=train trains it again")
    assert snapshot(folder, ignored=("env.json", "times.json")) == before
    unfit = command(study(), f"--workdir={tmp_path / 'w'}", "--config.probe.min_accuracy=0.9")
    assert_one_line(without_progress(unfit), "probe.min_accuracy = 0.9: the probe reads")
    assert not (tmp_path / "w" / "metrics.jsonl").exists()


DAMAGED = {
    "config.json": ("--mode=eval", "is damaged"),
    "concept_space.nc": ("--mode=figures", "cannot be read"),
    "step_00000003.npz": ("--mode=eval", "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_line(name, finished, tmp_path):
    mode, words = DAMAGED[name]
    folder = copy_of(finished["signal"], tmp_path)
    file = next(folder.rglob(name))
    os.truncate(file, file.stat().st_size // 2)
    before = snapshot(folder, ignored=("env.json", "times.json"))
    assert_one_line(command(mode, f"--workdir={folder}"), words)
    assert snapshot(folder, ignored=("env.json", "times.json")) == before
