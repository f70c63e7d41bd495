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
paper (the network of configs/signal.py:paper, 2 runs), smoke (numbers mean nothing). Written to WORKDIR:
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
from collections.abc import Callable, Sequence
from typing import Any

from cspace_jax import command, config_files, workdir
from cspace_jax.config import Config, from_config_dict
from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = {"quick": 6, "medium": 4, "paper": 2, "smoke": 2}  # name -> runs of the grid
PARTS = ("train", "sample", "scaling")
SCALING = (1, 2, 4, 8, 16)
TOLERANCE = 1e-4


def make_config(setting: str, runs: int) -> Config:
    """Return the study that is timed: `runs` seeds at one signal level."""
    raw = config_files.load(ROOT / "configs" / "signal.py").get_config("paper" if setting == "medium" else setting)
    raw.grid.seeds, raw.grid.sep_col = tuple(range(runs)), (0.35,)
    if setting == "medium":
        raw.network.channels, raw.network.blocks, raw.optim.batch_size = (16, 32, 64), 1, 32
    return from_config_dict(raw)


# ---- Workers: one process each, which reads "what count" a line and answers with one line of JSON. ----


def serve(actions: dict[str, Callable[[int], int]], about: dict[str, Any]) -> None:
    """Say what this worker is, then carry out requests until standard input ends."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        what, count = line.split()
        print(json.dumps({"done": actions[what](int(count))}), flush=True)


def torch_worker(setting: str, threads: int, backend: str) -> None:
    """Serve one PyTorch run. A request of n is n training steps, or n times all samples of a checkpoint."""
    import torch

    from experiments import torch_baseline

    if threads:
        torch.set_num_threads(threads)
    config = make_config(setting, 1)
    count, size = config.data.train_images, config.data.image_size
    images, conditionings = torch.rand(count, 3, size, size), torch.rand(count, 11)
    run = torch_baseline.Run.start(config, images, conditionings, "cuda" if backend == "gpu" else backend)

    def train(steps: int) -> int:
        run.train(steps)
        return steps

    def sample(times: int) -> int:
        for _ in range(times):
            run.sample(config.evaluate.samples_per_class)
        run.synchronize()
        return times

    serve({"train": train, "sample": sample}, {"version": torch.__version__})


class JaxRuns:
    """A grid of `runs` runs, trained and sampled as a study does."""

    def __init__(self, setting: str, runs: int):
        import jax

        from cspace_jax import elicit, engine, grid, probe_network

        self.config = make_config(setting, runs)
        self.plan = engine.choose_plan(self.config.engine, jax.default_backend())
        self.runner = engine.Engine(self.config, grid.stack(grid.grid_settings(self.config.grid)), self.plan)
        probe_spec = probe_network.make_spec(self.config, self.plan.convolution)
        self._spec = elicit.make_spec(self.runner.spec, self.config, probe_spec)
        self._prompts = self.runner.call(elicit.naive_prompts, self._spec, self.runner.settings)
        self._state, self._step = self.runner.init(), 0

    def train(self, steps: int) -> int:
        """Train every run for `steps` steps; metrics are awaited one call late, as in a study."""
        import jax

        pending: Any = ()
        while steps > 0:
            count = min(steps, self.plan.steps_per_call)
            self._state, metrics = self.runner.train(self._state, self._step, count)
            jax.block_until_ready(pending)
            pending, self._step, steps = metrics, self._step + count, steps - count
        jax.block_until_ready(self._state)
        return self._step

    def sample(self, times: int) -> None:
        """Draw all samples of a checkpoint of every run, `times` times."""
        import jax

        from cspace_jax import study

        params = [parcel.evaluated for parcel in self._state]
        for _ in range(times):
            jax.block_until_ready(study.sample(self.runner, self._spec, params, self._prompts))


def jax_worker(setting: str, counts: Sequence[int]) -> None:
    """Serve grids of several sizes: requests "train", "sample" for the first, "train:R" for each, and "gemm"."""
    import jax

    from cspace_jax import estimate

    started = time.perf_counter()
    grids = {runs: JaxRuns(setting, runs) for runs in counts}
    first = grids[counts[0]]
    made = time.perf_counter()
    first.train(1)
    compiled = time.perf_counter()

    def trained(runs: int) -> Callable[[int], int]:
        def train(steps: int) -> int:
            grids[runs].train(steps)
            return steps * runs

        return train

    def sample(times: int) -> int:
        first.sample(times)
        return times * counts[0]

    actions: dict[str, Callable[[int], int]] = {f"train:{runs}": trained(runs) for runs in counts}
    actions |= {"train": trained(counts[0]), "sample": sample}
    actions["gemm"] = lambda count: int(statistics.median(estimate.matmul_speed() for _ in range(count)))
    about = {
        "version": jax.__version__,
        "device": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        "plan": estimate.describe_plan(first.config),
        "init_seconds": made - started,
        "compile_seconds": compiled - made,
        "step_flops": estimate.step_flops(first.config),
        "sample_flops": estimate.sample_flops(first.config),
    }
    serve(actions, about)


def check_worker(setting: str) -> None:
    """Print the largest relative difference of the two networks' outputs, and of the losses, on shared weights."""
    import jax.numpy as jnp
    import numpy as np
    import torch

    from cspace_jax import torch_import, vdm
    from experiments import torch_baseline

    config = make_config(setting, 1)
    peer = torch_baseline.Vdm(config.network, config.diffusion)
    for parameter in peer.score_model.parameters():  # also those that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    ours = vdm.make_vdm(config.network, config.diffusion, "xla")
    params = torch_import.vdm_params({k: v.detach().numpy() for k, v in peer.state_dict().items()}, ours.network)
    draw, size = np.random.default_rng(0), config.data.image_size
    x, eps, eps_0 = draw.random((3, 4, 3, size, size), np.float32)
    t, c = (np.arange(4, dtype=np.float32) + 0.5) / 4, draw.random((4, 11), np.float32)
    noise = config.grid.data_noise[0]

    def channels_last(a: np.ndarray) -> Any:
        return jnp.asarray(a.transpose(0, 2, 3, 1))

    peer.eval()
    with torch.no_grad():
        gamma = peer.gamma(torch.tensor(t))
        theirs = peer.eps_hat(torch.tensor(x), gamma, torch.tensor(c)).numpy()
        their_loss = float(peer.loss(*map(torch.tensor, (x, c, t, eps, eps_0)), noise))
    out = np.asarray(vdm.eps_hat(params, ours, channels_last(x), jnp.asarray(gamma.numpy()), jnp.asarray(c)))
    noises = vdm.LossNoise(jnp.asarray(t), channels_last(eps), channels_last(eps_0))
    loss = float(vdm.loss_terms(params, ours, channels_last(x), jnp.asarray(c), noises, noise).total.mean())
    output = float(np.abs(out.transpose(0, 3, 1, 2) - theirs).max() / np.abs(theirs).max())
    print(json.dumps({"output": output, "loss": abs(loss - their_loss) / abs(their_loss)}))


