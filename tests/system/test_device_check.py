"""The check of a device: table, order, time, failures and second starts without one; its parts on a CPU."""

import json
import pathlib
import sys
import textwrap

import commands
import faces
import numpy as np
import pytest

from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from experiments import device_check, device_kill, device_parts, device_table, golden, memory_check, tpu_check

ABOUT = {
    **{"status": "done", "config": "signal:paper", "fingerprint": "f", "backend": "gpu", "commit": "c", "python": "3"},
    **{"device_kind": "NVIDIA H100 80GB HBM3", "device_count": 1, "memory": 60e9, "wave": 100, "microbatch": 8},
    **{"ways": ("vmap:xla", "vmap:matmul", "unroll:xla"), "known": "vmap:xla", "matmul": 400e12},
    "versions": dict.fromkeys(("jax", "jaxlib", "flax", "orbax-checkpoint"), "1.0"),
}
ANSWERS = {
    "kill": {"killed_at": 4, "last": 40, "equal": True},
    "memory": {"peak": 40e9, "predicted": 39e9, "devices": 1, "microbatch": 8},
    "golden": {"differences": dict.fromkeys(golden.TOLERANCES, 0.0)},
    "train": {"rate": 100.0, "flops": 49.5e12, "first_call": 60.0, "devices": 1, "microbatch": 8},
    "sample": {"rate": 500.0, "flops": 9.9e12, "first_call": 30.0, "devices": 1, "microbatch": 128},
    "save": {"runs": 16, "save": 5.0, "restore": 3.0, "bytes": 2e9, "equal": True},
    "auto": {"way": "vmap:matmul", "rate": 100.0, "of": 4},
}


class FakeDevice:
    """Answer every request as a device might, on a clock of its own; `wrong` holds other answers by name or part."""

    def __init__(self, monkeypatch, wrong=(), about=ABOUT, seconds=1.0):
        self.asked, self.limits, self.now = [], [], 0.0
        self.wrong, self.about, self.seconds = dict(wrong), about, seconds
        monkeypatch.setattr(device_check.time, "monotonic", lambda: self.now)

    def ask(self, request, limit, hurried):
        part = request["part"]
        if part == "device":
            return dict(self.about)
        name = device_check.Task(part, dict(request)).name
        self.asked.append(name)
        self.limits.append(limit)
        self.now += self.seconds
        wrong = self.wrong.get(name, self.wrong.get(part))
        if isinstance(wrong, BaseException):
            raise wrong
        return dict(wrong or {"status": "done", **ANSWERS[part]})


def options(*arguments):
    return device_check.parser().parse_args(["--workdir=w", "--runs=1,0", *arguments])


def checked(folder, device, *arguments):
    check = device_check.Check(folder, options(*arguments), device.ask)
    check.run()
    return check


def oks(report):
    return {verdict.part: verdict.ok for verdict in device_table.verdicts(report)}


def test_everything_is_asked_once_and_the_table_says_it_all(tmp_path, monkeypatch, capsys):
    device = FakeDevice(monkeypatch)
    check = checked(tmp_path, device)
    assert device.asked[0] == "kill" and len(set(device.asked)) == len(device.asked)
    # What matters most first: the usual way at the planned wave, and nothing of another number of runs before all ways.
    trained = [name for name in device.asked if name.startswith("train/")]
    assert trained[:2] == ["train/100/vmap:xla", "train/1/vmap:xla"] and len(trained) == 6
    check.close()
    out, err = capsys.readouterr()
    assert (tmp_path / "device_check.md").read_text() + "\n" == out
    assert "| training, fastest: 100 runs as vmap:xla | 100 run-steps/s, 49.5 TFLOP/s, 10.0% of the peak |" in out
    assert "| train | 1 | unroll:xla | 8 | 100 | 49.5 | 10.0% | 60.0 |" in out
    assert (
        "| save and restore | 2 GB of 16 runs, saved in 5.0 s, restored in 3.0 s, equal | equal bit for bit | yes |"
        in out
    )
    assert "NO" not in out and "peak 495 TFLOP/s a device" in out
    assert "train/1/vmap:matmul (" in err and "0 not ok" in err


