"""Disturb a study by the hundred: signals, full or failing disks, jumping clocks, damaged files.

    python -m experiments.torture --workdir=runs/torture --hours=1 --seed=0
    python -m experiments.torture --workdir=runs/torture --faults=20 --kinds=damage

What is disturbed is a study, with and without the training of its probe and in two processes, its training alone, its
evaluation, its figures, its extension by a run and by steps, or steps trained again (`torture_bench.py`). Each fault
ends with the same command, undisturbed. Allowed is what the undisturbed command leaves, to the byte (table, dataset,
training log but for its times, last states), or, where a file was damaged, one line that says so. All else is a
failure, which is shown and kept in WORKDIR/failed. The moments and damages follow from the seed; what a moment meets
also depends on the machine: the command says which stage it is in (`torture_traced.py`), and most signals go into the
stage that was met least. WORKDIR/torture.md holds the tables by kind and by stage, WORKDIR/faults.jsonl a line for each
fault. Exit code 1 if there was a failure.
"""

import collections
import contextlib
import io
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic
from cspace_jax.text import minutes
from experiments import torture_bench, torture_damages, torture_stages
from experiments.torture_bench import PAIR, Bench, Failure, Job, compare, last_line, one_line

SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
SOON = 30.0  # seconds in which SIGTERM must have ended the command
FIRST_SECONDS = 0.3  # of Python itself, in which nothing can be said yet
LAST_WORDS = ("the study as a page", "runs are in")  # of a command: what is left is the end of Python itself
AIMED = 0.75  # of the signals go into the stage that was met least, the others meet any moment
SMALLEST_DISK_KB = 40
DONE = "done"
SAME, NAMED, MISSED = "same results", "one line", "without effect"


def _any_job(bench: Bench, rng: np.random.Generator) -> tuple[str, Job]:
    """Return a command and its name."""
    weights = np.array([job.weight for job in bench.jobs.values()])
    name = str(rng.choice(list(bench.jobs), p=weights / weights.sum()))
    return name, bench.jobs[name]


def _job_to_aim_at(bench: Bench, rng: np.random.Generator) -> tuple[str, Job]:
    """Return a command that passes one of the stages which signals met least, and its name."""
    passed = {stage for job in bench.jobs.values() for stage in job.stages} & set(torture_stages.STAGES)
    least = min((bench.hits[stage] for stage in passed), default=0)
    rare = {stage for stage in passed if bench.hits[stage] == least}
    jobs = {name: job.weight for name, job in bench.jobs.items() if not rare or rare & set(job.stages)}
    weights = np.array(list(jobs.values()))
    name = str(rng.choice(list(jobs), p=weights / weights.sum()))
    return name, bench.jobs[name]


