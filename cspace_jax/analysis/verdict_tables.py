"""Tables for the terminal: protocols against naive prompting and controls, and verdicts on the paper's claims."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cspace_jax.analysis.intervals import LEAST_MEAN, missing
from cspace_jax.analysis.testing import ALPHA

_COMPARED_TITLE = "\nProtocols against naive prompting and their controls, seed by seed"
_COMPARED_LEGEND = (
    "difference: of P(class asked for), averaged over log(step), median over seeds [its 95 % interval]; p: exact "
    "sign-flip test of the mean over seeds, corrected for all comparisons of the class (Holm); sooner: seeds in which "
    "it emerges earlier and later.{fair}{least}"
)
_CLAIMS_TITLE = "\nClaims of the paper, at this scale"
_CLAIMS_LEGEND = (
    "p: one-sided, by rearranging the study itself; shown, contradicted: p of at most {alpha} on either side."
)


def known(value: float | None) -> bool:
    """Return whether a number of the summary is one: neither None nor NaN nor infinite."""
    return value is not None and math.isfinite(value)


def print_comparisons(levels: list[Mapping[str, Any]], console: Console) -> None:
    """Print the block `comparisons` of a summary, a part a level and class."""
    console.print(_COMPARED_TITLE, highlight=False)
    for level in levels:
        for klass, rows in level["classes"].items():
            named = f"{level['label']}, class {klass}" if len(levels) > 1 else f"class {klass}"
            console.print(f"{named}:", highlight=False)
            console.print(_compared(rows))
    rows = [row for level in levels for part in level["classes"].values() for row in part]
    console.print(_compared_legend(rows), highlight=False)


def _compared_legend(rows: list[Mapping[str, Any]]) -> str:
    """Return the legend of the comparisons; it warns of an unfair choice and of too few seeds."""
    counts = sorted({(row["tries"], row["naive_tries"]) for row in rows if row.get("tries")})
    unfair = [(tries, naive) for tries, naive in counts if tries > naive]
    fair = " Naive prompting chooses among as many repeats of the plain query." if counts and not unfair else ""
    if unfair:
        tries, naive = max(unfair)
        fair = (
            f" UNFAIR to naive prompting: it chose among {naive} queries where a protocol chose among up to {tries}; "
        )
        fair += "measure naive_repeats in the same battery."
    least = [row["p_least"] for row in rows if known(row.get("p_least")) and row["p_least"] > 0.05]
    words = f" With so few seeds the smallest p that the correction leaves is {max(least):.2g}." if least else ""
    return _COMPARED_LEGEND.format(fair=fair, least=words)


def _compared(rows: list[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("protocol", overflow="fold")
    table.add_column("against", overflow="fold")
    for name in ("difference", "p", "sooner", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for row in rows:
        name, last = ("" if row["protocol"] == last else row["protocol"]), row["protocol"]
        counts = f"{row['sooner']}, {row['later']}"
        table.add_row(name, row["against"], with_interval(row["difference"]), p_value(row["p_holm"]), counts,
                      str(row["seeds"]))  # fmt: skip
    return table


def time_words(
    times: Mapping[str, Any], interval: bool = True, share: str = ", {learned} of {seeds}", at_most: str = "≤ "
) -> str:
    """Return a median time as text: steps or "never".

    It holds the interval if that is told, and how many seeds learned if not all did. A time at the first save has
    `at_most` before it: it may have come earlier. "unknown" where no seed was asked.
    """
    if times["seeds"] == 0:
        return "unknown"
    first = times.get("first_save")

    def told(step: float | None, unknown: str) -> str:
        if step is None or not known(step):
            return unknown
        return f"{at_most if first is not None and step <= first else ''}{step:,.0f}"

    text = told(times["median"], "never")
    low, high = times["interval"] if interval else (None, None)
    if known(low):
        text += f" [{told(low, '')}, {told(high, 'open')}]"
    return text if times["learned"] == times["seeds"] else text + share.format(**times)


def with_interval(found: Mapping[str, Any], form: str = "+.2f") -> str:
    """Return a mean and its interval as text, or why there is no interval.

    Where a median is known, as of paired differences, it stands in place of the mean.
    """
    low, high = found["interval"]
    value = found.get("median", found["mean"])
    if not known(value):
        return "unknown"
    middle = f"{value:{form}}"
    if known(low) and known(high):
        return f"{middle} [{low:{form}}, {high:{form}}]"
    return f"{middle} ({found.get('no_interval') or missing(len(found['per_seed']), LEAST_MEAN)})"


def p_value(p: float) -> str:
    """Return a p-value as text; "-" where there is none."""
    if not known(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def print_claims(rows: list[Mapping[str, Any]], console: Console) -> None:
    """Print the block `claims` of a summary.

    The claims that can be told come first, as a table; the others follow, a line for each reason.
    """
    told = [row for row in rows if row["verdict"] != "cannot be told"]
    console.print(_CLAIMS_TITLE, highlight=False)
    if told:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("claim", overflow="fold")
        for name in ("value [95 %]", "p", "seeds"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("verdict", overflow="fold")
        for row in told:
            why = f" ({row['why']})" if row["why"] else ""
            table.add_row(row["claim"], row["text"], value_words(row), p_value(row["p"]), str(row["seeds"]),
                          row["verdict"] + why)  # fmt: skip
        console.print(table)
        console.print(_CLAIMS_LEGEND.format(alpha=ALPHA), highlight=False)
        for name, words in (("no_interval", "no 95 % interval"), ("definition", "learned")):
            for what, letters in _grouped(told, name):
                console.print(f"{words}: {letters}: {what}.", highlight=False)
    for why, letters in _grouped([row for row in rows if row not in told], "why"):
        console.print(f"cannot be told: {letters}: {why}.", highlight=False)


def value_words(row: Mapping[str, Any]) -> str:
    """Return the value of a claim's statistic as text, with its interval where there is one.

    Return "" where no value is told.
    """
    if not known(row["value"]):
        return ""
    between = ", " if known(row.get("median")) else " "
    return f"{row['value']:.2f}{between}{interval_words(row)}".rstrip(", ")


def interval_words(row: Mapping[str, Any]) -> str:
    """Return the interval of a claim as text; "" if there is none.

    Where it is the interval of a median and not of the value, the text names that median.
    """
    low, high = row["interval"]
    if not (known(low) and known(high)):
        return ""
    of = f"median {row['median']:.2f} " if known(row.get("median")) else ""
    return f"{of}[{low:.2f}, {high:.2f}]"


def _grouped(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[tuple[str, str]]:
    """Return the different texts of rows of claims under a name, each with the letters of its claims."""
    letters: dict[str, list[str]] = {}
    for row in rows:
        if row[name]:
            letters.setdefault(row[name], []).append(row["claim"])
    return ((what, ", ".join(found)) for what, found in letters.items())
