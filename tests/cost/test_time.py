"""How long a study will take, in words."""

import pytest

from cspace_jax.config import Config
from cspace_jax.config.plan import Plan
from cspace_jax.cost import time as cost_time


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(64, "32 s to 2 min"), (270, "2 min to 9 min"), (3600 * 6, "3 h to 12 h"), (8, "4 s to 16 s")],
)
def test_the_time_is_a_range_from_half_to_twice_the_estimate(seconds, words, monkeypatch):
    monkeypatch.setattr(cost_time, "estimate_seconds", lambda config, plan: seconds)
    config = Config(study="signal", scale="quick")
    assert cost_time.describe_time(config, Plan.resolve(config, "cpu")) == words
