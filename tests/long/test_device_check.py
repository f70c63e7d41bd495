"""The check of a device: table, order, time, failures and second starts without one; its parts on a CPU."""

import json

import commands
import pytest

from cspace_jax.errors import UserError
from experiments import device_check, device_table, golden
from experiments.golden import TOLERANCES, differences

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


# On the CPU of the test.


def test_the_check_of_a_device_finds_no_number_beyond_its_tolerance():
    found = differences("float32", "xla")
    assert found.keys() == TOLERANCES.keys()
    assert [name for name, (allowed, _) in TOLERANCES.items() if not found[name] <= allowed] == []
