"""Measure how often intervals over seeds cover the truth: simulated studies of 2 to 20 seeds.

    python -m experiments.coverage --studies=4000
    python -m experiments.coverage --results=docs/data/signal.nc --studies=4000

Distributions over seeds of a probability that is the mean of 16 samples: normal, skewed, and "learned or not", of which
three quarters, a half or a quarter learn. With --results two more are fitted to a finished study: the seeds of its
levels at the save at which they differ most, as a beta distribution and as a mixture of two. Of paired differences the
median is covered, also where a quarter of the seeds, nearly a half or three quarters gain and the others do not (where
just half do, any number in between is a median). Learning times are log-normal and censored where a third of the seeds
has not learned. Rank correlations are those of normal numbers that rise over a few levels, whose slope may differ from
seed to seed. The last row is no interval of the package: Student's of the mean of such differences, which covers too
little. "-" is an interval that does not exist for so few seeds.
"""

import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from rich import box
from rich.table import Table
from scipy import special, stats

from cspace_jax.analysis import intervals
from cspace_jax.analysis.learning import describe_difference
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.report import wide_console
from cspace_jax.cli import scripts
from cspace_jax.config.reading import fail
from cspace_jax.storage import results
from experiments import docs_results

SEEDS = (2, 3, 5, 6, 10, 20)
SAMPLES = 16
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def learned_or_not(share: float) -> Draw:
    """Return a draw of seeds of which a share ends near 0.94, the others near 0.17."""

    def draw(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        return np.where(rng.random(size) < share, rng.beta(30, 2, size), rng.beta(2, 10, size))

    return draw


PROBABILITIES: dict[str, Draw] = {
    "normal (0.6, 0.1)": lambda rng, size: np.clip(rng.normal(0.6, 0.1, size), 0, 1),
    "skewed, beta (1.5, 8)": lambda rng, size: rng.beta(1.5, 8, size),
    "skewed, 1 - exponential (0.08)": lambda rng, size: np.clip(1 - rng.exponential(0.08, size), 0, 1),
    "3/4 learned": learned_or_not(0.75),
    "1/2 learned": learned_or_not(0.5),
    "1/4 learned": learned_or_not(0.25),
}


def gained_or_not(share: float) -> Draw:
    """Return a draw of differences: half a unit in a share of the seeds, next to nothing in the others."""
    return lambda rng, size: np.where(rng.random(size) < share, 0.5, 0.02) + rng.normal(0, 0.02, size)


DIFFERENCES: dict[str, Draw] = {
    "median difference, gained in 1/4 of the seeds": gained_or_not(0.25),
    "median difference, gained in 45 % of the seeds": gained_or_not(0.45),
    "median difference, gained in 3/4 of the seeds": gained_or_not(0.75),
    "median difference, normal": lambda rng, size: rng.normal(0.2, 0.3, size),
    "median difference, skewed": lambda rng, size: rng.gamma(4.0, 0.1, size) - 0.2,
}
# No interval of the package: what Student's of the mean would cover.
STUDENT: dict[str, Draw] = {"Student's of a mean, gained in 1/4 of the seeds": gained_or_not(0.25)}
NUMBERS: dict[str, Draw] = {
    "another mean, normal": lambda rng, size: rng.normal(0.2, 0.3, size),
    "another mean, skewed": lambda rng, size: rng.gamma(4.0, 0.1, size) - 0.2,
}


def fitted(ds: xr.Dataset) -> dict[str, Draw]:
    """Return distributions fitted to the seeds of a study's most spread level, class and save."""
    prob = ds["joint_prob"].isel(protocol=0).transpose("run", "step", "klass").values
    groups = [prob[list(level.runs)] for level in levels(ds) if len(level.runs) >= intervals.LEAST_MEAN]
    places = [(group.std(axis=0).max(), group) for group in groups]
    group = max(places, key=lambda one: one[0])[1]
    step, klass = np.unravel_index(np.argmax(group.std(axis=0)), group.shape[1:])
    seeds = np.clip(group[:, step, klass], 0.5 / SAMPLES, 1 - 0.5 / SAMPLES)
    a, b = np.asarray(stats.beta.fit(seeds, floc=0, fscale=1), float)[:2]
    high, low = seeds[seeds > 0.5], seeds[seeds <= 0.5]
    found: dict[str, Draw] = {f"fitted, beta ({a:.1f}, {b:.1f})": lambda rng, size: rng.beta(a, b, size)}
    if len(high) and len(low):
        share, up, down = len(high) / len(seeds), special.logit(high), special.logit(low)

        def mixed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
            sides = [special.expit(rng.normal(one.mean(), one.std() + 0.2, size)) for one in (up, down)]
            return np.where(rng.random(size) < share, *sides)

        found[f"fitted, {share:.0%} learned"] = mixed
    return found


def covered(draw: Draw, seeds: int, studies: int, samples: int) -> tuple[float, float]:
    """Return the share of simulated studies whose interval holds the mean, and its mean width; NaN: there is none."""
    rng = np.random.default_rng(0)
    truth = draw(np.random.default_rng(1), (1000, 1000)).mean()
    values = draw(rng, (seeds, studies))
    if samples:
        low, high = intervals.share_interval(rng.binomial(samples, values) / samples, samples)
    else:
        low, high = intervals.mean_interval(values)
    if np.isnan(low).all():
        return float("nan"), float("nan")
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def covered_differences(draw: Draw, seeds: int, studies: int) -> tuple[float, float]:
    """Return the share of studies whose interval holds the median of paired differences, and its mean width."""
    truth = float(np.median(draw(np.random.default_rng(1), (1000, 1000))))
    values = draw(np.random.default_rng(0), (studies, seeds))
    low, high = np.array([describe_difference(one)["interval"] for one in values]).T
    if np.isnan(low).all():
        return float("nan"), float("nan")
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def covered_medians(seeds: int, studies: int, share: float) -> tuple[float, float]:
    """Return the same for the median of log-normal times of which a share never comes; the width is not defined."""
    times = np.exp(np.random.default_rng(0).normal(7.0, 0.4, (studies, seeds)))
    last = np.exp(7.0 + 0.4 * stats.norm.ppf(1 - share)) if share else np.inf
    ends = np.array([intervals.median_interval(np.where(one > last, np.nan, one)) for one in times])
    if np.isnan(ends[:, 0]).all():
        return float("nan"), float("nan")
    truth = float(np.exp(7.0))
    return float(np.mean((ends[:, 0] <= truth) & ~(ends[:, 1] < truth))), float("nan")


# levels, slope from level to level in units of the noise, its standard deviation over seeds
CORRELATIONS: dict[str, tuple[int, float, float]] = {
    "rank correlation, 3 levels, no trend": (3, 0.0, 0.0),
    "rank correlation, 3 levels, a trend": (3, 0.7, 0.0),
    "rank correlation, 3 levels, a clear trend": (3, 2.0, 0.0),
    "rank correlation, 5 levels, no trend": (5, 0.0, 0.0),
    "rank correlation, 5 levels, a trend": (5, 0.5, 0.0),
    "rank correlation, 5 levels, a trend that differs": (5, 0.3, 0.5),
}


def correlations(
    rng: np.random.Generator, size: tuple[int, int], levels: int, slope: float, spread: float
) -> np.ndarray:
    """Return rank correlations [*size] with the level, of numbers that rise over levels by a slope of each seed."""
    slopes = rng.normal(slope, spread, size)[..., None]
    numbers = slopes * np.arange(levels) + rng.normal(0.0, 1.0, (*size, levels))
    ranks, places = numbers.argsort(-1).argsort(-1), np.arange(levels)
    return ((ranks - ranks.mean(-1, keepdims=True)) @ (places - places.mean())) / (levels * (levels**2 - 1) / 12)


def covered_correlations(seeds: int, studies: int, kind: tuple[int, float, float]) -> tuple[float, float]:
    """Return the share of studies whose interval holds the mean rank correlation, and its mean width."""
    truth = correlations(np.random.default_rng(1), (1000, 500), *kind).mean()
    low, high = intervals.correlation_interval(correlations(np.random.default_rng(0), (seeds, studies), *kind), kind[0])
    if np.isnan(low).all():
        return float("nan"), float("nan")
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def measure(studies: int, ds: xr.Dataset | None = None) -> dict[str, dict[int, tuple[float, float]]]:
    """Return coverage and mean width by distribution and number of seeds."""
    found = {
        name: {seeds: covered(draw, seeds, studies, SAMPLES) for seeds in SEEDS}
        for name, draw in (PROBABILITIES | ({} if ds is None else fitted(ds))).items()
    }
    found |= {name: {seeds: covered(draw, seeds, studies, 0) for seeds in SEEDS} for name, draw in NUMBERS.items()}
    for name, draw in DIFFERENCES.items():
        found[name] = {seeds: covered_differences(draw, seeds, studies) for seeds in SEEDS}
    for name, share in (("median of times, all learn", 0.0), ("median of times, 1/3 never", 1 / 3)):
        found[name] = {seeds: covered_medians(seeds, studies, share) for seeds in SEEDS}
    for name, kind in CORRELATIONS.items():
        found[name] = {seeds: covered_correlations(seeds, studies, kind) for seeds in SEEDS}
    found |= {name: {seeds: covered(draw, seeds, studies, 0) for seeds in SEEDS} for name, draw in STUDENT.items()}
    return found


def table_of(found: dict[str, dict[int, tuple[float, float]]], part: int) -> Table:
    """Return coverage in percent (part 0) or the mean width (part 1), a row a distribution."""
    title = "Coverage of 95 % intervals, in percent" if part == 0 else "Their mean width"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("over seeds, n =", no_wrap=True)
    for seeds in SEEDS:
        table.add_column(str(seeds), justify="right", no_wrap=True)
    for name, row in found.items():
        cells = [row[seeds][part] for seeds in SEEDS]
        if not np.isnan(cells).all():
            table.add_row(
                name, *("-" if np.isnan(one) else f"{one:.2f}" if part else f"{100 * one:.1f}" for one in cells)
            )
    return table


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    parser = scripts.Parser(prog="python -m experiments.coverage", description="Coverage of intervals over seeds.")
    parser.add_argument("--studies", type=int, default=4000, help="simulated studies of each kind")
    parser.add_argument("--results", default="", help="results that two distributions are fitted to")
    parser.add_argument("--out", default="", help="JSON file that the numbers are written to; '' = none")
    asked = parser.parse_args(arguments)
    if asked.studies < 1:
        fail("studies", asked.studies, "must be at least 1")
    found = measure(asked.studies, results.open_results(asked.results) if asked.results else None)
    console = wide_console()
    console.print(table_of(found, 0))
    console.print(table_of(found, 1))
    if asked.out:
        rows = {name: {str(n): one for n, (one, _) in row.items()} for name, row in found.items()}
        files = docs_results.checksums([pathlib.Path(asked.results)] if asked.results else [])
        numbers = {"results": files, "studies": asked.studies, "rows": rows}
        pathlib.Path(asked.out).write_text(json.dumps(numbers, indent=2).replace("NaN", "null") + "\n")


if __name__ == "__main__":
    scripts.start(run)
