"""How long a study will take, in words."""

import pytest
import tiny

from cspace_jax import text
from cspace_jax.config import Config
from cspace_jax.config.plan import Plan
from cspace_jax.cost import time as cost_time


def test_added_runs_take_their_time(monkeypatch):
    monkeypatch.setattr(cost_time, "matmul_speed", lambda: 1e9)
    plan = Plan.resolve(tiny.study(), "cpu")
    one, both = (cost_time.estimate_seconds([tiny.study()] * count, plan) for count in (1, 2))
    assert both - one == pytest.approx(one - cost_time._OVERHEAD_SECONDS)


def test_the_forecast_names_every_stage(monkeypatch):
    monkeypatch.setattr(cost_time, "matmul_speed", lambda: 1e6)
    config = tiny.study(elicit={"protocols": ("overprompt",)})
    plan = Plan.resolve(config, "cpu")
    stages = cost_time.stage_seconds([config], plan)
    assert list(stages) == ["training", "evaluation", "battery"] and all(stages.values())
    words = cost_time.describe_stages(config, plan)
    for name, seconds in stages.items():
        assert f"{name} {text.minutes(seconds)}" in words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(64, "32 s to 2 min"), (270, "2 min to 9 min"), (3600 * 6, "3 h to 12 h"), (8, "4 s to 16 s")],
)
def test_the_time_is_a_range_from_half_to_twice_the_estimate(seconds, words, monkeypatch):
    monkeypatch.setattr(cost_time, "estimate_seconds", lambda *_: seconds)
    config = Config(study="signal", scale="quick")
    assert cost_time.describe_time([config], Plan.resolve(config, "cpu")) == words
