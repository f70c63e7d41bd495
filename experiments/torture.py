"""Disturb a study by the hundred: signals at any moment, full disks, damaged files. What may come of it: its results.

    python -m experiments.torture --workdir=runs/torture --hours=1 --seed=0
    python -m experiments.torture --workdir=runs/torture --faults=20 --kinds=damage

Each fault begins with an empty workdir or with a copy of a finished or half-finished one, and ends with the study's own
command. Allowed is the undisturbed study, to the byte (table, training log but for its times, last states), or, where a
file was damaged, one line that says so. All else is a failure, which is shown and kept in WORKDIR/failed. The moments
and damages follow from the seed; what a moment meets also depends on the machine. WORKDIR/torture.md holds the table,
WORKDIR/faults.jsonl a line for each fault. Exit code 1 if there was a failure.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

import cspace_jax as cs
from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from cspace_jax.storage import checkpoint
from cspace_jax.storage.files import write_atomic
from cspace_jax.storage.metrics import read_metrics
from cspace_jax.text import minutes

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The smallest study that passes every stage, with many saves, so that any moment can be in one of them.
STUDY = (
    *("--config=signal:smoke", "--config.grid.seeds=(0,)", "--config.optim.steps=40", "--config.optim.log_every=3"),
    *("--config.save.start=4", "--config.save.count=8", "--config.figures=('fig4',)", "--config.evaluate.losses=False"),
    *("--config.network.channels=(4,)", "--config.network.groups=2", "--config.network.attention=False"),
    *("--config.probe.channels=(4,)", "--config.probe.groups=2", "--config.probe.heads=2"),
    *("--config.probe.out_channels=4", "--config.engine.state_seconds=0.0"),
    *("--config.elicit.protocols=('overprompt',)", "--config.elicit.samples=2", "--config.elicit.overprompt=(1.0,)"),
)
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
SOON = 30.0  # seconds in which SIGTERM must have ended the command
FIRST_SECONDS = 0.3  # of Python itself, in which nothing can be said yet
LAST_WORDS = "the study as a page"  # of a command: what is left is the end of Python itself
SMALLEST_DISK_KB = 40
SAME, NAMED = "same results", "one line"


class Failure(Exception):
    """A fault after which something else was found than is allowed."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all faults share.

    Attributes:
      root: folder of everything.
      arguments: the study's command line without its workdir.
      straight: workdir of the undisturbed study.
      half: workdir of one that was ended in the middle of training.
      seconds: what the undisturbed command took.
    """

    root: pathlib.Path
    arguments: tuple[str, ...]
    straight: pathlib.Path
    half: pathlib.Path
    seconds: float

    def start(self, folder: pathlib.Path) -> subprocess.Popen:
        """Start the study's command in a workdir."""
        line = [sys.executable, "-m", "cspace_jax.main", *self.arguments, f"--workdir={folder}"]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(self.root / "xla"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = {**os.environ, **cache, "PYTHONPATH": str(ROOT), "CSPACE_JAX_RESTARTED": "1"}
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, folder: pathlib.Path) -> None:
        """Carry out the study's command to its end, and compare with the undisturbed study."""
        running = self.start(folder)
        out, err = running.communicate()
        if running.returncode:
            raise Failure(f"the command that goes on ended with {running.returncode}: {_last_line(err or out)}")
        self.compare(folder)

    def compare(self, folder: pathlib.Path) -> None:
        """Raise Failure unless a workdir holds what that of the undisturbed study holds."""
        tables = {(one / "concept_space.csv").read_bytes() for one in (folder, self.straight)}
        if len(tables) > 1:
            raise Failure("concept_space.csv differs")
        if _log(folder) != _log(self.straight):
            raise Failure("metrics.jsonl differs")
        if rests := [path.name for path in folder.rglob("*.tmp")]:
            raise Failure(f"rests are left: {rests[0]}")
        for state in (self.straight / "checkpoints").glob("*/state/*"):
            self._compare_state(folder / state.relative_to(self.straight), state)

    def _compare_state(self, ours: pathlib.Path, theirs: pathlib.Path) -> None:
        """Raise Failure if a state that can be read differs; one that is damaged is refused wherever it is used."""
        step = int(theirs.name)
        if step not in checkpoint.steps(ours.parent) or not checkpoint.is_intact(ours.parent, step):
            return
        if len({checkpoint.checksums(one.parent, step).tobytes() for one in (ours, theirs)}) > 1:
            raise Failure(f"state {step} differs")


def _log(folder: pathlib.Path) -> dict[tuple[int, int], dict]:
    rows = read_metrics(folder / "metrics.jsonl")
    return {(row["run"], row["step"]): {**row, "steps_per_second": 0} for row in rows}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:200]


