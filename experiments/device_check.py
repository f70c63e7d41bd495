"""Check everything on the device at hand in under 15 minutes: numbers, speed, memory, saves, a kill and resume.

    python -m experiments.device_check --workdir=runs/device
    python -m experiments.device_check --workdir=runs/device --minutes=30 --peak=989
    python -m experiments.device_check --workdir=runs/device --config=signal:smoke --runs=1,0 --layouts=loop:canonical
    python -m experiments.device_check --workdir=runs/faces --config=celeba:paper --config.data.path=CELEBA

Every part runs in a process of its own (experiments/device_parts.py), never two at once, so that a crash, a hang or a
lack of memory is one row of the table and the others go on. Each answer is kept in WORKDIR/device_check.json, so the
same command goes on after an interruption: it tries again what failed or was skipped. WORKDIR/device_check.md holds the
table, compiled programs are kept in WORKDIR/xla. What the columns mean: docs/devices.md.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cspace_jax.cli import scripts
from cspace_jax.config.schema import CONVOLUTIONS, RUN_PLANS
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic, writing
from cspace_jax.studies import loading
from cspace_jax.text import minutes
from experiments import device_table, golden

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ("kill", "memory", "golden", "train", "sample", "save", "auto")
ANSWERS, TABLE = "device_check.json", "device_check.md"  # in WORKDIR
OWN_PROCESS = ("device", "kill", "memory")  # a peak of memory is that of a process; a killed training needs the device
WORKER = (sys.executable, "-m", "experiments.device_parts")
LONGEST_SHARE = 0.4  # of the time, for one task
SECONDS = 1.0  # of a turn of measurement
KEPT = ("done", "out of memory")  # answers that a second start does not ask for again


@dataclasses.dataclass(frozen=True)
class Task:
    """One question to the device: what `device_parts.PARTS` is asked."""

    part: str
    request: dict[str, Any]

    @property
    def name(self) -> str:
        """Return PART/DETAIL/..., such as train/16/vmap:xla."""
        details = (self.request.get(field) for field in ("precision", "runs", "way"))
        return "/".join([self.part, *(str(detail) for detail in details if detail)])

    @property
    def copies(self) -> int:
        """Return how many copies of a run's program are compiled."""
        return self.request["runs"] if str(self.request.get("way", "")).startswith("unroll") else 1


def plan(about: Mapping[str, Any], options: Any, folder: pathlib.Path) -> list[Task]:
    """Return the tasks, what matters most first: time may not suffice for all."""
    wave, known = about["wave"], about["known"]
    counts = list(dict.fromkeys(runs or wave for runs in options.runs))
    ways = options.layouts or about["ways"]

    def ask(part: str, runs: int, way: str = known, **more: Any) -> Task:
        microbatch = about["microbatch"] if runs == wave else 0
        fields = {
            "config": about["config"],
            "overrides": about.get("overrides", {}),
            "runs": runs,
            "way": way,
            "microbatch": microbatch,
        }
        return Task(part, {"part": part, **fields, "seconds": options.seconds, **more})

    most, *fewer = sorted(counts, reverse=True)
    least = min(counts)
    first = known if known in ways else ways[0]
    tasks = [
        Task("kill", {"part": "kill", "folder": str(folder / "kill"), "platforms": os.environ.get("JAX_PLATFORMS")}),
        *(Task("golden", {"part": "golden", "precision": one, "way": first}) for one in golden.PRECISIONS),
        ask("train", most, first),
        ask("train", least, first),
        ask("sample", most, first),
        ask("save", most, first, folder=str(folder / "save")),
        # When the programs are compiled, since a GPU's compiler tries algorithms in the same memory.
        *(ask("memory", runs, first) for runs in dict.fromkeys((least, most))),
        *(ask("train", most, way) for way in ways),
        ask("auto", wave),
        *(ask("train", runs, way) for way in ways for runs in reversed(fewer)),
        ask("sample", least, first),
    ]
    return list({task.name: task for task in tasks if task.part in options.parts}.values())


