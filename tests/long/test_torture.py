"""The script of faults: what it does to files and processes, what it lets pass, and what it calls a failure."""

import importlib
import json
import operator
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cspace_jax.errors import UserError
from experiments import torture, torture_bench, torture_damages, torture_stages, torture_traced

GOOD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print(flush=True)
time.sleep(60)
"""


def started(program, **more):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **more}, **streams)


def disturb(program, number, moment):
    running = started(program)
    if "flush" in program:
        running.stdout.readline()  # its handler is set
    return torture._disturb(running, number, moment)


def test_damages_are_those_that_are_named(tmp_path):
    names = {
        "emptied": lambda path, _: path.read_bytes() == b"",
        "cut in half": lambda path, before: path.read_bytes() == before[:50],
        "with a flipped bit": lambda path, before: (
            sum((a ^ b).bit_count() for a, b in zip(path.read_bytes(), before, strict=True)) == 1
        ),
        "with the content of a neighbour": lambda path, _: path.read_bytes() == b"other",
        "with something more": lambda path, before: path.read_bytes() == before + b"x",
        "replaced by a folder": lambda path, _: path.is_dir(),
        "removed": lambda path, _: not path.exists(),
    }
    assert names.keys() == torture_damages.DAMAGES.keys()
    (described := tmp_path / "a.json").write_text('{"a": 1}')
    torture_damages.DAMAGES["with something more"](described, np.random.default_rng(0))
    assert json.loads(described.read_text()) == {"a": 1, "of_a_newer_version": 1}
    for name, holds in names.items():
        folder = tmp_path / name / "deep"
        folder.mkdir(parents=True)
        path, before = folder / "a.npz", bytes(range(100))
        path.write_bytes(before)
        (folder / "b.npz").write_bytes(b"other")
        (folder / "b.json").write_bytes(b"of another kind")
        torture_damages.DAMAGES[name](path, np.random.default_rng(0))
        assert holds(path, before), name


def test_damages_of_folders_are_those_that_are_named(tmp_path):
    names = {
        "emptied": lambda path: path.is_dir() and not list(path.iterdir()),
        "with the content of a neighbour": lambda path: [p.name for p in path.iterdir()] == ["theirs"],
        "removed": lambda path: not path.exists(),
    }
    assert names.keys() == torture_damages.FOLDER_DAMAGES.keys()
    for name, holds in names.items():
        for step, content in (("4", "ours"), ("8", "theirs")):
            (tmp_path / name / step).mkdir(parents=True)
            (tmp_path / name / step / content).touch()
        torture_damages.FOLDER_DAMAGES[name](tmp_path / name / "4", np.random.default_rng(0))
        assert holds(tmp_path / name / "4") and (tmp_path / name / "8" / "theirs").exists(), name


def test_a_signal_must_end_the_command_with_its_own_code():
    assert disturb(GOOD, signal.SIGTERM, 1.0) == 143
    assert disturb(GOOD, signal.SIGKILL, 1.0) == -9
    assert disturb("pass", signal.SIGKILL, 30.0) == 0  # it had ended before
    with pytest.raises(torture.Failure, match="SIGTERM after 1.00 s: exit code -15"):
        disturb("import time; time.sleep(60)", signal.SIGTERM, 1.0)
    with pytest.raises(torture.Failure, match="a traceback"):
        disturb(GOOD.replace("print(flush=True)", "print('Traceback', file=sys.stderr)"), signal.SIGTERM, 1.0)
    with pytest.raises(torture.Failure, match="ended by itself with 3"):
        disturb("raise SystemExit(3)", signal.SIGTERM, 30.0)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_shim_fails_the_calls_that_it_is_told_to(tmp_path):
    """Each file takes a call that opens it and one that writes; the third to the fifth fail, elsewhere none."""
    bench = torture.Bench(tmp_path, {}, tmp_path / "half", torture_bench._shim(tmp_path))
    assert bench.shim is not None
    folder = tmp_path / "w"
    folder.mkdir()
    program = f"""
import os
for folder in {str(folder)!r}, {str(tmp_path)!r}:
    for name in "abcdef":
        try:
            file = os.open(folder + "/" + name, os.O_WRONLY | os.O_CREAT)
            os.write(file, b"x")
            print(name, end="")
        except OSError as error:
            print(error.errno, end="")