def _one_line(err: str) -> str:
    """Return the line of a refusal; raises Failure for anything more, progress bars apart."""
    said = [line for line in err.replace("\r", "\n").splitlines() if line.startswith(("error:", "Traceback", " "))]
    if len(said) != 1 or not said[0].startswith("error: ") or "fault of cspace_jax" in said[0]:
        raise Failure(f"not one line: {' | '.join(said)[:300]}")
    return said[0]


def interrupted(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Send one to three signals to the command at any moments, also to the commands that go on."""
    said = []
    for _ in range(rng.integers(1, 4)):
        name, moment = str(rng.choice(list(SIGNALS))), float(rng.uniform(0.0, 1.05 * bench.seconds))
        said.append(f"{name} after {moment:.2f} s: {_disturb(bench, folder, SIGNALS[name], moment)}")
    bench.finish(folder)
    return "; ".join(said), SAME


def _disturb(bench: Bench, folder: pathlib.Path, number: signal.Signals, moment: float) -> int:
    """Send a signal to the command after some seconds; return its exit code, which must be that of the signal."""
    running = bench.start(folder)
    with contextlib.suppress(subprocess.TimeoutExpired):
        out, err = running.communicate(timeout=moment)
        if running.returncode:
            raise Failure(f"ended by itself with {running.returncode}: {_last_line(err or out)}")
        return 0
    running.send_signal(number)
    sent = time.monotonic()
    out, err = running.communicate()
    at_an_end = moment < FIRST_SECONDS or LAST_WORDS in out  # Python itself starts or ends
    allowed = {0, CODES[number]} | ({-number} if at_an_end else set())
    if running.returncode not in allowed:
        raise Failure(f"{number.name} after {moment:.2f} s: exit code {running.returncode}: {_last_line(err)}")
    if "Traceback" in err and not at_an_end:
        raise Failure(f"{number.name} after {moment:.2f} s: a traceback: {_last_line(err)}")
    if number == signal.SIGTERM and time.monotonic() - sent > SOON:
        raise Failure(f"SIGTERM after {moment:.2f} s: it took {time.monotonic() - sent:.0f} s")
    return running.returncode


def full(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Give the workdir a disk of its own that is too small, then one that is large enough."""
    needed = sum(path.stat().st_size for path in bench.straight.rglob("*") if path.is_file()) // 1024
    size = int(rng.integers(SMALLEST_DISK_KB, needed + needed // 4))
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", folder], check=True)
    try:
        running = bench.start(folder / "w")
        _, err = running.communicate()
        what = _one_line(err) if running.returncode == 2 else f"exit code {running.returncode}"
        if running.returncode not in (0, 2):
            raise Failure(f"a disk of {size} kB: {what}: {_last_line(err)}")
        subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
        bench.finish(folder / "w")
    finally:
        subprocess.run(["umount", folder], check=True)
    return f"{size} kB: {what}", SAME


def damage(bench: Bench, rng: np.random.Generator, folder: pathlib.Path) -> tuple[str, str]:
    """Damage a file of a finished or half-finished workdir, then give the study's command."""
    origin = (bench.straight, bench.half)[int(rng.integers(2))]
    shutil.copytree(origin, folder)
    kinds = collections.defaultdict(list)  # most files are parts of checkpoints: a kind is chosen first
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kinds[path.relative_to(folder).parts[0], path.suffix].append(path)
    files = list(kinds.values())[int(rng.integers(len(kinds)))]
    target, name = files[int(rng.integers(len(files)))], str(rng.choice(list(DAMAGES)))
    DAMAGES[name](target, rng)
    return _go_on(bench, folder, f"{target.relative_to(folder)} {name} in {origin.name}")


def _go_on(bench: Bench, folder: pathlib.Path, what: str) -> tuple[str, str]:
    """Give the study's command in a damaged workdir, in this process; raises Failure for what is not allowed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            cs.run(_config(bench), folder)
    except UserError as error:
        if "\n" in str(error):
            raise Failure(f"{what}: not one line: {error}") from error
        return f"{what}: {error}", NAMED
    except Exception as error:
        raise Failure(f"{what}: {type(error).__name__}: {_last_line(str(error))}") from error
    try:
        bench.compare(folder)
    except Failure as failure:
        if named := re.search(r"\S+: line \d+.* damaged; .*", said.getvalue()):
            return f"{what}: {named[0]}", NAMED
        raise Failure(f"{what}: in silence {failure}") from failure
    return what, SAME


def _flip(path: pathlib.Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(content))


def _swap(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Take the content of another file of the same kind, such as that of the next step."""
    others = [p for p in sorted(path.parent.parent.rglob(f"*{path.suffix}")) if p.is_file() and p != path]
    path.write_bytes(others[int(rng.integers(len(others)))].read_bytes() if others else b"")


def _folder(path: pathlib.Path, _: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[pathlib.Path, np.random.Generator], Any]] = {
    "emptied": lambda path, _: path.write_bytes(b""),
    "cut in half": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "with a flipped bit": _flip,
    "with the content of a neighbour": _swap,
    "replaced by a folder": _folder,
    "removed": lambda path, _: path.unlink(),
}
KINDS: dict[str, Callable[[Bench, np.random.Generator, pathlib.Path], tuple[str, str]]] = {
    "signals": interrupted,
    "full disk": full,
    "damage": damage,
}


def _config(bench: Bench) -> cs.Config:
    return cs.open_study(bench.straight).config


def prepare(root: pathlib.Path) -> Bench:
    """Carry out the study twice: undisturbed, and up to a SIGTERM in the middle of training."""
    arguments = (*STUDY, f"--config.probe.cache_dir={root / 'probe'}")
    bench = Bench(root, arguments, root / "straight", root / "half", 0.0)
    for folder in (bench.straight, root / "again"):  # the second finds all programs compiled, as all faults do
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        running = bench.start(folder)
        out, err = running.communicate()
        if running.returncode:
            raise UserError(f"the undisturbed study ended with {running.returncode}: {_last_line(err or out)}")
    bench = dataclasses.replace(bench, seconds=time.monotonic() - began)
    bench.compare(root / "again")
    shutil.rmtree(root / "again")
    shutil.rmtree(bench.half, ignore_errors=True)
    running = bench.start(bench.half)
    while running.poll() is None and not list(bench.half.glob("checkpoints/*/params/*")):
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate()
    return bench


def faults(bench: Bench, kinds: Sequence[str], seed: int) -> Iterator[dict[str, str]]:
    """Carry out fault after fault without end; yields what each was and what came of it."""
    for number, kind in zip(itertools.count(), itertools.cycle(kinds)):
        folder = bench.root / "fault"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            what, found = KINDS[kind](bench, np.random.default_rng((seed, number)), folder)
        except Failure as failure:
            what, found = str(failure), "failure"
            kept = bench.root / "failed" / f"{seed}_{number}"
            shutil.rmtree(kept, ignore_errors=True)
            if folder.exists():
                shutil.copytree(folder, kept)
        yield {"number": str(number), "kind": kind, "found": found, "what": what}


def table(rows: Sequence[dict[str, str]], command: str) -> str:
    """Return the count of faults by kind and by what came of them, and every failure, as Markdown."""
    counts = collections.Counter((row["kind"], row["found"]) for row in rows)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    header = ("| fault | tried | same results | refused in one line | failed |", "|---|---|---|---|---|")
    lines = [f"`{command}`", "", *header]
    for kind in kinds:
        found = [counts[kind, name] for name in (SAME, NAMED, "failure")]
        lines.append(f"| {kind} | {sum(found)} | {' | '.join(map(str, found))} |")
    lines += ["", *(f"- {row['kind']} {row['number']}: {row['what']}" for row in rows if row["found"] == "failure")]
    return "\n".join(lines).rstrip() + "\n"


def _usable(kinds: Sequence[str]) -> list[str]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UserError(f"kinds = {unknown[0]!r}: must be of {', '.join(KINDS)}")
    if "full disk" in kinds and os.geteuid():
        print("full disk: left out, since only root may mount a small one")
    return [kind for kind in kinds if kind != "full disk" or not os.geteuid()]


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: a flag has a value that is not allowed, or the undisturbed study fails.
      SystemExit: with code 1, as there was a failure.
    """
    parser = scripts.Parser(prog="python -m experiments.torture", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, help="folder of all studies, of the table and of the failures")
    parser.add_argument("--hours", type=float, default=1.0, help="no fault begins after that time")
    parser.add_argument("--faults", type=int, default=0, help="most faults; 0 = as many as the time allows")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and damages")
    parser.add_argument("--kinds", type=scripts.comma_separated(str), default=tuple(KINDS), help=", ".join(KINDS))
    flags = parser.parse_args(arguments)
    kinds, root = _usable(flags.kinds), pathlib.Path(flags.workdir).absolute()
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # as the command does at smoke scale
    if not kinds or flags.faults < 0 or flags.hours <= 0:
        raise UserError("faults, hours and kinds: must leave something to do")
    root.mkdir(parents=True, exist_ok=True)
    until, rows = time.monotonic() + 3600 * flags.hours, []
    bench = prepare(root)
    print(f"the undisturbed study takes {minutes(bench.seconds)}", flush=True)
    command = f"python -m experiments.torture --hours={flags.hours:g} --seed={flags.seed} --kinds={','.join(kinds)}"
    with (root / "faults.jsonl").open("w") as log, tqdm(total=flags.faults or None, unit="fault") as bar:
        for row in itertools.islice(faults(bench, kinds, flags.seed), flags.faults or None):
            rows.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            bar.update()
            if row["found"] == "failure":
                bar.write(f"FAILED {row['kind']} {row['number']}: {row['what']}")
            write_atomic(root / "torture.md", table(rows, command))
            if time.monotonic() > until:
                break
    print(table(rows, command))
    if any(row["found"] == "failure" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    scripts.start(run)
