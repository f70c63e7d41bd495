"""Verdicts on the claims of the paper: shown, not shown or contradicted by a study, at its scale.

A claim is a function of the labelled dataset, registered under the letter that it has in docs/claims.md:

    @claim("k", "larger batches learn sooner", "trend of learning time over batch sizes")
    def batches(ds):
        return judge(testing.trend(...), seeds=5)

Each verdict comes from a one-sided test at `ALPHA`: "shown" where chance gives so clear a statistic in at most 5 % of
studies without the effect (`experiments/false_alarms.py` measures it), "contradicted" where the same holds for the
opposite. "Cannot be told" names what is missing. No p-value is corrected for the number of claims.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import xarray as xr

from cspace_jax.analysis import intervals
from cspace_jax.analysis.levels import unseen
from cspace_jax.analysis.summary_blocks import summary_block
from cspace_jax.analysis.testing import ALPHA, Outcome
from cspace_jax.registering import check_name

EVERY, LAST = "every", "last"
SHOWN, NOT_SHOWN, CONTRADICTED, UNTOLD = "shown", "not shown", "contradicted", "cannot be told"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A study's verdict on a claim.

    Attributes:
      verdict: one of the four words.
      statistic: its value; NaN where it cannot be told.
      p: one-sided p-value of the claim.
      seeds: seeds that took part.
      classes: of the unseen classes those that it rests on; None = all that the claim is asked of.
      interval: 95 % interval over seeds of the statistic, or of `median` where that is known; NaN where there is none.
      median: median over seeds of the differences whose mean the statistic is; NaN for other statistics.
      no_interval: why a statistic has none, whatever the seeds.
      definition: that of "learned" which the statistic rests on, a key of `LEARNED`; "" where it rests on none.
      why: what is missing where it cannot be told, and what else a reader should know.
      details: further numbers, plain dicts and lists.
    """

    verdict: str
    statistic: float = math.nan
    p: float = math.nan
    seeds: int = 0
    classes: tuple[int, ...] | None = None
    interval: tuple[float, float] = (math.nan, math.nan)
    median: float = math.nan
    no_interval: str = ""
    definition: str = ""
    why: str = ""
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim and how a study is asked about it: text, statistic in words, ds -> verdict.

    `of` says which held-out classes are asked where a study has several: `EVERY`, `LAST`, or "" where it says nothing.
    """

    text: str
    statistic: str
    ask: Callable[[xr.Dataset], Verdict]
    of: str = ""


CLAIMS: dict[str, Claim] = {}


def claim(
    letter: str, text: str, statistic: str, of: str = ""
) -> Callable[[Callable[[xr.Dataset], Verdict]], Callable[[xr.Dataset], Verdict]]:
    """Register a function ds -> Verdict as the answer to a claim.

    Args:
      letter: that of the claim in docs/claims.md; no other claim may have it (`registering.check_name`).
      text: the claim in words.
      statistic: what is measured, in words.
      of: which held-out classes are asked: `EVERY`, `LAST`, or "" where that says nothing.

    Returns:
      The decorator, which returns the function unchanged.

    Raises:
      UserError: another function is the claim of this letter.
    """

    def register(ask: Callable[[xr.Dataset], Verdict]) -> Callable[[xr.Dataset], Verdict]:
        check_name("claim", letter, ask, CLAIMS[letter].ask if letter in CLAIMS else None)
        CLAIMS[letter] = Claim(text, statistic, ask, of)
        return ask

    return register


def untold(why: str, **more: Any) -> Verdict:
    """Return the verdict of a study that does not ask the question, or with too few seeds."""
    return Verdict(UNTOLD, why=why, **more)


def judge(
    tested: Outcome, seeds: int, alternative: str = "greater", needs: tuple[bool, str] = (True, ""), **more: Any
) -> Verdict:
    """Turn a test into a verdict.

    Args:
      tested: statistic and p-values.
      seeds: seeds that took part.
      alternative: "greater" or "less", the side on which the claim holds.
      needs: a further condition for "shown", and what to say where it is not met.
      more: fields of `Verdict`.
    """
    if math.isnan(tested.value):
        return untold("nothing differs that could be compared", seeds=seeds, **more)
    p, least, other = tested.greater, tested.least_greater, tested.less
    if alternative == "less":
        p, least, other = tested.less, tested.least_less, tested.greater
    if least > ALPHA and not other <= ALPHA:
        why = f"n = {seeds}: the smallest p-value that these seeds and levels can give is {least:.2g}"
        return Verdict(UNTOLD, tested.value, seeds=seeds, why=why, **more)
    met, otherwise = needs
    verdict = CONTRADICTED if other <= ALPHA else SHOWN if p <= ALPHA and met else NOT_SHOWN
    why = otherwise if p <= ALPHA and not met else ""
    return Verdict(verdict, tested.value, p, seeds, why=why, **more)


@summary_block("claims")
def verdicts(ds: xr.Dataset) -> list[dict[str, Any]]:
    """Return one row a claim, as plain dicts.

    A row holds letter, claim, statistic, its value and interval, p, seeds, verdict, why and details. `no_interval` says
    why there is none of a value that is told; `definition` which "learned" it rests on, "" for none.
    """
    rows = []
    for letter, one in sorted(CLAIMS.items()):
        found = one.ask(ds)
        rows.append(
            {
                "claim": letter,
                "text": one.text,
                "statistic": one.statistic,
                "value": found.statistic,
                "interval": list(found.interval),
                "median": found.median,
                "no_interval": _no_interval(found),
                "definition": found.definition,
                "p": found.p,
                "seeds": found.seeds,
                "verdict": found.verdict,
                "why": "; ".join(filter(None, (found.why, _classes(ds, one, found)))),
                "details": found.details,
            }  # fmt: skip
        )
    return rows


def _classes(ds: xr.Dataset, one: Claim, found: Verdict) -> str:
    """Return on which held-out classes a verdict rests, "" where a study has one alone or nothing can be told."""
    every = unseen(ds)
    if len(every) < 2 or found.verdict == UNTOLD or not one.of:
        return ""
    used = found.classes if found.classes is not None else every if one.of == EVERY else every[-1:]
    names = ds["klass"].values[list(used)].astype(str).tolist()
    return f"over the unseen classes {', '.join(names)}" if len(names) > 1 else f"of the unseen class {names[0]} alone"


def _no_interval(found: Verdict) -> str:
    if math.isnan(found.statistic) or not math.isnan(found.interval[0]):
        return ""
    return found.no_interval or intervals.missing(found.seeds, intervals.LEAST_MEAN)
