"""Speed of a grid of runs against plain PyTorch: training, sampling, cost by number of runs, compilation.

    python -m experiments.benchmark --workdir=runs/benchmark
    python -m experiments.benchmark --workdir=runs/benchmark --settings=quick --parts=train,sample --rounds=3
    python -m experiments.benchmark --workdir=runs/benchmark --backend=gpu --settings=paper

Needs the extra `bench` (PyTorch). The peer is the same network, loss, optimiser and sampler in PyTorch
(experiments/torch_baseline.py), as one process after another with all threads, and on a CPU also as parallel processes
of one thread each; before anything is timed, both must give the same output and loss on shared weights. All variants
are started once and then measured in turns, so that a slow minute of the machine hits all of them; the table shows
medians with the smallest and the largest rate. A ratio is the median over rounds of ours over the best peer's.

Settings: quick (the network of configs/signal.py:quick, 6 runs), medium (32x32, channels 16/32/64, batch 32, 4 runs),
paper (the network of configs/signal.py:paper, 2 runs), smoke (numbers mean nothing); --runs sets another number of
runs. Parallel PyTorch processes are a peer of a single run too, although they train two. Written to WORKDIR:
benchmark.json, benchmark.md, benchmark.png.
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = {"quick": 6, "medium": 4, "paper": 2, "smoke": 2}  # name -> runs of the grid
PARTS = ("train", "sample", "scaling")
SCALING = (1, 2, 4, 8, 16)
TOLERANCE = 1e-4


class Variant:
    """One or several worker processes that are measured together."""

    def __init__(self, name: str, worker: str, setting: str, backend: str, processes: int = 1, cache: str = ""):
        self.name, self.rates = name, {}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if cache:
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
        line = [sys.executable, "-m", "experiments.benchmark_workers", worker, setting, backend]
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)
            for _ in range(processes)
        ]
        self.about = [self._read(process) for process in self._processes][0]

    def _read(self, process: subprocess.Popen) -> dict[str, Any]:
        text = process.stdout.readline()  # type: ignore[union-attr]
        if not text:
            raise UserError(f"benchmark: the worker of {self.name} stopped with exit code {process.wait()}")
        return json.loads(text)

    def request(self, what: str, count: int) -> tuple[int, float]:
        """Return how much all processes did together, and the seconds it took."""
        started = time.perf_counter()
        for process in self._processes:
            process.stdin.write(f"{what} {count}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        done = sum(self._read(process)["done"] for process in self._processes)
        return done, time.perf_counter() - started

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait()


Requests = dict[str, tuple[Variant, str]]  # row of the table -> who is asked for what


def in_turns(requests: Requests, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure rates per second of all rows in turns, each turn about `seconds` long after one to warm up."""
    counts = {}
    for name, (variant, what) in requests.items():
        variant.request(what, 1)
        count, took = 1, variant.request(what, 1)[1]
        if took < seconds / 4:
            count = max(1, int(seconds / 4 / took))
            took = variant.request(what, count)[1] / count
        counts[name] = max(1, round(seconds / took))
    rates: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, (variant, what) in requests.items():
            done, took = variant.request(what, counts[name])
            rates[name].append(done / took)
    return rates