"""
    out, err = started(program, **torture_bench.failing(bench, folder, False, 2, 3)).communicate()
    assert (out, err) == ("a555efabcdef", "")
    assert np.frombuffer((tmp_path / "counter").read_bytes(), np.int64)[0] == 9
    reading = f"print(open({str(folder / 'a')!r}).read())"
    _, err = started(reading, **torture_bench.failing(bench, folder, True, 0, 10)).communicate()
    assert "Input/output error" in err


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_clock_of_the_shim_jumps_when_it_is_told_to(tmp_path):
    program = "import time; time.sleep(0.6); print(time.time())"
    shim = {"LD_PRELOAD": str(torture_bench._shim(tmp_path)), "TORTURE_AFTER": "0.5", "TORTURE_JUMP": "-36000"}
    out, _ = started(program, **shim).communicate()
    assert float(out) == pytest.approx(time.time() - 36000, abs=600)
    out, _ = started(program, **{**shim, "TORTURE_AFTER": "1000"}).communicate()
    assert float(out) == pytest.approx(time.time(), abs=600)


def test_damages_come_after_each_of_the_other_kinds():
    assert torture._in_turn(("signals", "clock", "damage")) == ["signals", "damage", "clock", "damage"]
    assert torture._in_turn(("damage",)) == ["damage"]


def test_a_refusal_is_one_line():
    bars = "train:  10%|#\rtrain: 100%|##\n"
    assert torture.one_line(f"{bars}error: no space left\n") == "error: no space left"
    for err in ("Traceback (most recent call last):\n  File\nerror: x\n", "", "error: this is a fault of cspace_jax\n"):
        with pytest.raises(torture.Failure, match="not one line"):
            torture.one_line(err)


def test_the_table_counts_by_kind_and_lists_failures():
    rows = [
        {"number": str(i), "kind": kind, "found": found, "stages": stages, "what": f"what {i}"}
        for i, (kind, found, stages) in enumerate(
            [
                ("signals", "same results", "merge; probe"),
                ("damage", "one line", "probe"),
                ("signals", "failure", "merge"),
                ("damage", "same results", "none"),
            ]
        )
    ]
    text = torture.table(rows, "python -m x")
    assert "| signals | 2 | 1 | 0 | 0 | 1 |\n| damage | 2 | 1 | 1 | 0 | 0 |\n" in text
    assert "\n- signals 2: what 2\n" in text and "what 1" not in text
    of_stages = [line for line in text.splitlines() if line.startswith(("| probe", "| merge", "| none", "| report"))]
    assert of_stages == [
        "| probe | 1 | 1 | 2 |",
        "| merge | 2 | 0 | 2 |",
        "| report | 0 | 0 | 0 |",
        "| none | 0 | 1 | 1 |",
    ]


def test_a_trace_tells_the_stage_and_how_long_each_lasted(tmp_path):
    trace = torture_stages.Trace(tmp_path / "trace")
    assert trace.now == "start" and trace.lasted() == {} and trace.at(3.0) == "start"
    trace.path.write_text(
        "10.0 start\n12.5 saving a state\n13.0 training\n14.0 saving a state\n14.2 training\n15.0 rep"
    )
    assert trace.now == "training" and trace.at(2.6) == "saving a state"
    found = {name: [round(one, 6) for one in times] for name, times in trace.lasted().items()}
    assert found == {"start": [2.5], "saving a state": [0.5, 0.2], "training": [1.0]}
    assert torture_stages.Aim("saving a state", 1, 0.1).is_entered(trace)
    assert not torture_stages.Aim("saving a state", 2, 0.1).is_entered(trace)


def test_the_stage_that_was_met_least_is_aimed_at():
    stages = {"training": [1.0, 2.0], "merge": [0.5], "start": [9.0]}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        aim = torture_stages.aim(stages, {"training": 3, "merge": 4}, rng)
        assert aim.stage == "training" and 0 <= aim.delay <= stages["training"][aim.entry]
        assert torture_stages.aim(stages, {"training": 3}, rng).stage == "merge"
        assert torture_stages.aim({"start": [9.0]}, {}, rng) is None
    jobs = {"a": torture_bench.Job((), len, None, pathlib.Path(), stages={"training": [1.0]}, weight=100.0)}
    jobs["b"] = torture_bench.Job((), len, None, pathlib.Path(), stages={"merge": [1.0]})
    bench = torture.Bench(pathlib.Path(), jobs, pathlib.Path())
    bench.hits["training"] += 1
    assert {torture._job_to_aim_at(bench, np.random.default_rng(seed))[0] for seed in range(20)} == {"b"}


def test_a_signal_is_sent_in_the_stage_it_is_aimed_at(tmp_path):
    bench = torture.Bench(tmp_path, {}, tmp_path)
    program = GOOD.replace(
        "time.sleep(60)",
        f"""