# ---- The parent: starts workers, measures them in turns. ----


class Variant:
    """One or several worker processes that are measured together."""

    def __init__(self, name: str, worker: str, setting: str, backend: str, processes: int = 1, cache: str = ""):
        self.name, self.rates = name, {}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if cache:
            environment["JAX_COMPILATION_CACHE_DIR"] = cache
        line = [sys.executable, "-m", "experiments.benchmark", f"--worker={worker}", f"--settings={setting}"]
        line += [f"--backend={backend}"]
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
        """Return what all processes did together and the seconds it took."""
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


def measure(setting: str, parts: Sequence[str], backend: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one setting: rates by part and variant, ratios, fraction of the matmul speed, compile times."""
    say(f"{setting}: outputs and losses of both implementations")
    difference = _check(setting)
    runs, result = SETTINGS[setting], {"setting": setting, "runs": SETTINGS[setting], "difference": difference}
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
    line = [sys.executable, "-m", "experiments.benchmark", "--worker=check", f"--settings={setting}"]
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


# ---- What is written. ----


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
    """Draw the rates of all variants relative to the best peer, and the cost of a run-step by number of runs."""
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


def parser() -> command.Parser:
    """Return the command line."""
    parser = command.Parser(prog="python -m experiments.benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", help="folder of the table, the numbers and the plot")
    parser.add_argument("--settings", type=command.comma_separated(str), default="quick", help=", ".join(SETTINGS))
    parser.add_argument("--parts", type=command.comma_separated(str), default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--backend", choices=("cpu", "gpu"), default="cpu", help="device of both sides")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every variant")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument("--worker", default="", help="used by the benchmark for its own processes")
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
    if options.rounds < 1:
        raise UserError(f"rounds = {options.rounds}: must be at least 1")
    if not 0 < options.seconds < 600:
        raise UserError(f"seconds = {options.seconds}: must be above 0 and below 600")


def work(worker: str, setting: str, backend: str) -> None:
    """Be the worker that `--worker` names."""
    kind, _, argument = worker.partition(":")
    if kind == "torch":
        torch_worker(setting, int(argument), backend)
    elif kind == "jax":
        from cspace_jax import launch

        os.environ.setdefault("JAX_PLATFORMS", "cpu" if backend == "cpu" else "cuda")
        launch.restart_with_allocator_settings()
        launch.set_up_jax()
        jax_worker(setting, [int(runs) for runs in argument.split(",")])
    else:
        check_worker(setting)


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table and write everything.

    Raises:
      UserError: bad arguments, PyTorch is missing, or the two implementations do not agree.
    """
    options = parser().parse_args(arguments)
    if options.worker:
        return work(options.worker, options.settings[0], options.backend)
    _check_arguments(options)
    folder = pathlib.Path(options.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for setting in options.settings:
        results.append(measure(setting, options.parts, options.backend, options.rounds, options.seconds))
        report = {"command": sys.orig_argv, "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count()}
        report |= {"machine": platform.machine(), "results": results}
        workdir.write_atomic(folder / "benchmark.json", json.dumps(report, indent=1))
        workdir.write_atomic(folder / "benchmark.md", table(results))
        draw(results, folder / "benchmark.png")
    print(table(results))


if __name__ == "__main__":
    command.exit_on_user_error(main, sys.argv[1:])
