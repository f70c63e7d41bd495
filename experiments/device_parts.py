"""The parts of experiments/device_check.py, and the process that carries them out.

    python -m experiments.device_parts [--hurried]

Each line of standard input is a request in JSON, each answered with one line of JSON. The field "part" names a function
of `PARTS`, which gets the request; its answer gains the field "status": done, "out of memory" or failed. The process
ends when its standard input does, whatever it is doing: a device is never left to a check that was killed. With
--hurried programs are compiled without optimisation, as the main command does at smoke scale.
"""

import dataclasses
import functools
import json
import os
import pathlib
import queue
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cspace_jax.config import Config, fingerprint, grid, to_dict
from cspace_jax.config.plan import Plan
from cspace_jax.cost import autotune, fit, memory, operations
from cspace_jax.cost.time import matmul_speed
from cspace_jax.data.opened import source_of
from cspace_jax.errors import UserError
from cspace_jax.pipeline import image_source
from cspace_jax.storage import checkpoint
from cspace_jax.storage.environment import environment
from cspace_jax.studies import loading
from cspace_jax.text import one_line
from cspace_jax.training.run import RunState, TrainSpec, init_run
from experiments import device_kill, golden
from experiments.benchmark_workers import JaxRuns

Request = Mapping[str, Any]
Answer = dict[str, Any]
TURNS = 3
SAVED_BYTES = 2e9  # most bytes of the states that are saved
# Ways of executing, the likeliest first.
WAYS = {
    "cpu": ("loop:winograd", "loop:canonical", "vmap:xla", "vmap:matmul", "map:xla", "unroll:xla"),
    "accelerator": ("vmap:xla", "vmap:matmul", "map:xla", "unroll:xla", "map:matmul"),
}


def about(request: Request) -> Answer:
    """Say what the device is, which study is measured on it, and how many runs would be trained at once.

    Request: "config", a study with its scale, or "" for the usual one, and "overrides" of its fields by name.
    """
    backend = jax.default_backend()
    cpu = backend == "cpu"
    name = request["config"] or ("signal:smoke" if cpu else "signal:paper")
    config = opened({**request, "config": name})
    plan = Plan.resolve(config, backend)
    chosen = fit.choose(config, plan, config.grid.num_runs, config.engine.wave)
    known = environment()
    return {
        "config": name,
        "overrides": request.get("overrides", {}),
        "fingerprint": fingerprint(repr(to_dict(config)), 16),
        **{field: known[field] for field in ("backend", "device_kind", "device_count", "python", "versions")},
        "commit": known["git_commit"],
        "memory": memory.here(config, plan).available,
        "wave": min(chosen.wave or config.grid.num_runs, config.grid.num_runs) if chosen else 1,
        "microbatch": chosen.microbatch if chosen else 0,
        "ways": WAYS["cpu" if cpu else "accelerator"],
        "known": f"{plan.runs}:{plan.convolution}",
        "matmul": matmul_speed(1024 if cpu else 8192),
    }


def opened(request: Request) -> Config:
    """Return the study of a request, its source opened: "config", a study with its scale, and "overrides"."""
    config = loading.configure(request["config"], request.get("overrides", {}))
    image_source.open_and_check(config)
    return config


def study(request: Request) -> Config:
    """Return the study of a request: "runs" seeds at its first levels, executed the "way" that is asked for.

    Request: that of `opened`, "runs" (at least 1), "way" (layout:convolution, "" = what the study says) and
    "microbatch" (0 = what the plan takes).
    """
    config = opened(request)
    first = {axis: getattr(config.grid, axis)[:1] for axis in grid.AXES}
    first["seeds"] = tuple(range(request["runs"]))
    layout, _, convolution = request["way"].partition(":")
    way = {"runs": layout, "convolution": convolution} if request["way"] else {}
    engine = dataclasses.replace(config.engine, microbatch=request["microbatch"] or config.engine.microbatch, **way)
    return dataclasses.replace(config, grid=dataclasses.replace(config.grid, **first), engine=engine)


def start(config: Config) -> JaxRuns:
    """Return the runs of a study, all with the initial state of one.

    So the program that makes the state is compiled once for all of them.
    """
    draw = jax.jit(init_run, static_argnums=0)
    one: RunState = draw(TrainSpec.from_config(config), grid.example_setting(config.grid))
    return JaxRuns(config, one)


def train(request: Request) -> Answer:
    """Measure training: run-steps/s, operations/s, seconds of the first call with its compilation.

    Request: that of `study`, and "seconds" of each of three turns.
    """
    runs, rate, first = _speed(request, JaxRuns.train)
    return {"rate": rate, "flops": rate * operations.step_flops(runs.config), "first_call": first} | _where(runs)


def sample(request: Request) -> Answer:
    """Measure naive prompting of every class: images/s and operations/s; the request is that of `train`."""
    runs, rate, first = _speed(request, JaxRuns.sample)
    config = runs.config
    images = source_of(config.data).classes.num * config.evaluate.samples_per_class
    answer = {"rate": rate * images, "flops": rate * operations.evaluation_flops(config), "first_call": first}
    return answer | _where(runs) | {"microbatch": runs.runner.spec.microbatch_of(images)}