def test_a_planned_wave_takes_its_microbatch_and_other_numbers_of_runs_do_not():
    tasks = {task.name: task for task in device_check.plan(ABOUT, options("--runs=1,16,0"), device_check.ROOT)}
    assert [tasks[f"train/{runs}/vmap:xla"].request["microbatch"] for runs in (1, 16, 100)] == [0, 0, 8]


def test_a_failing_part_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    wrong = {
        "golden/default/vmap:xla": {"status": "failed", "note": "XlaRuntimeError: no | algorithm"},
        "train/100/unroll:xla": {"status": "out of memory", "note": ""},
    }
    device = FakeDevice(monkeypatch, wrong)
    report = checked(tmp_path, device).report
    assert oks(report)["golden/default/vmap:xla"] is False and oks(report)["train/100/unroll:xla"] is None
    text = device_table.markdown(report)
    assert "| golden/default/vmap:xla | failed: XlaRuntimeError: no / algorithm | done | NO |" in text
    assert "| train | 100 | unroll:xla | | out of memory | | | |" in text
    assert "save and restore" in oks(report) and "sampling, 1 run as vmap:xla" in oks(report)


def test_a_device_that_does_not_start_is_a_row(tmp_path, monkeypatch):
    device = FakeDevice(monkeypatch, about={"status": "failed", "note": "RuntimeError: no device"})
    check = checked(tmp_path, device)
    assert device.asked == [] and "| device | failed: RuntimeError: no device |" in check.write()


def test_a_second_start_goes_on_and_tries_again_what_failed(tmp_path, monkeypatch):
    wrong = {
        "golden": {"status": "failed", "note": "broken"},
        "train/1/vmap:xla": {"status": "out of memory", "note": ""},
        "sample/100/vmap:xla": KeyboardInterrupt(),
    }
    with pytest.raises(KeyboardInterrupt):
        checked(tmp_path, FakeDevice(monkeypatch, wrong))
    assert "train/100/vmap:xla" in json.loads((tmp_path / "device_check.json").read_text())["rows"]
    device = FakeDevice(monkeypatch)
    report = checked(tmp_path, device).report
    assert device.asked[:3] == ["golden/float32/vmap:xla", "golden/default/vmap:xla", "sample/100/vmap:xla"]
    assert not {"kill", "train/100/vmap:xla", "train/1/vmap:xla"} & set(device.asked)
    assert False not in oks(report).values() and len(report["starts"]) == 2


def test_a_folder_of_another_device_is_refused_and_stays_as_it_is(tmp_path, monkeypatch):
    checked(tmp_path, FakeDevice(monkeypatch))
    before = commands.snapshot(tmp_path)
    with pytest.raises(UserError, match=r"holds a check with device_kind NVIDIA H100.*here it is TPU v5 lite; take"):
        checked(tmp_path, FakeDevice(monkeypatch, about=ABOUT | {"device_kind": "TPU v5 lite"}))
    assert commands.snapshot(tmp_path) == before


def test_the_time_is_kept_and_what_it_does_not_suffice_for_is_said(tmp_path, monkeypatch):
    device = FakeDevice(monkeypatch, seconds=100.0)
    report = checked(tmp_path, device, "--minutes=15").report
    # No task is asked that is expected to end too late, and none may take all the time.
    assert device.now <= 15 * 60 and max(device.limits) == pytest.approx(0.4 * 15 * 60)
    assert device.limits[-1] <= 15 * 60 - 100.0 * (len(device.asked) - 1)
    rows = report["rows"]
    # 100 copies of a program would take 100 times as long to compile; what comes later is still done.
    assert rows["train/100/unroll:xla"]["status"] == "skipped"
    assert rows["train/100/unroll:xla"]["note"].startswith("needs about 3 h")
    assert f"{len(rows) - len(device.asked)} of {len(rows)} parts skipped (" in device_table.markdown(report)