with open({str(bench.trace.path)!r}, "w") as file:
    for stage in ("start", "merge", "report"):
        file.write(f"{{time.monotonic()}} {{stage}}\\n")
        file.flush()
        time.sleep(1.0 if stage != "report" else 60)
""",
    )
    assert torture._disturb(started(program), signal.SIGTERM, torture_stages.Aim("merge", 0, 0.3), bench) == 143
    assert bench.met == ["merge"] and bench.hits == {"merge": 1}
    assert torture._disturb(started("pass"), signal.SIGTERM, torture_stages.Aim("replay", 0, 0.3), bench) == 0


def test_files_belong_to_the_stage_that_writes_them():
    for path, stage in (
        ("checkpoints/wave_000/params/4/manifest", "saving parameters"),
        ("checkpoints/wave_000/state/4", "saving a state"),
        ("checkpoints/wave_000/plan.json", "training"),
        ("elicit/0123/wave_000/step_00000004.npz", "battery"),
        ("report.html", "report"),
        ("config.json", "start"),
    ):
        assert torture_stages.of_file(pathlib.PurePath(path)) == stage


@pytest.mark.parametrize("module", torture_traced.TRACED)
def test_what_is_traced_exists(module):
    for name in torture_traced.TRACED[module]:
        assert callable(operator.attrgetter(name)(importlib.import_module(module)))


def test_the_traced_command_writes_its_stages(tmp_path):
    """A module that was loaded writes them, the last one being where an error ended it."""
    program = f"""
import sys, types
from experiments import torture_traced
sys.meta_path.insert(0, torture_traced._Finder())
from cspace_jax.pipeline import page
page.make = lambda *_: types.SimpleNamespace(save=lambda path: path)
study = types.SimpleNamespace(workdir=types.SimpleNamespace(report=types.SimpleNamespace(name="a")))
page.write(study, {str(tmp_path)!r})
page.write(None)
"""
    environment = {"TORTURE_TRACE": str(tmp_path / "trace"), "PYTHONPATH": str(torture_bench.ROOT)}
    _, err = started(program, **environment).communicate()
    assert "AttributeError" in err
    assert [stage for _, stage in torture_stages.Trace(tmp_path / "trace").entries()] == [
        *("report", "between stages", "report"),
    ]


def test_a_wait_for_no_save_is_no_stage(tmp_path, monkeypatch):
    monkeypatch.setenv("TORTURE_TRACE", str(tmp_path / "trace"))
    monkeypatch.setattr(torture_traced, "_inside", ["start"])

    class Writer:
        _folder, _pending = tmp_path / "params", None

        def wait(self):
            self._pending = None

    wait = torture_traced._wrapped(Writer.wait, None)
    writer = Writer()
    wait(writer)
    assert not (tmp_path / "trace").exists()
    writer._pending = "a save"
    wait(writer)
    entries = torture_stages.Trace(tmp_path / "trace").entries()
    assert [stage for _, stage in entries] == ["saving parameters", "between stages"]


def test_what_differs_is_a_failure(tmp_path):
    straight = tmp_path / "straight"
    straight.mkdir()
    (straight / "concept_space.csv").write_text("run,step\n0,1\n")
    (straight / "metrics.jsonl").write_text(json.dumps({"run": 0, "step": 2, "loss": 1.0, "steps_per_second": 3}))
    same = {
        "metrics.jsonl": json.dumps({"run": 0, "step": 2, "loss": 1.0, "steps_per_second": 4}),
        "concept_space.csv": "run,step\n0,1\n",
    }
    for name, content, words in (
        ("x", "", None),
        ("concept_space.csv", "run,step\n0,2\n", "concept_space.csv differs"),
        ("metrics.jsonl", json.dumps({"run": 0, "step": 2, "loss": 1.5}), "metrics.jsonl differs"),
        (".a.1.tmp", "", "rests are left"),
    ):
        folder = tmp_path / "w"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, text in {**same, name: content}.items():
            (folder / file).write_text(text)
        if words is None:
            torture.compare(folder, straight)
        else:
            with pytest.raises(torture.Failure, match=words):
                torture.compare(folder, straight)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--kinds=signals,floods"],
            "kinds = 'floods': must be of signals, full disk, read-only disk, disk errors, clock, damage",
        ),
        (["--faults=-1"], "must leave something to do"),
        (["--hours=-1"], "must leave something to do"),
    ],
)
def test_mistakes_are_one_line(arguments, words, tmp_path):
    with pytest.raises(UserError, match=words):
        torture.run([f"--workdir={tmp_path / 'w'}", *arguments])
    assert not (tmp_path / "w").exists()
