"""How a study is executed: what a plan takes by itself on each backend."""

import dataclasses

import pytest
import tiny
from grids import CONFIG

from cspace_jax.config import EngineConfig
from cspace_jax.config.plan import Plan
from cspace_jax.training.run import TrainSpec


def test_plan_is_chosen_by_backend_and_every_field_can_be_set():
    free = dataclasses.replace(CONFIG, engine=EngineConfig())
    plan = Plan.resolve(free, "cpu")
    assert (plan.convolution, plan.runs, plan.microbatch) == ("winograd", "loop", 0)
    for backend in ("gpu", "tpu"):
        plan = Plan.resolve(free, backend)
        assert (plan.convolution, plan.runs) == ("xla", "vmap") and plan.steps_per_call > 1
    fields = {"convolution": "matmul", "runs": "unroll", "steps_per_call": 7, "microbatch": 2}
    chosen = Plan.resolve(tiny.changed(free, engine=fields), "cpu")
    assert {name: getattr(chosen, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("samples", "size", "part"), [(16, 16, 16), (64, 16, 32), (416, 16, 32), (64, 32, 8), (20, 64, 10), (34, 64, 17)]
)
def test_on_a_cpu_large_batches_are_taken_in_microbatches_that_stay_in_the_cache(samples, size, part):
    config = tiny.changed(CONFIG, data={"image_size": size}, network={"channels": (32, 64)})
    assert TrainSpec.from_config(config, Plan.resolve(config, "cpu")).microbatch_of(samples) == part
    assert TrainSpec.from_config(config, Plan.resolve(config, "gpu")).microbatch_of(samples) == samples
