"""The verdict on a claim, from the outcome of its test."""

import math

from cspace_jax.analysis import (
    claims,
)
from cspace_jax.analysis.claims import CONTRADICTED, NOT_SHOWN, SHOWN, UNTOLD
from cspace_jax.analysis.testing import UNTOLD as UNTOLD_TEST
from cspace_jax.analysis.testing import Outcome


def test_the_verdict_of_a_test():
    judge = claims.judge
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6).verdict == SHOWN
    assert judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, "less").verdict == CONTRADICTED
    assert judge(Outcome(1.0, 0.3, 0.8, 0.01, 0.01), 6).verdict == NOT_SHOWN
    few = judge(Outcome(1.0, 0.25, 1.0, 0.25, 0.25), 2)
    assert few.verdict == UNTOLD and "n = 2" in few.why and math.isnan(few.p)
    # The least is that of the side on which the claim holds; the other side may still contradict it.
    assert judge(Outcome(1.0, 0.11, 1.0, 0.11, 0.01), 2).verdict == UNTOLD
    assert judge(Outcome(0.0, 1.0, 0.01, 0.11, 0.01), 2).verdict == CONTRADICTED
    unmet = judge(Outcome(1.0, 0.03, 0.99, 0.01, 0.01), 6, needs=(False, "a control does the same"))
    assert (unmet.verdict, unmet.why) == (NOT_SHOWN, "a control does the same")
    assert judge(UNTOLD_TEST, 6).verdict == UNTOLD
