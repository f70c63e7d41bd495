"""Measure how often a claim is called shown in studies without the effect: finished studies, rearranged at random.

    python -m experiments.false_alarms --results=docs/data/signal.nc,docs/data/hidden.nc --shuffles=1000
    python -m experiments.false_alarms --several --shuffles=1000

Claims about levels (a, b, g, j): levels are exchanged within seeds. Claims about protocols: naive prompting and the
protocol (e, i), and its controls too (d, f), exchange what they gave, in an order drawn anew for every seed. Claim h:
so do the two guidance weights that it compares. Claim c: turning steps are drawn anew among each run's saves. A study
takes part in a claim that it can tell. Claim f has a second null, `BEHIND`: overprompting falls behind the intervention
by just `MARGIN`, with what differs beyond that of a sign drawn anew for every seed; its row also says in how many of
these studies the claim's test calls it not behind, whatever the verdict. Whether delays grow in proportion to the
masked share (`PROPORTION`) is asked of drawn studies in which they do, with the seeds, shares and last step of the
study: log-normal times with the spread that it has over seeds, those after the last step never. Prints the share of
shuffles in which the claim is called shown, and contradicted (of `PROPORTION` faster, and slower, at the worst slope),
with exact intervals of 95 %, and writes their numbers as JSON where --out says, with the checksums of the result files.
With --several drawn studies with four unseen classes take part (`experiments/drawn_studies.py`).
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from rich import box
from rich.table import Table
from tqdm import tqdm

from cspace_jax.analysis import (
    claims_of_capability,
    claims_of_learning,
    claims_of_masking,
    curves,
    intervals,
    learning,
    levels,
    testing,
    underspecification,
)
from cspace_jax.analysis.claims import CLAIMS, CONTRADICTED, SHOWN, UNTOLD
from cspace_jax.analysis.report import wide_console
from cspace_jax.cli import scripts
from cspace_jax.config.protocol_names import NAIVE, is_control
from cspace_jax.errors import UserError
from cspace_jax.pipeline.progress import progress
from cspace_jax.storage import results
from experiments import docs_results, drawn_studies

SPLIT = "capability_split"  # scores of protocols; those of naive prompting beside each are "naive_split"
MEASURED = ("prob", "accuracy", "joint_accuracy", "joint_prob")
Shuffle = Callable[[xr.Dataset, np.random.Generator], xr.Dataset]


def levels_within_seeds(ds: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    """Exchange measurements between the levels of every seed; settings and signals stay where they are."""
    order = np.arange(ds.sizes["run"])
    for seed in np.unique(ds["seed"].values):
        runs = np.flatnonzero(ds["seed"].values == seed)
        order[runs] = rng.permutation(runs)
    moved = {name: (ds[name].dims, ds[name].values[order]) for name in MEASURED}
    status = ("run", ds["status"].values[order])
    return ds.assign(moved).assign_coords(status=status)


def protocols_within_seeds(ds: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    """Exchange each protocol's scores with those of naive prompting in half of the seeds, a seed's runs together."""
    return _exchanged(ds, rng, lambda name: [])


def controls_within_seeds(ds: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    """Exchange the scores of each protocol, of its controls and of naive prompting in every seed."""
    return _exchanged(ds, rng, lambda name: claims_of_capability.controls_of(ds, name))


def _exchanged(ds: xr.Dataset, rng: np.random.Generator, others: Callable[[str], Sequence[str]]) -> xr.Dataset:
    """Rearrange within seeds what naive prompting, a protocol and others of its kind gave, for each protocol."""
    names = [str(one) for one in ds["protocol"].values]
    values = {kind: ds[kind].transpose("run", "protocol", ...).values.copy() for kind in ("naive_split", SPLIT)}
    for name in names:
        if is_control(name) or name == NAIVE:
            continue
        place = names.index(name)
        members = [("naive_split", place), *((SPLIT, names.index(one)) for one in (name, *others(name)))]
        for seed in np.unique(ds["seed"].values):
            runs = np.flatnonzero(ds["seed"].values == seed)
            given = [values[kind][runs, i].copy() for kind, i in members]
            for (kind, i), source in zip(members, rng.permutation(len(members)), strict=True):
                values[kind][runs, i] = given[source]
    dims = ("run", "protocol", *(d for d in ds[SPLIT].dims if d not in ("run", "protocol")))
    return ds.assign({kind: (dims, array) for kind, array in values.items()})


def weights_within_seeds(ds: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    """Exchange the answers at guidance weight 0 and at the weight compared with it in half of the seeds."""
    seeds = np.unique(ds["seed"].values)
    chosen = np.flatnonzero(np.isin(ds["seed"].values, seeds[rng.random(len(seeds)) < 0.5]))
    asked = {float(value): i for i, (value, name) in enumerate(claims_of_capability.queries_of(ds))
             if name == "guidance"}  # fmt: skip
    rows = [asked[0.0], asked[min(weight for weight in asked if weight >= 1)]]
    values = ds["query_prob"].transpose("run", "query", ...).values.copy()
    values[np.ix_(chosen, np.array(rows))] = values[np.ix_(chosen, np.array(rows[::-1]))]
    dims = ("run", "query", *(d for d in ds["query_prob"].dims if d not in ("run", "query")))
    return ds.assign(query_prob=(dims, values))


BEHIND, PROPORTION = "f: not behind", "g: in proportion"
SLOPES = (0.0, 0.5, 1.0, 2.0, 4.0)  # delay at all masked, in times at no mask


def behind_within_seeds(ds: xr.Dataset, rng: np.random.Generator, name: str) -> xr.Dataset:
    """Put overprompting just `MARGIN` behind an intervention, but for what differs beyond that with signs drawn anew.

    A seed keeps one sign in all its runs, saves and classes. Scores may leave 0..1, so that the mean stays what it is.
    """
    places = [[str(one) for one in ds["protocol"].values].index(one) for one in ("overprompt", name)]
    values = ds[SPLIT].transpose("run", "protocol", ...).values.copy()
    seeds, runs = np.unique(ds["seed"].values, return_inverse=True)
    signs = rng.choice((1.0, -1.0), len(seeds))[runs].reshape(-1, *[1] * (values.ndim - 2))
    over, other = (values[:, place] for place in places)
    margin = claims_of_capability.MARGIN
    values[:, places[0]] = other - margin + signs * (over - other + margin)
    return ds.assign(
        {SPLIT: (("run", "protocol", *(d for d in ds[SPLIT].dims if d not in ("run", "protocol"))), values)}
    )


def behind_by_the_margin(ds: xr.Dataset, shuffles: int, bar: tqdm | None = None) -> collections.Counter[str] | None:
    """Return how claim f answers where overprompting is behind by just its margin; None without an intervention.

    Counts of its verdicts, and under "not_behind" of the studies in which its test says that it is less behind.
    """
    told = CLAIMS["f"].ask(ds).details.get("minus_intervention")
    if told is None:
        return None
    counts: collections.Counter[str] = collections.Counter()
    for draw in _shown(range(shuffles), bar):
        moved = behind_within_seeds(ds, np.random.default_rng([ord("f"), draw, 1]), told["protocol"])
        answer = CLAIMS["f"].ask(moved)
        counts[answer.verdict] += 1
        counts["not_behind"] += answer.details["minus_intervention"]["p_not_behind"] <= testing.ALPHA
    return counts


def _shown(draws: range, bar: tqdm | None) -> Iterator[int]:
    """Yield draws that a bar did not know of, and tell it of each."""
    if bar is not None:
        bar.total += len(draws)
    for draw in draws:
        yield draw
        if bar is not None:
            bar.update()


SHUFFLES: dict[str, Shuffle] = {
    **dict.fromkeys("abgj", levels_within_seeds),
    **dict.fromkeys("df", controls_within_seeds),
    **dict.fromkeys("ei", protocols_within_seeds),
    "h": weights_within_seeds,
}


def count(ds: xr.Dataset, letter: str, shuffles: int, bar: Callable[[], Any]) -> collections.Counter[str]:
    """Return how often a claim gets each verdict in rearrangements of a study."""
    verdicts = collections.Counter()
    for draw in range(shuffles):
        rng = np.random.default_rng([ord(letter), draw])
        verdicts[turned_anew(ds, rng) if letter == "c" else CLAIMS[letter].ask(SHUFFLES[letter](ds, rng)).verdict] += 1
        bar()
    return verdicts


def turned_anew(ds: xr.Dataset, rng: np.random.Generator) -> str:
    """Return the verdict on claim c with drawn turning steps.

    That of every run that turns is drawn among its saves after the early phase.
    """
    steps = ds["step"].values
    late = steps[curves.late_saves(steps) :]

    def drawn(ds: xr.Dataset, klass: int) -> list[curves.Memorisation | None]:
        return [
            one
            if one is None or np.isnan(one.turning_step)
            else dataclasses.replace(one, turning_step=float(rng.choice(late)))
            for one in learning.memories(ds, klass)
        ]

    return claims_of_learning.turned(ds, drawn).verdict


def in_proportion(ds: xr.Dataset, studies: int, bar: tqdm | None = None) -> dict[float, list[int]]:
    """Return how many drawn studies with delays in proportion to the masked share are called [faster, slower].

    The key is the delay where all is masked, in times at no mask. Return {} for a study that varies no mask or has too
    few seeds.
    """
    if not underspecification.is_swept(ds):
        return {}
    found, last = underspecification.mask_groups(ds)[0], float(ds["step"].values[-1])
    shares = underspecification.fractions(found)
    concept, _ = underspecification.masked(ds)
    times = claims_of_learning.times_of(ds, [levels.held_out(ds)], concept)[list(found[0].runs)]
    logs, seeds = np.log(times[np.isfinite(times)]), len(found[0].runs)
    if len(logs) < 2 or len(shares) < 3 or 2 / 2**seeds > claims_of_masking.DEPARTS:
        return {}
    counts = {slope: [0, 0] for slope in SLOPES}
    for slope, sides in counts.items():
        rng = np.random.default_rng([ord("g"), int(10 * slope)])
        for _ in _shown(range(studies), bar):
            noise = logs.std(ddof=1) * rng.normal(size=(seeds, len(shares)))
            drawn = np.exp(logs.mean() + noise) * (1 + slope * (shares - shares[0]))
            drawn = np.where(drawn > last, np.nan, drawn)
            one = claims_of_masking.proportion(list(drawn), [shares] * seeds, list(range(seeds)), last)
            if claims_of_masking.departs(one):
                sides[int(one["value"] < 0)] += 1
    return counts


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    parser = scripts.Parser(prog="python -m experiments.false_alarms", description="False alarms of claims.")
    parser.add_argument("--results", default="", help="finished studies: concept_space.nc files or workdirs, a,b,c")
    parser.add_argument("--several", action="store_true", help="also drawn studies with several unseen classes")
    parser.add_argument("--shuffles", type=int, default=1000, help="rearrangements of every study and claim")
    parser.add_argument("--out", default="", help="JSON file that the numbers are written to; '' = none")
    asked = parser.parse_args(arguments)
    if asked.shuffles < 1:
        raise UserError(f"shuffles = {asked.shuffles}: must be at least 1")
    if not (asked.results or asked.several):
        raise UserError("results = '': name finished studies, or ask for drawn ones with --several")
    paths = [path.strip() for path in asked.results.split(",") if path.strip()]
    studies = [results.open_results(path) for path in paths] + (drawn_studies.studies() if asked.several else [])
    pairs = [(ds, one) for ds in studies for one in sorted(CLAIMS) if CLAIMS[one].ask(ds).verdict != UNTOLD]
    if not pairs:
        raise UserError(f"--results = {asked.results!r}: none of the claims can be told by these studies")
    rows = []
    with progress(len(pairs) * asked.shuffles, "shuffle", "study") as bar:
        for ds, letter in pairs:
            found = count(ds, letter, asked.shuffles, bar.update)
            rows.append(_row(letter, ds, found, asked.shuffles - found[UNTOLD]))
        rows += _further(studies, asked.shuffles, bar)
    wide_console().print(table_of(rows, asked.shuffles))
    if asked.out:
        numbers = {
            "results": docs_results.checksums(map(pathlib.Path, paths)),
            "shuffles": asked.shuffles,
            "rows": rows,
        }
        pathlib.Path(asked.out).write_text(json.dumps(numbers, indent=2) + "\n")


def _further(studies: Sequence[xr.Dataset], shuffles: int, bar: tqdm) -> list[dict[str, Any]]:
    """Return the rows of what claims say beside their verdicts: `BEHIND` and `PROPORTION`."""
    rows: list[dict[str, Any]] = []
    for ds in studies:
        if (counts := behind_by_the_margin(ds, shuffles, bar)) is not None:
            told = shuffles - counts[UNTOLD]
            rows.append(_row(BEHIND, ds, counts, told) | {"not_behind": int(counts["not_behind"])})
        if departed := in_proportion(ds, shuffles, bar):
            faster, slower = max(departed.values(), key=sum)
            numbers = {"shown": faster, "contradicted": slower, "told": shuffles}
            rows.append({"claim": PROPORTION, "study": ds.attrs["study"], **numbers,
                         "departs": {f"{slope:g}": sum(both) for slope, both in departed.items()}})  # fmt: skip
    return rows


def _row(claim: str, ds: xr.Dataset, found: collections.Counter[str], told: int) -> dict[str, Any]:
    numbers = {"shown": int(found[SHOWN]), "contradicted": int(found[CONTRADICTED])}
    return {"claim": claim, "study": ds.attrs["study"], **numbers, "told": told}


def table_of(rows: Sequence[dict], shuffles: int) -> Table:
    """Return one row a claim and study: in how many of the shuffled studies it is called shown, and contradicted."""
    table = Table(
        title=f"Verdicts in {shuffles:,} shuffled studies, in percent [95 %]", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("claim", "study", "shown", "contradicted", "told"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        shares = (_with_interval(row[name], shuffles) for name in ("shown", "contradicted"))
        table.add_row(row["claim"], row["study"], *shares, f"{100 * row['told'] / shuffles:.1f}")
    return table


def _with_interval(times: int, shuffles: int) -> str:
    low, high = intervals.count_interval(times, shuffles)
    return f"{100 * times / shuffles:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    scripts.start(run)