def interrupted(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Send one to three signals to a command, and to the commands that go on.

    They come at any moments, or into rare stages.

    Raises:
      Failure: a command ends as it must not.
    """
    name, job = _job_to_aim_at(bench, rng)
    job.begin(folder)
    said, codes = [], []
    for _ in range(rng.integers(1, 4)):
        signal_, moment = str(rng.choice(list(SIGNALS))), float(rng.uniform(0.0, 1.05 * job.seconds))
        aim = torture_stages.aim(job.stages, bench.hits, rng) if rng.random() < AIMED else None
        codes.append(_disturb(bench.start(job, folder), SIGNALS[signal_], aim or moment, bench))
        said.append(f"{signal_} {aim or f'after {moment:.2f} s'}: {codes[-1]}")
    what = f"{name}: {'; '.join(said)}"
    with _told(what):
        bench.finish(job, folder)
    return what, SAME if any(codes) else MISSED


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Let a failure say what was disturbed."""
    try:
        yield
    except Failure as failure:
        raise Failure(f"{what}: {failure}") from failure


def _disturb(
    running: subprocess.Popen, number: signal.Signals, when: float | torture_stages.Aim, bench: Bench | None = None
) -> int:
    """Send a signal to a command after some seconds, or in a stage, and return its exit code.

    The stage that the signal met is counted in `bench`.

    Raises:
      Failure: the code is neither 0 nor that of the signal, there is a traceback, or the command ends too late.
    """
    began, delay = time.monotonic(), when.delay if isinstance(when, torture_stages.Aim) else when
    while isinstance(when, torture_stages.Aim) and bench is not None and running.poll() is None:
        if when.is_entered(bench.trace):
            break
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        out, err = running.communicate(timeout=delay)
        if running.returncode:
            raise Failure(f"ended by itself with {running.returncode}: {last_line(err or out)}")
        return 0
    if bench is not None:  # before the signal, of which the command may say something
        bench.met.append(bench.trace.now)
        bench.hits[bench.met[-1]] += 1
    running.send_signal(number)
    sent = time.monotonic()
    moment = sent - began
    out, err = running.communicate()
    at_an_end = moment < FIRST_SECONDS or any(words in out for words in LAST_WORDS)  # Python itself starts or ends
    allowed = {0, CODES[number]} | ({-number} if at_an_end else set())
    if running.returncode not in allowed:
        raise Failure(f"{number.name} after {moment:.2f} s: exit code {running.returncode}: {last_line(err)}")
    if "Traceback" in err and not at_an_end:
        raise Failure(f"{number.name} after {moment:.2f} s: a traceback: {' | '.join(err.splitlines())[-1000:]}")
    if number == signal.SIGTERM and time.monotonic() - sent > SOON:
        raise Failure(f"SIGTERM after {moment:.2f} s: it took {time.monotonic() - sent:.0f} s")
    return running.returncode


def full(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Give the workdir a disk of its own of drawn size, then one that is large enough.

    Most drawn sizes are too small for the command.

    Raises:
      Failure: a command ends as it must not.
    """
    name, job = _any_job(bench, rng)
    with _disk_of_its_own(folder):
        job.begin(folder / "w")
        taken = shutil.disk_usage(folder).used // 1024
        size = taken + int(rng.integers(SMALLEST_DISK_KB, max(_kilobytes(job.straight) - taken, 0) * 5 // 4 + 100))
        subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True)
        what = f"{name}: {size - taken} kB are free"
        with _told(what):
            came = _refused_or_done(bench.start(job, folder / "w"), job, bench)
            subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
            bench.finish(job, folder / "w")
    return f"{what}: {came}", SAME if came != DONE else MISSED


def read_only(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Give a command a workdir that nobody may write, then one that may be written.

    Raises:
      Failure: the first command ends as if it had written, or one ends as it must not.
    """
    name, job = _any_job(bench, rng)
    with _disk_of_its_own(folder):
        job.begin(folder / "w")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        with _told(name):
            came = _refused_or_done(bench.start(job, folder / "w"), job, bench)
            if came == DONE:
                raise Failure("it ended as if it had written")
            subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
            bench.finish(job, folder / "w")
    return f"{name}: {came}", SAME


@contextlib.contextmanager
def _disk_of_its_own(folder: pathlib.Path) -> Iterator[None]:
    """Make a folder a disk in memory; after a failure what it holds stays in the folder, to be kept."""
    rest = folder.with_name("rest")
    shutil.rmtree(rest, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", folder], check=True)
    try:
        yield
    except Failure:
        shutil.copytree(folder, rest)
        raise
    finally:
        subprocess.run(["umount", folder], check=True)
        if rest.exists():
            folder.rmdir()
            rest.rename(folder)


def _kilobytes(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024


def _refused_or_done(running: subprocess.Popen, job: Job, bench: Bench) -> str:
    """Wait for a command and return what came of it: its one line of refusal, or `DONE`.

    Raises:
      Failure: its exit code is neither 0 nor 2, or its refusal is not one line a process.
    """
    _, err = running.communicate()
    if running.returncode:
        bench.met.append(bench.trace.now)
    if running.returncode not in (0, 2):
        raise Failure(f"exit code {running.returncode}: {last_line(err)}")
    return one_line(err, 2 if job.module == PAIR else 1) if running.returncode else DONE


def failing_disk(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Let calls that write, or read, the workdir fail with an input/output error: one, some or all from one on.

    Raises:
      Failure: a command ends as it must not.
    """
    name, job = _any_job(bench, rng)
    job.begin(folder)
    reads, count = bool(rng.integers(2)), int(rng.choice((1, 10, 10**9)))
    first = int(rng.integers(torture_bench.calls(bench, job, reads)))
    what = f"{name}: {count} {'reading' if reads else 'writing'} calls from {first} on fail"
    running = bench.start(job, folder, **torture_bench.failing(bench, folder, reads, first, count))
    with _told(what):
        came = _refused_or_done(running, job, bench)
        bench.finish(job, folder)
    return f"{what}: {came}", SAME if came != DONE else MISSED


def jumping_clock(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Let the clock of the day jump at any moment of the command.

    It jumps by up to a year, back or forth.

    Raises:
      Failure: the command ends as it must not.
    """
    name, job = _any_job(bench, rng)
    job.begin(folder)
    jump = int(rng.choice((-1, 1)) * 10 ** rng.uniform(0.0, 7.5))
    moment = float(rng.uniform(0.0, job.seconds))
    shim = {"LD_PRELOAD": str(bench.shim), "TORTURE_AFTER": f"{moment:.3f}", "TORTURE_JUMP": str(jump)}
    running = bench.start(job, folder, **shim)
    _, err = running.communicate()
    bench.met.append(bench.trace.at(moment))
    what = f"{name}: {jump:+d} s after {moment:.2f} s"
    with _told(what):
        # What JAX has between processes goes by that clock.
        if running.returncode and job.module == PAIR and "fault of cspace_jax" not in err:
            bench.finish(job, folder)
        elif running.returncode:
            raise Failure(f"exit code {running.returncode}: {last_line(err)}")
        compare(folder, job.straight, job.table, job.logs)
    return what, SAME


def damage(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Damage a file or a checkpoint of a finished or half-finished workdir, then give a command that works in it."""
    name, job = _any_job(bench, rng)
    begun = job.straight if job.module == PAIR else job.origin or bench.half  # two processes cut into other waves
    origin = (job.straight, begun)[int(rng.integers(2))]
    shutil.copytree(origin, folder)
    kinds = collections.defaultdict(list)  # most files are parts of checkpoints: a kind is chosen first
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kinds[path.relative_to(folder).parts[0], path.suffix].append(path)
    kinds["checkpoints", "a step"] = sorted(folder.rglob("checkpoints/*/*/[0-9]*"))
    files = list(kinds.values())[int(rng.integers(len(kinds)))]
    target = files[int(rng.integers(len(files)))]
    damages = torture_damages.FOLDER_DAMAGES if target.is_dir() else torture_damages.DAMAGES
    bench.met.append(torture_stages.of_file(target.relative_to(folder)))
    how = str(rng.choice(list(damages)))
    damages[how](target, rng)
    return go_on(job, folder, f"{name}: {target.relative_to(folder)} {how} in {origin.name}")


def go_on(job: Job, folder: pathlib.Path, what: str) -> tuple[str, str]:
    """Give a command in a damaged workdir, in this process.

    Raises:
      Failure: it ends as it must not.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            job.call(folder)
    except UserError as error:
        if "\n" in str(error):
            raise Failure(f"{what}: not one line: {error}") from error
        return f"{what}: {error}", NAMED
    except Exception as error:
        raise Failure(f"{what}: {type(error).__name__}: {last_line(str(error))}") from error
    try:
        compare(folder, job.straight, job.table, job.logs)
    except Failure as failure:
        for words in (r"\S+config\.json is not what .*", r"\S+metrics\.jsonl: .*"):
            of_a_log = "metrics" in words
            if (named := re.search(words, said.getvalue())) and (not of_a_log or "metrics.jsonl" in str(failure)):
                return f"{what}: {named[0]}", NAMED
        raise Failure(f"{what}: in silence {failure}") from failure
    return what, SAME


KINDS: dict[str, Callable[[Bench, np.random.Generator, pathlib.Path], tuple[str, str]]] = {
    "signals": interrupted,
    "full disk": full,
    "read-only disk": read_only,
    "disk errors": failing_disk,
    "clock": jumping_clock,
    "damage": damage,
}


def faults(bench: Bench, kinds: Sequence[str], seed: int) -> Iterator[dict[str, str]]:
    """Carry out fault after fault without end; yields what each was and what came of it."""
    for number, kind in zip(itertools.count(), itertools.cycle(_in_turn(kinds))):
        folder = bench.root / "fault"
        bench.met.clear()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            what, found = KINDS[kind](bench, np.random.default_rng((seed, number)), folder)
        except Failure as failure:
            what, found = str(failure), "failure"
            kept = bench.root / "failed" / f"{seed}_{number}"
            shutil.rmtree(kept, ignore_errors=True)
            if folder.exists():
                shutil.copytree(folder, kept)
        met = "; ".join(bench.met) or torture_stages.NONE
        yield {"number": str(number), "kind": kind, "found": found, "stages": met, "what": what}


def _in_turn(kinds: Sequence[str]) -> list[str]:
    """Return the kinds with a damage, which takes a tenth of the time, after each of the others."""
    others = [kind for kind in kinds if kind != "damage"]
    if "damage" not in kinds or not others:
        return list(kinds)
    return [one for kind in others for one in (kind, "damage")]


def table(rows: Sequence[dict[str, str]], command: str) -> str:
    """Return the count of faults by kind and by what came of them, and every failure, as Markdown."""
    counts = collections.Counter((row["kind"], row["found"]) for row in rows)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    header = (
        "| fault | tried | same results | refused in one line | met nothing | failed |",
        "|---|---|---|---|---|---|",
    )
    lines = [f"`{command}`", "", *header]
    for kind in kinds:
        found = [counts[kind, name] for name in (SAME, NAMED, MISSED, "failure")]
        lines.append(f"| {kind} | {sum(found)} | {' | '.join(map(str, found))} |")
    lines += ["", *(f"- {row['kind']} {row['number']}: {row['what']}" for row in rows if row["found"] == "failure")]
    return "\n".join(lines).rstrip() + f"\n\nFaults by stage:\n\n{torture_stages.table(rows)}"


def _usable(kinds: Sequence[str]) -> list[str]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"kinds = {unknown[0]!r}: must be of {', '.join(KINDS)}")
    disks = ("full disk", "read-only disk") if os.geteuid() else ()
    out: dict[str, str] = dict.fromkeys(disks, "only root may mount one")
    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        out |= dict.fromkeys(("disk errors", "clock"), "they need Linux and a C compiler (cc)")
    for kind in kinds:
        if kind in out:
            print(f"{kind}: left out, since {out[kind]}")
    return [kind for kind in kinds if kind not in out]


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: a flag has a value that is not allowed, or the undisturbed study fails.
      SystemExit: with code 1, as there was a failure.
    """
    parser = scripts.Parser(prog="python -m experiments.torture", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, help="folder of all studies, of the table and of the failures")
    parser.add_argument("--hours", type=float, default=1.0, help="of faults, from the end of the undisturbed commands")
    parser.add_argument("--faults", type=int, default=0, help="most faults; 0 = as many as the time allows")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and damages")
    parser.add_argument("--kinds", type=scripts.comma_separated(str), default=tuple(KINDS), help=", ".join(KINDS))
    flags = parser.parse_args(arguments)
    kinds, root = _usable(flags.kinds), pathlib.Path(flags.workdir).absolute()
    if not kinds or flags.faults < 0 or flags.hours <= 0:
        raise UserError("faults, hours and kinds: must leave something to do")
    root.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, also by what we start
    bench = torture_bench.prepare(root)
    until, rows = time.monotonic() + 3600 * flags.hours, []
    print("undisturbed:", ", ".join(f"{name} {minutes(job.seconds)}" for name, job in bench.jobs.items()), flush=True)
    command = f"python -m experiments.torture --hours={flags.hours:g} --seed={flags.seed} --kinds={','.join(kinds)}"
    with (root / "faults.jsonl").open("w") as log, tqdm(total=flags.faults or None, unit="fault") as bar:
        made = faults(bench, kinds, flags.seed)
        while time.monotonic() < until and len(rows) < (flags.faults or math.inf):
            rows.append(row := next(made))
            log.write(json.dumps(row) + "\n")
            log.flush()
            bar.update()
            if row["found"] == "failure":
                bar.write(f"FAILED {row['kind']} {row['number']}: {row['what']}")
            write_atomic(root / "torture.md", table(rows, command))
    print(table(rows, command))
    if any(row["found"] == "failure" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    scripts.start(run)