def measure(setting: str, runs: int, parts: Sequence[str], backend: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure a grid of `runs` runs: rates by part and variant, ratios, share of the matmul speed, compile times."""
    say(f"{setting}: outputs and losses of both implementations")
    result: dict[str, Any] = {"setting": setting, "runs": runs, "difference": _check(setting)}
    with tempfile.TemporaryDirectory() as cache:
        counts = [runs, *(SCALING if "scaling" in parts else ())]
        say(f"{setting}: starting the workers (compilation)")
        ours = Variant("cspace_jax", f"jax:{','.join(map(str, dict.fromkeys(counts)))}", setting, backend, cache=cache)
        again = Variant("cspace_jax", f"jax:{runs}", setting, backend, cache=cache)
        again.stop()
        result |= {"about": ours.about, "second_start_seconds": again.about["compile_seconds"]}
        peers = _peers(setting, backend)
        try:
            result["rates"] = _rates(ours, peers, parts, rounds, seconds)
            result["peak_flops"] = ours.request("gemm", rounds)[0]
            result["torch"] = peers[0].about["version"]
        finally:
            for variant in (ours, *peers):
                variant.stop()
    return result | _ratios(result)


def _check(setting: str) -> dict[str, float]:
    line = [sys.executable, "-m", "experiments.benchmark_workers", "check", setting, "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run(line, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    if answer.returncode:
        raise UserError("benchmark: PyTorch's side cannot be run; it needs the extra bench: pip install -e '.[bench]'")
    difference = json.loads(answer.stdout)
    if max(difference.values()) > TOLERANCE:
        raise UserError(
            f"benchmark: the implementations differ on shared weights, {difference}: must be <= {TOLERANCE}"
        )
    return difference


def _peers(setting: str, backend: str) -> list[Variant]:
    peers = [Variant("PyTorch, one process", "torch:0", setting, backend)]
    cores = os.cpu_count() or 1
    if backend == "cpu" and cores > 1:
        peers.append(Variant(f"PyTorch, {cores} processes x 1 thread", "torch:1", setting, backend, cores))
    return peers


def _rates(
    ours: Variant, peers: list[Variant], parts: Sequence[str], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    rates = {}
    for part in parts:
        say(f"{part}: {rounds} rounds")
        if part == "scaling":
            grids = {f"{runs} runs": (ours, f"train:{runs}") for runs in SCALING}
            rates[part] = in_turns(grids, rounds, seconds)
        else:
            rates[part] = in_turns({v.name: (v, part) for v in (ours, *peers)}, rounds, seconds)
    return rates


def _ratios(result: dict[str, Any]) -> dict[str, Any]:
    """Return ours over the best peer and over one PyTorch process, by part, and the share of the matmul speed."""
    ratios, shares = {}, {}
    for part, flops in (("train", "step_flops"), ("sample", "sample_flops")):
        if part not in result["rates"]:
            continue
        own, *others = result["rates"][part].values()
        best = max(others, key=statistics.median)
        ratios[part] = {"best": _median_ratio(own, best), "one process": _median_ratio(own, others[0])}
        shares[part] = statistics.median(own) * result["about"][flops] / result["peak_flops"]
    return {"ratios": ratios, "share_of_peak": shares}


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown tables of all settings."""
    lines = []
    for result in results:
        about = result["about"]
        lines += [f"## {result['setting']}: {result['runs']} runs, {about['device']}", ""]
        lines += ["| part | variant | median per s | smallest - largest |", "|---|---|---|---|"]
        for part, rows in result["rates"].items():
            for name, rates in rows.items():
                spread = f"{min(rates):.3g} - {max(rates):.3g}"
                lines.append(f"| {part} | {name} | {statistics.median(rates):.3g} | {spread} |")
        lines += ["", "Rates are run-steps per second in training, runs' sets of samples per second in sampling."]
        for part, ratio in result["ratios"].items():
            share = result["share_of_peak"][part]
            lines.append(
                f"- {part}: {ratio['best']:.2f} times the best peer, {ratio['one process']:.2f} times one PyTorch "
                f"process; {share:.0%} of the matmul speed ({result['peak_flops'] / 1e9:.0f} GFLOP/s)"
            )
        lines += [
            f"- first call: {about['compile_seconds']:.1f} s, with a filled compilation cache "
            f"{result['second_start_seconds']:.1f} s",
            f"- plan: {about['plan']}; jax {about['version']}, torch {result['torch']}; largest difference on shared "
            f"weights {max(result['difference'].values()):.1e}",
            "",
        ]
    return "\n".join(lines)


def draw(results: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Draw the rates of all variants, and the cost of a run-step by number of runs, into a file.

    Rates are relative to the best PyTorch variant, costs to that of one run.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels, bars = [], {}
    for result in results:
        for part in ("train", "sample"):
            rows = {name: statistics.median(r) for name, r in result["rates"].get(part, {}).items()}
            if rows:
                labels.append(f"{result['setting']}\n{part}")
                best = max(list(rows.values())[1:])
                for name, rate in rows.items():
                    bars.setdefault(name, []).append(rate / best)
    for i, (name, heights) in enumerate(bars.items()):
        offset = (i - (len(bars) - 1) / 2) * 0.8 / len(bars)
        left.bar([x + offset for x in range(len(heights))], heights, 0.8 / len(bars), label=name)
    left.axhline(1.0, color="0.3", linewidth=0.8)
    left.set(xticks=range(len(labels)), xticklabels=labels, ylabel="speed (best PyTorch variant = 1)")
    left.legend(fontsize=7, frameon=False)
    for result in results:
        rows = result["rates"].get("scaling")
        if rows:
            cost = [1.0 / statistics.median(rates) for rates in rows.values()]
            right.plot(SCALING, [c / cost[0] for c in cost], "o-", label=result["setting"])
            right.legend(fontsize=7, frameon=False)
    right.set(xscale="log", xticks=SCALING, xticklabels=SCALING, xlabel="runs", ylim=(0, None))
    right.set(ylabel="time a run-step (one run = 1)")
    figure.savefig(path, dpi=150)


def say(text: str) -> None:
    """Report progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def parser() -> scripts.Parser:
    """Return the command line."""
    parser = scripts.Parser(prog="python -m experiments.benchmark", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workdir", help="folder of the table, the numbers and the plot")
    parser.add_argument("--settings", type=scripts.comma_separated(str), default="quick", help=", ".join(SETTINGS))
    parser.add_argument("--runs", type=int, default=0, help="runs of the grid; 0 = as many as the setting says")
    parser.add_argument("--parts", type=scripts.comma_separated(str), default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--backend", choices=("cpu", "gpu"), default="cpu", help="device of both sides")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every variant")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    return parser


def _check_arguments(options: Any) -> None:
    if not options.workdir:
        raise UserError("workdir is not given: must be the path of a folder, for example --workdir=runs/benchmark")
    for name, allowed in (("settings", tuple(SETTINGS)), ("parts", PARTS)):
        values = getattr(options, name)
        for value in values:
            if value not in allowed:
                raise UserError(f"{name} = {value!r}: must be among {', '.join(allowed)}")
        if not values:
            raise UserError(f"{name} is empty: must be among {', '.join(allowed)}")
    if options.runs < 0:
        raise UserError(f"runs = {options.runs}: must be at least 1, or 0 for as many as the setting says")
    if options.rounds < 1:
        raise UserError(f"rounds = {options.rounds}: must be at least 1")
    if not 0 < options.seconds < 600:
        raise UserError(f"seconds = {options.seconds}: must be above 0 and below 600")


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table and write everything.

    Raises:
      UserError: bad arguments, PyTorch is missing, or the two implementations do not agree.
    """
    options = parser().parse_args(arguments)
    _check_arguments(options)
    folder = pathlib.Path(options.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for setting in options.settings:
        runs = options.runs or SETTINGS[setting]
        results.append(measure(setting, runs, options.parts, options.backend, options.rounds, options.seconds))
        report = {"command": sys.orig_argv, "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count()}
        report |= {"machine": platform.machine(), "results": results}
        write_atomic(folder / "benchmark.json", json.dumps(report, indent=1))
        write_atomic(folder / "benchmark.md", table(results))
        draw(results, folder / "benchmark.png")
    print(table(results))


if __name__ == "__main__":
    scripts.exit_on_user_error(main, sys.argv[1:])
