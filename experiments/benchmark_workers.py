"""The processes that experiments/benchmark.py measures: a grid of ours, one PyTorch run, or the check of both.

    python -m experiments.benchmark_workers KIND SETTING BACKEND

KIND is "jax:R,R,..." (grids of those numbers of runs), "torch:N" (N threads, 0 = PyTorch's choice) or "check". A worker
says in one line of JSON what it is, then reads "what count" a line and answers each with one line of JSON.
"""

import functools
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cspace_jax.config import Config, from_config_dict, grid
from cspace_jax.config.plan import Plan
from cspace_jax.engine import engine
from cspace_jax.evaluation import prompts, sampling
from cspace_jax.evaluation.probe import ProbeSpec
from cspace_jax.evaluation.spec import EvalSpec
from cspace_jax.studies import signal
from cspace_jax.training.run import RunState, TrainSpec

ROOT = pathlib.Path(__file__).resolve().parents[1]


def make_config(setting: str, runs: int) -> Config:
    """Return the study that is timed: `runs` seeds at one signal level."""
    raw = signal.get_config("paper" if setting == "medium" else setting)
    raw.grid.seeds, raw.grid.sep_col = tuple(range(runs)), (0.35,)
    if setting == "medium":
        raw.network.channels, raw.network.blocks, raw.optim.batch_size = (16, 32, 64), 1, 32
    return from_config_dict(raw)


def serve(actions: dict[str, Callable[[int], int]], about: dict[str, Any]) -> None:
    """Say what this worker is, then carry out requests until standard input ends."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        what, count = line.split()
        print(json.dumps({"done": actions[what](int(count))}), flush=True)


def torch_worker(setting: str, threads: int, backend: str) -> None:
    """Serve one PyTorch run. A request of n is n training steps, or n times all samples of a checkpoint."""
    import torch  # pyright: ignore[reportMissingImports]

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
    """A grid of runs, trained and sampled as a study does.

    Args:
      config: the study; all its runs are trained at once.
      one: state that every run starts with; None = its own, whose program takes long to compile for large networks.
    """

    def __init__(self, config: Config, one: RunState | None = None):
        self.config = config
        self.plan = Plan.resolve(config, jax.default_backend())
        settings = grid.stack(grid.grid_settings(config.grid))
        self.runner = engine.Engine(TrainSpec.from_config(config, self.plan), settings, self.plan)
        self._state = self.runner.init() if one is None else self._spread(one)
        self._step = 0

    def _spread(self, one: RunState) -> engine.RunGroups:
        """Return the state of one run as that of all runs, each group in its place."""

        def group(rows: slice, place: Any) -> Any:
            def repeat(leaf: Any) -> Any:
                return jnp.broadcast_to(leaf, (rows.stop - rows.start, *leaf.shape))

            return jax.jit(lambda state: jax.tree.map(repeat, state), out_shardings=place)(one)

        return [group(rows, place) for rows, place in self.runner.groups]

    @functools.cached_property
    def _prompts(self) -> Any:
        return self.runner.call(prompts.naive_prompts, self._spec, self.runner.settings)

    @functools.cached_property
    def _spec(self) -> EvalSpec:
        return EvalSpec.from_config(self.config, self.runner.spec, ProbeSpec.from_config(self.config, self.plan))

    @property
    def state(self) -> engine.RunGroups:
        """The states of all runs; training donates them."""
        return self._state

    def train(self, steps: int) -> int:
        """Train every run for `steps` steps; metrics are awaited one call late, as in a study."""
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
        params = [group.evaluated for group in self._state]
        for _ in range(times):
            jax.block_until_ready(self.runner.call(sampling.draw, self._spec, params, self._prompts))


def jax_worker(setting: str, counts: Sequence[int]) -> None:
    """Serve grids of several sizes: requests "train", "sample" for the first, "train:R" for each, and "gemm"."""
    from cspace_jax.cost import operations
    from cspace_jax.cost.time import describe_plan, matmul_speed

    started = time.perf_counter()
    grids = {runs: JaxRuns(make_config(setting, runs)) for runs in counts}
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
    actions["gemm"] = lambda count: int(statistics.median(matmul_speed() for _ in range(count)))
    about = {
        "version": jax.__version__,
        "device": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        "plan": describe_plan(first.config, first.plan),
        "init_seconds": made - started,
        "compile_seconds": compiled - made,
        "step_flops": operations.step_flops(first.config),
        "sample_flops": operations.evaluation_flops(first.config),
    }
    serve(actions, about)


def check_worker(setting: str) -> None:
    """Print the largest relative difference of the two networks' outputs, and of the losses, on shared weights."""
    import torch  # pyright: ignore[reportMissingImports]

    from cspace_jax.model import torch_weights, vdm
    from experiments import torch_baseline

    config = make_config(setting, 1)
    peer = torch_baseline.Vdm(config.network, config.diffusion)
    for parameter in peer.score_model.parameters():  # also those that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    ours = vdm.Vdm.from_config(config.network, config.diffusion, "xla")
    params = torch_weights.vdm_params(ours.network, {k: v.detach().numpy() for k, v in peer.state_dict().items()})
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
        x_, c_, t_, eps_, eps_0_ = map(torch.tensor, (x, c, t, eps, eps_0))
        their_loss = float(peer.loss(x_, c_, t_, eps_, eps_0_, noise))
    out = np.asarray(vdm.eps_hat(ours, params, channels_last(x), jnp.asarray(gamma.numpy()), jnp.asarray(c)))
    noises = vdm.LossNoise(jnp.asarray(t), channels_last(eps), channels_last(eps_0))
    loss = float(vdm.loss_terms(ours, params, noise, channels_last(x), jnp.asarray(c), noises).total.mean())
    output = float(np.abs(out.transpose(0, 3, 1, 2) - theirs).max() / np.abs(theirs).max())
    print(json.dumps({"output": output, "loss": abs(loss - their_loss) / abs(their_loss)}))


def work(worker: str, setting: str, backend: str) -> None:
    """Be the worker that `worker` names."""
    kind, _, argument = worker.partition(":")
    if kind == "torch":
        torch_worker(setting, int(argument), backend)
    elif kind == "jax":
        from cspace_jax import startup

        os.environ.setdefault("JAX_PLATFORMS", "cpu" if backend == "cpu" else "cuda")
        startup.restart_with_allocator_settings()
        startup.set_up_jax()
        jax_worker(setting, [int(runs) for runs in argument.split(",")])
    else:
        check_worker(setting)


if __name__ == "__main__":
    work(*sys.argv[1:])