@pytest.mark.parametrize(
    ("rates", "known", "auto"),
    [
        ({"vmap:xla": 100.0, "vmap:matmul": 99.0}, True, True),
        ({"vmap:xla": 90.0, "vmap:matmul": 100.0}, False, True),
        ({"vmap:xla": 100.0, "vmap:matmul": 90.0}, True, False),
    ],
)
def test_a_plan_that_is_not_the_fastest_is_told(tmp_path, monkeypatch, rates, known, auto):
    wrong = {f"train/100/{way}": {"status": "done", **ANSWERS["train"], "rate": rate} for way, rate in rates.items()}
    report = checked(tmp_path, FakeDevice(monkeypatch, wrong), "--layouts=vmap:xla,vmap:matmul").report
    found = oks(report)
    assert (found["engine.plan=known, 100 runs"], found["engine.plan=auto, 100 runs"]) == (known, auto)


def test_numbers_beyond_their_tolerance_and_different_bits_are_told(tmp_path, monkeypatch):
    differences = ANSWERS["golden"]["differences"] | {"gradient": 2e-4, "loss": float("nan")}
    wrong = {
        "golden": {"status": "done", "differences": differences},
        "kill": {"status": "done", "killed_at": 4, "last": 40, "equal": False, "repeatable": False},
        "memory": {"status": "done", **ANSWERS["memory"], "peak": 50e9},
    }
    report = checked(tmp_path, FakeDevice(monkeypatch, wrong)).report
    text = device_table.markdown(report)
    assert "| 6 of 8 numbers within tolerance; beyond: loss, gradient | all | NO |" in text  # float32
    assert "| 7 of 8 numbers within tolerance; beyond: loss | all | NO |" in text
    assert "killed at step 4 of 40, different; so are two undisturbed trainings | equal bit for bit | NO |" in text
    assert oks(report)["memory, 100 runs as vmap:xla"] is False


def test_shares_are_of_the_given_peak_or_of_the_matmul_speed(tmp_path, monkeypatch):
    report = checked(tmp_path, FakeDevice(monkeypatch), "--peak=99").report
    row = report["rows"]["train/100/vmap:xla"]
    assert device_table.share(report, row) == pytest.approx(0.5)
    unknown = {**report, "options": {"peak": 0.0}, "about": ABOUT | {"device_kind": "another"}}
    assert device_table.share(unknown, row | {"devices": 2}) == pytest.approx(49.5 / 800)
    assert "of the matmul speed" in device_table.markdown(unknown)
    kinds = ("TPU v5 lite", "TPU v5", "NVIDIA A100-SXM4-80GB", "cpu")
    assert [device_table.peak_of(kind) for kind in kinds] == [197e12, 459e12, 156e12, None]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "workdir is not given"),
        (["--workdir=w", "--parts=fast"], "parts = 'fast': must be among kill, "),
        (
            ["--workdir=w", "--layouts=vmap"],
            "layouts = 'vmap': must be one of vmap, map, unroll, loop, a colon and",
        ),
        (["--workdir=w", "--runs=-1"], "needs numbers of at least 1"),
        (["--workdir=w", "--minutes=0"], "minutes = 0.0: must be above 0"),
        (["--workdir=w", "--seconds=nan"], "seconds = nan: must be above 0"),
        (["--workdir=w", "--peak=-1"], "peak = -1.0: must be TFLOP/s"),
        (["--workdir=w", "--config=signal"], "config = 'signal': must name a scale, for example signal:paper"),
        (["--workdir=w", "--config=signla:paper"], "config = 'signla': must be a study"),
    ],
)
def test_bad_arguments(arguments, line):
    with pytest.raises(UserError) as error:
        device_check.main(arguments)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_report_is_one_line(tmp_path):
    (tmp_path / "device_check.json").write_text('{"rows": ')
    with pytest.raises(UserError, match="is damaged .*remove it"):
        device_check.Check(tmp_path, options(), None)


SCRIPT = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["part"] == "crash":
        os._exit(3)
    if request["part"] == "hang":
        time.sleep(600)
    answer = {"status": "done", "process": os.getpid(), "platforms": os.environ.get("JAX_PLATFORMS")}
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    monkeypatch.setattr(device_check, "WORKER", (sys.executable, str(script)))
    worker = device_check.Worker(tmp_path)
    yield worker
    worker.stop()


