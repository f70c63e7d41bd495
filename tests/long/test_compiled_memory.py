"""Memory of training as the compiler tells it: growth with the runs, and the outline from shapes within 15 %."""

import dataclasses
import functools

import jax
import pytest
import tiny

from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory
from cspace_jax.cost.memory import Footprint, Place
from cspace_jax.engine.engine import Engine
from cspace_jax.training.run import TrainSpec

CONFIG = tiny.study(network=tiny.NARROW)
LAYOUTS = {"loop": Plan("canonical", "loop", 1), "vmap": Plan("xla", "vmap", 2)}
# Networks, image sizes and batches; one in microbatches, one that takes Winograd's products.
OUTLINED = {
    "cut": (
        tiny.study(
            network={"channels": (32,), "blocks": 2, "attention": False, "conditioning": "sep_linear"},
            data={"image_size": 12},
            optim={"batch_size": 16, "ema": 0.9},
        ),
        dataclasses.replace(LAYOUTS["vmap"], microbatch=8),
    ),
    "wide": (
        tiny.study(
            network={"channels": (8, 64), "conditioning": "common_zerolinear", "dropout": 0.0},
            data={"image_size": 16},
            optim={"batch_size": 8},
        ),
        Plan("winograd", "loop"),
    ),
}


@functools.cache
def footprint(layout):
    return memory.analyse(CONFIG, LAYOUTS[layout])


@functools.cache
def state_bytes():
    runner = Engine(TrainSpec.from_config(CONFIG, LAYOUTS["loop"]), tiny.settings(CONFIG), LAYOUTS["loop"])
    return sum(leaf.nbytes for leaf in jax.tree.leaves(runner.fetch(runner.init()))) / runner.runs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_analysis_holds_the_states_and_grows_linearly_in_the_runs(layout):
    found = footprint(layout)
    assert found.state == pytest.approx(state_bytes())
    assert found.resident > found.state and found.working > 0 and found.fixed >= 0
    peaks = [memory.peak_bytes(found, Place(layout, 1, True, float("inf")), runs) for runs in (2, 3, 4, 40)]
    step = peaks[1] - peaks[0]
    assert step >= found.state
    assert peaks[2] - peaks[1] == pytest.approx(step) and peaks[3] - peaks[2] == pytest.approx(36 * step)
    assert all(peak >= runs * state_bytes() for peak, runs in zip(peaks, (2, 3, 4, 40), strict=True))


@pytest.mark.parametrize("name", ["narrow", *OUTLINED])
def test_the_outline_is_within_15_percent_of_the_analysis(name):
    config, plan = OUTLINED.get(name, (CONFIG, LAYOUTS["vmap"]))
    outline = memory.outline(config, plan)
    found = footprint("vmap") if name == "narrow" else Footprint(0.0, *memory._program_bytes(config, plan, 1))
    assert outline.resident == pytest.approx(found.resident, rel=0.002)  # training sets and settings are among it
    assert outline.working == pytest.approx(found.working + found.fixed, rel=0.15)
