"""The targets of `experiments.torture`: real commands, and the workdirs that they end in, undisturbed."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import cspace_jax as cs
from cspace_jax.errors import UserError
from cspace_jax.storage import checkpoint, results
from cspace_jax.storage.file_names import CONFIG, DATASET, METRICS, TABLE
from cspace_jax.storage.metrics import read_metrics
from experiments import narrow
from experiments.torture_stages import Trace

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The smallest study that passes every stage, with many saves, so that any moment can be in one of them.
STUDY = (
    "--config=signal:smoke",
    "--config.grid.seeds=(0,)",
    "--config.optim.steps=40",
    "--config.optim.log_every=3",
    "--config.save.start=4",
    "--config.save.count=8",
    "--config.figures=('fig4',)",
    "--config.evaluate.losses=False",
    *narrow.FLAGS,
    "--config.engine.state_seconds=0.0",
    "--config.elicit.protocols=('overprompt',)",
    "--config.elicit.samples=2",
    "--config.elicit.overprompt=(1.0,)",
)
PAIR = "experiments.torture_pair"  # carries out a command in two processes
ADDED = {"seeds": (100,), "steps": 48}
STEPS = (6, 10, 33)


class Failure(Exception):
    """A fault after which something else was found than is allowed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that is disturbed.

    Attributes:
      arguments: its command line without the workdir.
      call: the same from Python, a function of the workdir.
      origin: the workdir that it begins with; None = a new one.
      straight: the workdir that it ends in, undisturbed.
      table: that it writes.
      logs: whether the training log is its business.
      weight: how often it is disturbed, against the others.
      module: that carries out the command line.
      seconds: how long it takes.
      stages: seconds of each stay in each of its stages.
    """

    arguments: tuple[str, ...]
    call: Callable[[pathlib.Path], Any]
    origin: pathlib.Path | None
    straight: pathlib.Path
    table: str = TABLE
    logs: bool = True
    weight: float = 1.0
    module: str = "experiments.torture_traced"
    seconds: float = 0.0
    stages: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)

    def begin(self, folder: pathlib.Path) -> None:
        """Make the workdir that the command begins with."""
        if self.origin is not None:
            shutil.copytree(self.origin, folder)


@dataclasses.dataclass(frozen=True)
class Bench:
    """The commands, workdirs and counts that all faults share.

    Attributes:
      root: folder of everything.
      jobs: by name the commands that are disturbed.
      half: workdir of a study that was ended in the middle of training.
      shim: library that makes calls of the system fail (`torture_shim.c`); None where it could not be compiled.
      counts: of such calls so far (`calls`).
      met: stages that the present fault met.
      hits: how often signals met each stage.
    """

    root: pathlib.Path
    jobs: dict[str, Job]
    half: pathlib.Path
    shim: pathlib.Path | None = None
    counts: dict[tuple[pathlib.Path, bool], int] = dataclasses.field(default_factory=dict)
    met: list[str] = dataclasses.field(default_factory=list)
    hits: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @property
    def trace(self) -> Trace:
        """Return what the command that was started last says of its stages."""
        return Trace(self.root / "trace")

    def start(self, job: Job, folder: pathlib.Path, **more: str) -> subprocess.Popen:
        """Start a command in a workdir, with more variables of its environment."""
        line = [sys.executable, "-m", job.module, *job.arguments, f"--workdir={folder}"]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.root / "xla"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        ours = {"PYTHONPATH": str(ROOT), "CSPACE_JAX_RESTARTED": "1", "TORTURE_TRACE": str(self.trace.path)}
        environment = {**os.environ, **cache, **ours, **more}
        self.trace.path.unlink(missing_ok=True)
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, job: Job, folder: pathlib.Path) -> None:
        """Carry out a command to its end, and compare with the undisturbed workdir.

        Raises:
          Failure: the command fails, or the workdirs differ.
        """
        running = self.start(job, folder)
        out, err = running.communicate()
        if running.returncode:
            raise Failure(f"the command that goes on ended with {running.returncode}: {last_line(err or out)}")
        compare(folder, job.straight, job.table, job.logs)


def compare(folder: pathlib.Path, straight: pathlib.Path, table: str = TABLE, logs: bool = True) -> None:
    """Check that a workdir holds what an undisturbed one holds: a table, a dataset, training logs, states.

    Raises:
      Failure: something differs.
    """
    if _content(folder / table) != _content(straight / table):
        raise Failure(f"{table} differs")
    stored = table == TABLE and (straight / DATASET).exists()
    if stored and not results.open_results(folder).identical(results.open_results(straight)):
        raise Failure(f"{DATASET} differs")
    for log in straight.rglob(METRICS) if logs else ():
        if _log(folder / log.relative_to(straight)) != _log(log):
            raise Failure(f"{log.relative_to(straight)} differs")
    if rests := [path.name for path in folder.rglob("*.tmp")]:
        raise Failure(f"rests are left: {rests[0]}")
    for state in straight.rglob("checkpoints/*/state/*"):
        _compare_state(folder / state.relative_to(straight), state)


def _content(path: pathlib.Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _compare_state(ours: pathlib.Path, theirs: pathlib.Path) -> None:
    """Check that no state that can be read differs; one that is damaged is refused wherever it is used.

    Raises:
      Failure: a state differs.
    """
    step = int(theirs.name)
    if step not in checkpoint.steps(ours.parent) or not checkpoint.is_intact(ours.parent, step):
        return
    if len({checkpoint.checksums(one.parent, step).tobytes() for one in (ours, theirs)}) > 1:
        raise Failure(f"state {step} differs")


def _log(path: pathlib.Path) -> dict[tuple[int, int], Mapping[str, Any]]:
    return {(row["run"], row["step"]): {**row, "steps_per_second": 0} for row in read_metrics(path)}


def last_line(text: str) -> str:
    """Return the last line of a text, at most 200 characters of it."""
    return (text.strip().splitlines() or [""])[-1][:200]


def one_line(err: str, most: int = 1) -> str:
    """Return the line of a refusal, which each of at most `most` processes says; progress bars are let pass.

    Raises:
      Failure: something else is said, or nothing.
    """
    told = ("error:", "Traceback", " ") if most == 1 else ("error:", "Traceback")  # JAX's abort of a process is long
    said = [line for line in err.replace("\r", "\n").splitlines() if line.startswith(told)]
    refused = [line for line in said if line.startswith("error: ") and "fault of cspace_jax" not in line]
    if not 1 <= len(said) <= most or refused != said:
        raise Failure(f"not one line: {' | '.join(said)[:300]}")
    return said[0]


def _jobs(root: pathlib.Path) -> dict[str, Job]:
    """Return the commands that are disturbed, by name."""
    return {**_jobs_that_begin(root), **_jobs_that_go_on(root)}


def _jobs_that_begin(root: pathlib.Path) -> dict[str, Job]:
    """Return the commands that begin with a new workdir."""
    arguments = (*STUDY, f"--config.probe.cache_dir={root / 'probe'}")
    straight, own = root / "straight", root / "own_probe"

    def study(one: pathlib.Path) -> Any:
        return cs.run(_config(straight), one)

    def train(one: pathlib.Path) -> Any:
        return cs.run(_config(straight), one, "train")

    return {
        "study": Job(arguments, study, None, straight, weight=2.0),
        "study and its probe": Job(STUDY, lambda one: cs.run(_config(own), one), None, own),
        "train": Job(("--mode=train", *arguments), train, None, root / "trained", CONFIG),
        "in two processes": Job(arguments, study, None, root / "in_two", module=PAIR),
    }


def _jobs_that_go_on(root: pathlib.Path) -> dict[str, Job]:
    """Return the commands that begin with the workdir of another."""
    straight, trained = root / "straight", root / "trained"
    more = ("--mode=extend", f"--config.grid.seeds={ADDED['seeds']}", f"--config.optim.steps={ADDED['steps']}")
    again = ("--mode=replay", f"--steps={STEPS}")

    def elicit(one: pathlib.Path) -> Any:
        return cs.run(None, one, "elicit")

    def draw(one: pathlib.Path) -> Any:
        return cs.run(None, one, "figures")

    def extend(one: pathlib.Path) -> Any:
        return cs.open_study(one).extend(**ADDED)

    def replay(one: pathlib.Path) -> Any:
        return cs.open_study(one).replay(STEPS)

    return {
        "evaluate and elicit": Job(("--mode=elicit",), elicit, trained, root / "elicited"),
        "figures": Job(("--mode=figures",), draw, straight, root / "drawn", "figures/fig4.png", logs=False),
        "extend": Job(more, extend, straight, root / "extended"),
        "replay": Job(again, replay, straight, root / "replayed", "added_steps.csv"),
    }


def prepare(root: pathlib.Path) -> Bench:
    """Carry out all commands undisturbed, and the study once up to a SIGTERM in the middle of training.

    Raises:
      UserError: one of them fails.
    """
    jobs = _jobs(root)
    bench = Bench(root, jobs, root / "half", _shim(root))
    for name, job in jobs.items():
        seconds = _undisturbed(bench, job)
        jobs[name] = dataclasses.replace(job, seconds=seconds, stages=bench.trace.lasted())
    _interrupt(bench)
    return bench


def _undisturbed(bench: Bench, job: Job) -> float:
    """Carry out a command twice, and return the seconds of the second, which finds all programs compiled."""
    began = 0.0
    for folder in (job.straight, bench.root / "again"):
        shutil.rmtree(folder, ignore_errors=True)
        job.begin(folder)
        began = time.monotonic()
        running = bench.start(job, folder)
        out, err = running.communicate()
        if running.returncode:
            raise UserError(f"an undisturbed command ended with {running.returncode}: {last_line(err or out)}")
    seconds = time.monotonic() - began
    compare(bench.root / "again", job.straight, job.table)
    shutil.rmtree(bench.root / "again")
    return seconds


def _interrupt(bench: Bench) -> None:
    shutil.rmtree(bench.half, ignore_errors=True)
    running = bench.start(bench.jobs["study"], bench.half)
    while running.poll() is None and not list(bench.half.glob("checkpoints/*/params/*")):
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate()


def _config(workdir: pathlib.Path) -> cs.Config:
    return cs.open_study(workdir).config


def _shim(root: pathlib.Path) -> pathlib.Path | None:
    """Compile the library that makes calls of the system fail; None without a C compiler or off Linux."""
    library = root / "shim.so"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        source = pathlib.Path(__file__).with_name("torture_shim.c")
        line = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"]
        subprocess.run(line, check=True, capture_output=True)
        return library
    return None


def calls(bench: Bench, job: Job, reads: bool) -> int:
    """Return how many calls that read, or write, an undisturbed command makes under its workdir; counted once.

    Raises:
      UserError: the command fails.
    """
    if (job.straight, reads) in bench.counts:
        return bench.counts[job.straight, reads]
    folder = bench.root / "again"
    shutil.rmtree(folder, ignore_errors=True)
    job.begin(folder)
    assert bench.shim is not None, "the shim was compiled"
    running = bench.start(job, folder, **failing(bench, folder, reads, 0, 0))
    _, err = running.communicate()
    if running.returncode:
        raise UserError(f"a command whose calls are counted ended with {running.returncode}: {last_line(err)}")
    shutil.rmtree(folder)
    bench.counts[job.straight, reads] = int(np.frombuffer((bench.root / "counter").read_bytes(), np.int64)[0])
    return bench.counts[job.straight, reads]


def failing(bench: Bench, folder: pathlib.Path, reads: bool, first: int, count: int) -> dict[str, str]:
    """Return the environment in which some calls that read, or write, a folder fail with an input/output error."""
    counter = bench.root / "counter"
    counter.write_bytes(bytes(8))
    numbers = {"TORTURE_READS": int(reads), "TORTURE_FIRST": first, "TORTURE_COUNT": count}
    names = {"LD_PRELOAD": str(bench.shim), "TORTURE_ROOT": str(folder), "TORTURE_COUNTER": str(counter)}
    return names | {name: str(value) for name, value in numbers.items()}