def test_a_process_that_crashes_or_hangs_is_an_answer_and_the_next_one_is_new(worker):
    first = worker.ask({"part": "train"}, 60.0)
    assert worker.ask({"part": "sample"}, 60.0) == first
    assert worker.ask({"part": "crash"}, 60.0) == {"status": "failed", "note": "its process ended with exit code 3"}
    second = worker.ask({"part": "train"}, 60.0)
    assert second["status"] == "done" and second["process"] != first["process"]
    assert worker.ask({"part": "hang"}, 0.3) == {"status": "skipped", "note": "stopped after 0 s"}
    assert worker.ask({"part": "train"}, 60.0)["process"] not in (first["process"], second["process"])


def test_memory_and_kill_have_processes_of_their_own(worker, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    answers = [worker.ask({"part": part}, 60.0) for part in ("train", "memory", "memory", "kill", "train")]
    processes = [answer["process"] for answer in answers]
    assert processes[1] == processes[2] and len(set(processes)) == 4
    assert [answer["platforms"] for answer in answers] == ["cuda", "cuda", "cuda", "cpu", "cuda"]


# On the CPU of the test.


@pytest.fixture
def narrow(tmp_path):
    """A study whose network compiles fastest."""
    file = tmp_path / "narrow.py"
    file.write_text(
        textwrap.dedent("""
        from cspace_jax.studies import signal

        def get_config(scale):
            config = signal.get_config(scale)
            config.network.channels, config.network.groups, config.network.attention = (4,), 2, False
            return config
        """)
    )
    return f"{file}:smoke"


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_the_command_measures_every_part_on_a_cpu(tmp_path, narrow, monkeypatch, capsys):
    def ask(self, request, limit, hurried):
        assert hurried
        return device_parts.carry_out(request)

    monkeypatch.setattr(device_check.Worker, "ask", ask)
    arguments = [f"--workdir={tmp_path}", f"--config={narrow}", "--parts=memory,train,sample,save,auto", "--runs=2"]
    device_check.main([*arguments, "--layouts=loop:canonical", "--seconds=0.01"])
    report = json.loads((tmp_path / "device_check.json").read_text())
    rows = report["rows"]
    assert {row["status"] for row in rows.values()} == {"done"}, rows
    assert set(rows) == {f"{part}/2/loop:canonical" for part in ("memory", "train", "sample", "save")} | {
        "auto/4/loop:winograd"
    }
    assert rows["train/2/loop:canonical"]["rate"] > 0 and rows["sample/2/loop:canonical"]["flops"] > 0
    saved = rows["save/2/loop:canonical"]
    assert saved["equal"] and saved["runs"] == 2 and saved["bytes"] > 1000
    assert rows["memory/2/loop:canonical"]["peak"] is None and "not told by the backend" in capsys.readouterr().out
    assert not (tmp_path / "save").exists()


def test_a_study_of_pictures_is_opened_and_its_fields_can_be_overridden(tmp_path, monkeypatch):
    """Every script that measures a device or a compiler opens the source itself."""
    faces.write_folder(tmp_path, 40, seed=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given = [f"--config.data.path={tmp_path}", "--config.grid.seeds=(3,)", "--config.optim.batch_size=4"]
    options = device_check.parser().parse_with_overrides(["--workdir=w", "--config=images:smoke", *given])
    asked = []
    device_check.Check(
        tmp_path, options, lambda request, *_: asked.append(request) or {"status": "failed", "note": ""}
    ).run()
    about = device_parts.carry_out(asked[0])
    assert about["status"] == "done" and about["wave"] == 1, about
    task = device_check.plan(about, options, tmp_path)[-1]
    config = device_parts.study(json.loads(json.dumps({**task.request, "runs": 2, "way": ""})))
    assert (config.optim.batch_size, config.data.path, config.grid.seeds) == (4, str(tmp_path), (0, 1))
    assert source_of(config.data).real
    gone = device_parts.carry_out({"part": "device", "config": "images:smoke", "overrides": {"data.path": "/no/where"}})
    assert gone["status"] == "failed" and gone["note"] == "data.path = '/no/where': no such folder"


@pytest.mark.parametrize("script", [memory_check.main, tpu_check.run])
def test_other_scripts_open_the_source_too(script, monkeypatch):
    monkeypatch.setattr(tpu_check, "_chip", lambda topology: pytest.fail("it was not opened"))
    arguments = ["--config=images:smoke", "--config.data.path=/no/where", "--runs=1"]
    with pytest.raises(UserError, match="data.path = '/no/where': no such folder"):
        script([*arguments, "--inside"] if script is memory_check.main else arguments)
    with pytest.raises(UserError, match="--config.data.path must have a value"):
        script(["--config=images:smoke", "--config.data.path"])


def test_a_part_that_fails_is_an_answer_of_one_line(monkeypatch):
    def fail(request):
        raise RuntimeError("first\nsecond " + "x" * 200)

    monkeypatch.setitem(device_parts.PARTS, "train", fail)
    answer = device_parts.carry_out({"part": "train"})
    assert answer["status"] == "failed" and answer["note"].startswith("RuntimeError: first second x")
    assert len(answer["note"]) == 160


# The state comes last, as in a training: it is what the kill waits for.
COPY = """
import shutil, sys, time
def own_state(folder, names):
    return ["state"] if folder.endswith("wave_000") else []
shutil.copytree(sys.argv[1], sys.argv[2], ignore=own_state)
state = "/checkpoints/wave_000/state"
shutil.copytree(sys.argv[1] + state, sys.argv[2] + "/state_being_copied")
shutil.move(sys.argv[2] + "/state_being_copied", sys.argv[2] + state)
time.sleep(600)
"""


@pytest.mark.filterwarnings(r"ignore:the load_module\(\) method is deprecated:DeprecationWarning")
def test_a_training_is_killed_goes_on_and_is_compared_bit_for_bit(tmp_path, monkeypatch):
    """The first training is a real command, the one to be killed a process that leaves a copy of its workdir."""
    train_and_kill, folders = device_kill._train_and_kill, []

    def train(line, environment):
        folders.append(line[-1].partition("=")[2])
        if len(folders) == 1:
            done = commands.command(*line[3:])
            assert done.code == 0, done.err

    def kill(line, environment, workdir):
        return train_and_kill([sys.executable, "-c", COPY, folders[0], str(workdir)], environment, workdir)

    monkeypatch.setattr(device_kill, "_train", train)
    monkeypatch.setattr(device_kill, "_train_and_kill", kill)
    shorter = [f"--config.{change}" for change in ("optim.steps=6", "save.start=2", "save.count=2")]
    found = device_kill.kill_and_resume(tmp_path / "kill", "cpu", (*device_kill.ARGUMENTS, *shorter))
    assert found == {"killed_at": 6, "last": 6, "equal": True}
    assert [pathlib.Path(folder).name for folder in folders] == ["straight", "killed"]
    assert not (tmp_path / "kill").exists()


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_difference_after_a_kill_is_held_against_a_second_undisturbed_training(tmp_path, monkeypatch, repeatable):
    monkeypatch.setattr(device_kill, "_train", lambda line, environment: None)
    monkeypatch.setattr(device_kill, "_train_and_kill", lambda line, environment, workdir: 4)
    monkeypatch.setattr(device_kill, "_last_state", lambda workdir: 40)
    monkeypatch.setattr(device_kill, "equal", lambda first, second: second.name == "again" and repeatable)
    found = device_kill.kill_and_resume(tmp_path, None)
    assert found == {"killed_at": 4, "last": 40, "equal": False, "repeatable": repeatable}


def test_bits_are_compared():
    tree = {"a": np.float32([0.0, np.nan]), "b": [1, 2.0]}
    assert device_kill.same_bits(tree, {"a": np.float32([0.0, np.nan]), "b": [1, 2.0]})
    for other in ({"a": np.float32([-0.0, np.nan])}, {"a": np.float64([0.0, np.nan])}, {"b": [1]}, {"b": [1, 2.5]}):
        assert not device_kill.same_bits(tree, tree | other)


def test_a_training_that_fails_or_ends_too_soon_is_told(tmp_path):
    with pytest.raises(UserError, match="ended with exit code 3: nothing on standard error"):
        device_kill._train([sys.executable, "-c", "raise SystemExit(3)"], {})
    with pytest.raises(UserError, match="ended with exit code 0 before it could be killed"):
        device_kill._train_and_kill([sys.executable, "-c", ""], {}, tmp_path)