class Worker:
    """A process that answers requests; a new one is started for another kind of task and after a failure."""

    def __init__(self, folder: pathlib.Path):
        self._cache = folder / "xla"
        self._process: subprocess.Popen | None = None
        self._for: Any = None

    def ask(self, request: Mapping[str, Any], limit: float, hurried: bool = False) -> dict[str, Any]:
        """Return the answer, or why there is none after at most `limit` seconds; `hurried` as in device_parts."""
        process = self._running((request["part"] in OWN_PROCESS and request["part"], hurried))
        assert process.stdin is not None and process.stdout is not None
        overran = threading.Event()

        def end() -> None:
            overran.set()
            _kill_group(process)

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            text = process.stdout.readline()
        finally:
            timer.cancel()
        if text.endswith("\n"):
            answer = json.loads(text)
        elif overran.is_set():
            answer = {"status": "skipped", "note": f"stopped after {minutes(limit)}"}
        else:
            answer = {"status": "failed", "note": f"its process ended with exit code {process.wait()}"}
        if answer["status"] not in KEPT:
            self.stop()
        return answer

    def _running(self, kind: Any) -> subprocess.Popen:
        if self._process is None or kind != self._for:
            self.stop()
            self._for = kind
            line = [*WORKER, *(["--hurried"] if kind[1] else [])]
            streams: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            environment = self._environment(kind[0])
            self._process = subprocess.Popen(line, env=environment, start_new_session=True, **streams)
        return self._process

    def _environment(self, part: Any) -> dict[str, str]:
        kept = {"JAX_COMPILATION_CACHE_DIR": str(self._cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
        environment = {**kept, **os.environ, "PYTHONPATH": str(ROOT)}
        # The trainings that are killed have the device; what they leave is compared on the CPU.
        return environment | ({"JAX_PLATFORMS": "cpu"} if part == "kill" else {})

    def stop(self) -> None:
        """End the process and free the device."""
        process, self._process = self._process, None
        if process is not None:
            _kill_group(process)
            process.communicate()


def _kill_group(process: subprocess.Popen) -> None:
    """Kill a process that leads a group, with those it started: a training may hold the device."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Check:
    """The answers of a check so far, written to disk after each of them.

    Args:
      folder: of the report.
      options: the command line.
      ask: answers (request, limit in seconds, hurried), as `Worker.ask`.
    """

    def __init__(self, folder: pathlib.Path, options: Any, ask: Callable[..., dict[str, Any]]):
        self._folder, self._options, self._ask = folder, options, ask
        self._started = time.monotonic()
        self.report: dict[str, Any] = {"about": {}, "starts": [], "rows": {}, **self._read()}
        self.report["options"] = {"peak": options.peak}

    def _read(self) -> dict[str, Any]:
        file = self._folder / ANSWERS
        if not file.exists():
            return {}
        try:
            found = json.loads(file.read_text())
            return {name: found[name] for name in ("about", "starts", "rows")}
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{file}: is damaged ({error}); remove it to start anew") from error

    def run(self) -> None:
        """Carry out what is not done yet, as long as time suffices."""
        about = self._about()
        if about["status"] == "done":
            self._same(about)
            self.report["about"] = about
            self.report["rows"].pop("device", None)
        start = {"time": datetime.datetime.now().isoformat(timespec="seconds"), "command": shlex.join(sys.orig_argv)}
        self.report["starts"].append(start | {"commit": about.get("commit")})
        if about["status"] != "done":
            return self._keep("device", {}, about)
        self.write()
        tasks = plan(about, self._options, self._folder)
        waiting = [task for task in tasks if self.report["rows"].get(task.name, {}).get("status") not in KEPT]
        for i, task in enumerate(waiting):
            self._carry_out(task, waiting[i:])

    def _about(self) -> dict[str, Any]:
        request = {"part": "device", "config": self._options.config, "overrides": self._options.overrides}
        about = self._ask(request, self._left(), _hurried(request["config"]))
        if about["status"] == "done" and _hurried(about["config"]) and not _hurried(request["config"]):
            about = self._ask({**request, "config": about["config"]}, self._left(), True)
        return about

    def _same(self, about: dict[str, Any]) -> None:
        """Check that the folder holds nothing that another device, study or JAX gave.

        Raises:
          UserError: it holds such a report.
        """
        before = self.report["about"]
        for field in ("device_kind", "device_count", "config", "fingerprint", "versions") if before else ():
            if before[field] != about[field]:
                found, now = (str(one[field])[:80] for one in (before, about))
                what = f"holds a check with {field} {found}, here it is {now}"
                raise UserError(f"workdir = {str(self._folder)!r}: {what}; take another folder")

    def _carry_out(self, task: Task, waiting: Sequence[Task]) -> None:
        left, needs = self._left(), self._expected(task)
        if left <= 0 or needs > left:
            note = f"needs about {minutes(needs)}, {minutes(max(left, 0.0))} left" if needs else "no time left"
            return self._keep(task.name, task.request, {"status": "skipped", "note": note})
        expected = min(left, sum(map(self._expected, waiting)))
        eta = f", about {minutes(expected)} left" if expected else ""
        used = minutes(time.monotonic() - self._started)
        say(f"{used} of {self._options.minutes:g} min: {task.name} ({len(waiting)} to do{eta})")
        limit = min(left, max(60.0, LONGEST_SHARE * 60 * self._options.minutes))
        started = time.monotonic()
        answer = self._ask(task.request, limit, _hurried(self.report["about"]["config"]))
        self._keep(task.name, task.request, answer | {"seconds": round(time.monotonic() - started, 1)})

    def _left(self) -> float:
        return 60 * self._options.minutes - (time.monotonic() - self._started)

    def _expected(self, task: Task) -> float:
        """Return the seconds that a task is expected to take.

        They are those of the longest task of its kind that was done, times its copies; 0 if none was done yet.
        """
        kind = "train" if task.part == "auto" else task.part
        done = [row for name, row in self.report["rows"].items() if name.split("/")[0] == kind and "seconds" in row]
        return task.copies * max((row["seconds"] for row in done if row["status"] == "done"), default=0.0)

    def _keep(self, name: str, request: Mapping[str, Any], answer: dict[str, Any]) -> None:
        if answer["status"] not in KEPT:
            say(f"{name}: {answer['status']}, {answer['note']}")
        asked = {field: request[field] for field in ("runs", "way", "precision") if field in request}
        self.report["rows"][name] = {**asked, **answer}
        self.write()

    def write(self) -> str:
        """Write the report and its table, and return the table."""
        write_atomic(self._folder / ANSWERS, json.dumps(self.report, indent=1))
        text = device_table.markdown(self.report)
        write_atomic(self._folder / TABLE, text)
        return text

    def close(self) -> None:
        """Print the table, and on standard error how it ended."""
        print(self.write())
        say(device_table.summary(self.report, time.monotonic() - self._started))


def _hurried(config: str) -> bool:
    """Return whether programs are compiled in a hurry, as the main command does at smoke scale."""
    return config.endswith(":smoke")


def say(text: str) -> None:
    """Report progress on standard error."""
    print(f"device_check: {text}", file=sys.stderr, flush=True)


def parser() -> scripts.Parser:
    """Return the command line."""
    parser = scripts.Parser(prog="python -m experiments.device_check", description=(__doc__ or "").partition("\n")[0])
    names, numbers = scripts.comma_separated(str), scripts.comma_separated(int)
    parser.add_argument("--workdir", help="folder of the report")
    parser.add_argument("--config", default="", help="study and scale; '' = signal:paper, on a CPU signal:smoke")
    parser.set_defaults(overrides={})  # --config.FIELD=VALUE
    parser.add_argument("--parts", type=names, default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--runs", type=numbers, default="1,4,16,0", help="numbers of runs; 0 = the planned wave")
    parser.add_argument(
        "--layouts", type=names, default="", help="LAYOUT:CONVOLUTION, such as vmap:xla; '' = usual ones"
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="time for everything; what is left is skipped")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each of three turns of a speed")
    parser.add_argument("--peak", type=float, default=0.0, help="TFLOP/s of one device; 0 = that of a known device")
    return parser


def _check_arguments(options: Any) -> None:
    if not options.workdir:
        raise UserError("workdir is not given: must be the path of a folder, for example --workdir=runs/device")
    if options.config and ":" not in options.config:  # asking for the usual scale would start the device here
        raise UserError(f"config = {options.config!r}: must name a scale, for example {options.config}:paper")
    if options.config:
        loading.configure(options.config, options.overrides)
    for part in options.parts or ("",):
        if part not in PARTS:
            raise UserError(f"parts = {part!r}: must be among {', '.join(PARTS)}")
    for way in options.layouts:
        layout, _, convolution = way.partition(":")
        if layout not in RUN_PLANS[1:] or convolution not in CONVOLUTIONS[1:]:
            allowed = f"one of {', '.join(RUN_PLANS[1:])}, a colon and one of {', '.join(CONVOLUTIONS[1:])}"
            raise UserError(f"layouts = {way!r}: must be {allowed}")
    if not options.runs or min(options.runs) < 0:
        raise UserError(f"runs = {options.runs}: needs numbers of at least 1, or 0 for the planned wave")
    for name, most in (("minutes", 10_000), ("seconds", 600)):
        if not 0 < getattr(options, name) < most:
            raise UserError(f"{name} = {getattr(options, name)}: must be above 0 and below {most}")
    if not 0 <= options.peak < 1e6:
        raise UserError(f"peak = {options.peak}: must be TFLOP/s of one device, or 0")


def main(arguments: Sequence[str]) -> None:
    """Carry out the check, print its table and write everything.

    Raises:
      UserError: bad arguments, or a folder that holds another check.
    """
    options = parser().parse_with_overrides(arguments)
    _check_arguments(options)
    folder = pathlib.Path(options.workdir).absolute()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    worker = Worker(folder)
    check = Check(folder, options, worker.ask)
    try:
        check.run()
    finally:
        worker.stop()
    check.close()


if __name__ == "__main__":
    scripts.start(main)
