"""The benchmark: its arithmetic on known rates, its mistakes, and the peer where PyTorch is installed."""

import io
import json
import subprocess
import sys

import pytest
import tiny
from commands import ROOT, environment

from cspace_jax.config import config_files
from cspace_jax.errors import UserError

benchmark, benchmark_workers = (
    config_files.load(ROOT / "experiments" / f"{name}.py") for name in ("benchmark", "benchmark_workers")
)


class FakeVariant:
    """Do `speed` things a second on a clock of its own."""

    def __init__(self, speed, clock):
        self.speed, self.clock, self.asked = speed, clock, []

    def request(self, what, count):
        self.asked.append(count)
        self.clock.append(what)
        return count, count / self.speed


def result(ours, best, other):
    rates = {"cspace_jax": ours, "PyTorch, one process": other, "PyTorch, 2 processes x 1 thread": best}
    about = {"step_flops": 2e9, "sample_flops": 1e9, "device": "2 x cpu", "compile_seconds": 20.0}
    about |= {"plan": "runs loop", "version": "0"}
    scaling = {f"{runs} runs": [10.0, 12.0, 11.0] for runs in benchmark.SCALING}
    measured = {"rates": {"train": rates, "scaling": scaling}, "about": about, "peak_flops": 1e11, "torch": "0"}
    known = {"setting": "quick", "runs": 6, "second_start_seconds": 5.0, "difference": {"output": 1e-6, "loss": 0.0}}
    return known | measured | benchmark._ratios(measured)


def test_variants_are_measured_in_turns():
    clock = []
    requests = {"a": (FakeVariant(10.0, clock), "a"), "b": (FakeVariant(40.0, clock), "b")}
    rates = benchmark.in_turns(requests, rounds=3, seconds=2.0)
    assert clock[-6:] == ["a", "b"] * 3
    assert rates["a"] == pytest.approx([10.0] * 3)
    assert rates["b"] == pytest.approx([40.0] * 3)
    # A turn lasts as long for the slow one as for the fast one.
    assert [requests[name][0].asked[-1] for name in "ab"] == [20, 80]


def test_ratios_are_medians_over_rounds_against_the_best_peer():
    known = result([30.0, 20.0, 40.0], best=[20.0, 20.0, 20.0], other=[10.0, 5.0, 20.0])
    assert known["ratios"]["train"] == {"best": 1.5, "one process": 3.0}
    assert known["share_of_peak"]["train"] == pytest.approx(30 * 2e9 / 1e11)


def test_table_and_plot(tmp_path):
    known = [result([30.0, 20.0, 40.0], best=[20.0, 20.0, 20.0], other=[10.0, 5.0, 20.0])]
    text = benchmark.table(known)
    assert "| train | cspace_jax | 30 | 20 - 40 |" in text
    assert "train: 1.50 times the best peer, 3.00 times one PyTorch process; 60% of the matmul speed" in text
    benchmark.draw(known, tmp_path / "benchmark.png")
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "workdir is not given"),
        (["--workdir=w", "--settings=fast"], "settings = 'fast': must be among quick, medium, paper"),
        (["--workdir=w", "--parts="], "parts is empty: must be among train, sample, scaling"),
        (["--workdir=w", "--rounds=0"], "rounds = 0: must be at least 1"),
        (["--workdir=w", "--seconds=-1"], "seconds = -1.0: must be above 0"),
    ],
)
def test_bad_arguments(arguments, line):
    with pytest.raises(UserError, match=line.replace("(", r"\(")):
        benchmark.main(arguments)


def test_peer_gives_the_same_output_and_loss():
    pytest.importorskip("torch")
    line = [sys.executable, "-m", "experiments.benchmark_workers", "check", "smoke", "cpu"]
    answer = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert max(json.loads(answer.stdout).values()) < benchmark.TOLERANCE


def test_a_worker_says_what_it_is_and_answers_requests(monkeypatch, capsys):
    config = tiny.study(grid={"seeds": (0,), "sep_col": (0.35,)}, network=tiny.NARROW)
    seeds = tuple(range(2))
    grids = {1: config, 2: tiny.changed(config, grid={"seeds": seeds})}
    monkeypatch.setattr(benchmark_workers, "make_config", lambda setting, runs: grids[runs])
    monkeypatch.setattr(sys, "stdin", io.StringIO("train 2\ntrain:2 3\nsample 1\ngemm 1\n"))
    benchmark_workers.jax_worker("quick", [1, 2])
    about, *answers = map(json.loads, capsys.readouterr().out.splitlines())
    assert about["step_flops"] > 0 and about["sample_flops"] > 0 and "runs loop" in about["plan"]
    assert [answer["done"] for answer in answers[:3]] == [2, 6, 1] and answers[3]["done"] > 0