def _speed(request: Request, do: Callable[[JaxRuns, int], Any]) -> tuple[JaxRuns, float, float]:
    """Return the runs, how often a second one of them does something, and the seconds until the first time."""
    started = time.perf_counter()
    runs = start(study(request))
    do(runs, 1)
    first = time.perf_counter() - started
    return runs, _rate(functools.partial(do, runs), request["seconds"]) * request["runs"], first


def _rate(do: Callable[[int], Any], seconds: float) -> float:
    """Return how often a second something is done, median over turns of about `seconds`."""
    trial = max(1, int(seconds / 4 / _time(do, 1)))  # one alone can cost much more than one of many
    count = max(1, round(seconds * trial / _time(do, trial)))
    return statistics.median(count / _time(do, count) for _ in range(TURNS))


def _time(do: Callable[[int], Any], count: int) -> float:
    started = time.perf_counter()
    do(count)
    return time.perf_counter() - started


def _where(runs: JaxRuns) -> Answer:
    devices = set().union(*(place.device_set for _, place in runs.runner.groups))
    return {"devices": len(devices), "microbatch": runs.runner.spec.microbatch_size}


def measure_memory(request: Request) -> Answer:
    """Measure the highest memory of the fullest device after two calls of training, beside the prediction, in bytes.

    The peak is that of the whole process, so requests of one process must have more and more runs. "peak" is None
    where the backend does not tell. The request is that of `study`.
    """
    config = study(request)
    plan = Plan.resolve(config, jax.default_backend())
    place = memory.here(config, plan)
    predicted = memory.peak_bytes(memory.outline(config, plan, place.tpu), place, request["runs"])
    runs = start(config)
    for _ in range(2):
        runs.train(1)
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    return {"peak": max((peak for peak in peaks if peak), default=None), "predicted": predicted} | _where(runs)


def save(request: Request) -> Answer:
    """Measure the saving and restoring of states: seconds, bytes on disk, whether what comes back is the same.

    Request: that of `study`, and "folder" to write in; as many of its runs are saved as 2 GB hold.
    """
    config = study(request)
    fitting = max(1, int(SAVED_BYTES / memory.state_bytes(config)))
    count = min(request["runs"], fitting)
    runs = start(study({**request, "runs": count}))
    runs.train(1)  # zeros would be stored as nothing
    folder = pathlib.Path(request["folder"])
    shutil.rmtree(folder, ignore_errors=True)
    try:
        started = time.perf_counter()
        saved = runs.runner.fetch(runs.state)
        with checkpoint.CheckpointWriter(folder) as writer:
            writer.save(1, saved)
        took = time.perf_counter() - started
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        started = time.perf_counter()
        groups = checkpoint.restore_groups(folder, 1, runs.runner.abstract_state(), runs.runner.groups)
        jax.block_until_ready(groups)
        restored = time.perf_counter() - started
        same = device_kill.same_bits(runs.runner.fetch(groups), saved)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"runs": count, "save": took, "restore": restored, "bytes": size, "equal": same}


def auto(request: Request) -> Answer:
    """Say what `engine.plan = "auto"` chooses for "runs" runs: its way of executing and the rate it saw.

    Each plan is timed for "seconds" in each turn, but for at least one call, so a call is cut to about that length. The
    request is that of `train`.
    """
    runs = start(study(request))
    runs.train(1)
    steps = max(1, min(runs.plan.steps_per_call, int(request["seconds"] / _time(runs.train, 1))))
    del runs  # its memory is wanted
    config = study({**request, "way": "", "microbatch": 0})
    config = autotune.with_plan(config, {"steps_per_call": steps})
    settings = grid.stack(grid.grid_settings(config.grid))
    timings = autotune.measure(autotune.candidates(config), settings, request["seconds"])
    best = autotune.best(timings)
    print(autotune.table(timings))
    return {"way": f"{best.chosen['runs']}:{best.chosen['convolution']}", "rate": best.rate, "of": len(timings)}


def golden_numbers(request: Request) -> Answer:
    """Return the differences from the golden numbers; request: "precision" and "way", whose convolution is taken."""
    return {"differences": golden.differences(request["precision"], request["way"].partition(":")[2])}


def kill(request: Request) -> Answer:
    """Kill a training and let it go on (experiments/device_kill.py); request: "folder" and the devices' "platforms"."""
    return device_kill.kill_and_resume(pathlib.Path(request["folder"]), request["platforms"])


PARTS: dict[str, Callable[[Request], Answer]] = {
    "device": about,
    "kill": kill,
    "memory": measure_memory,
    "golden": golden_numbers,
    "train": train,
    "sample": sample,
    "save": save,
    "auto": auto,
}


def carry_out(request: Request) -> Answer:
    """Carry out one request; whatever goes wrong is part of the answer."""
    try:
        return {"status": "done", **PARTS[request["part"]](request)}
    except Exception as error:
        if fit.out_of_memory(error):
            return {"status": "out of memory", "note": ""}
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        return {"status": "failed", "note": one_line(f"{kind}{error}", 160)}


def main() -> None:
    """Answer requests until standard input ends."""
    from cspace_jax import startup

    startup.set_up_jax(hurried="--hurried" in sys.argv)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print, those that are not Python included, must not stand among the answers

    def listen() -> None:
        for line in sys.stdin:
            requests.put(line)
        if os.getpgrp() == os.getpid():  # whoever asked is gone: so should be what was started for it
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        print(json.dumps(carry_out(json.loads(requests.get()))), file=answers, flush=True)


if __name__ == "__main__":
    main()
