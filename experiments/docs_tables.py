"""Tables of the documents, made from the result files of docs/data: name of the table -> lines of Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cspace_jax.analysis.learning import default_sigma, memories, trajectory
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.verdict_tables import interval_words, known, p_value, time_words, with_interval
from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.plots import landscapes
from experiments import false_alarms, source_tables
from experiments.docs_results import Results, markdown


def signal(found: Results) -> list[str]:
    """Return the colour sweep by level: learning times by two definitions, and what class 11 is drawn as."""
    ds, study = found.dataset("signal"), found.summary("signal")
    rows = []
    for level, block in zip(levels(ds), study["levels"], strict=True):
        seen, unseen = (part["learning_times"]["color"] for part in (block["training_classes"], block["classes"]["11"]))
        reached = block["classes"]["11"]["reached_80"]
        rows.append(
            [
                f"{level.setting['sep_col']:g}",
                *(f"{time_words(part['stays_80'])}; {time_words(part['first_80'])}" for part in (seen, unseen)),
                first_drawn(ds, level.runs),
                f"{reached['persistent']} of {reached['seeds']}",
            ]
        )
    return markdown(
        (
            "`sep_col`", "steps to learn colour, seen classes: stays; first", "the same, class 11",
            "class 11 is first drawn as; (P(blue), P(small)) there, mean", "80 % on both concepts at the end",
        ),
        rows,
    )  # fmt: skip


def first_drawn(ds: xr.Dataset, runs: Sequence[int]) -> str:
    """Return as which classes runs memorise class 11, and the mean coordinates at each run's closest approach."""
    klass = ds["klass"].values.tolist().index("11")
    paths = trajectory(ds, runs, klass, NAIVE, default_sigma(ds))
    every = memories(ds, klass)
    found = [every[run] for run in runs]
    names = [str(ds["klass"].values[one.nearest]) if one and one.memorised else "none" for one in found]
    counts = ", ".join(f"{name} in {names.count(name)}" for name in sorted(set(names), key=lambda n: -names.count(n)))
    steps = ds["step"].values.tolist()
    points = [path[steps.index(int(one.closest_step))] for path, one in zip(paths, found, strict=True) if one]
    mean = np.mean(points, axis=0)
    return f"{counts} of {len(names)} seeds; ({mean[0]:.2f}, {mean[1]:.2f})"


def hidden(found: Results) -> list[str]:
    """Return the protocols of the hidden study: emergence, and differences from naive prompting and from controls."""
    study = found.summary("hidden")
    block = study["elicitation"][0]["classes"]["11"]
    compared: dict[str, list[str]] = {}
    for row in study["comparisons"][0]["classes"]["11"]:
        text = f"{with_interval(row['difference'])}, p {p_value(row['p_holm'])}"
        compared.setdefault(row["protocol"], []).append(
            text if row["against"] == NAIVE else f"{row['against']}: {text}"
        )
    rows = [
        [
            name, time_words(one["emergence"]), _number(one["emergence_std"], ",.0f"),
            f"{one['final_split']:.2f} [{one['final_split_interval'][0]:.2f}, {one['final_split_interval'][1]:.2f}]",
            compared.get(name, [""])[0], "; ".join(compared.get(name, [""])[1:]),
        ]
        for name, one in block.items()
    ]  # fmt: skip
    return markdown(
        (
            "protocol", "emerges: median [95 %], seeds", "std over seeds", "P(class 11) at the end",
            "minus naive prompting, over log(step), median", "minus its controls, median",
        ),
        rows,
    )  # fmt: skip


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if known(value) else ""


def guidance(found: Results) -> list[str]:
    """Return the guidance study: P(class 11) at the last save by level and weight."""
    ds = found.dataset("guidance")
    asked = [i for i, name in enumerate(ds["query_protocol"].values) if str(name) == "guidance"]
    klass = ds["klass"].values.tolist().index("11")
    rows = []
    for level in levels(ds):
        prob = ds["query_prob"].isel(run=list(level.runs), step=-1, query=asked, klass=klass)
        joint = prob.prod("concept").transpose("query", "run").values
        rows.append([level.label, *(f"{one.mean():.2f}" for one in joint)])
    return markdown(("level", *(f"w = {float(ds['query_value'].values[i]):g}" for i in asked)), rows)


def masking(found: Results) -> list[str]:
    """Return the study of underspecification: what class 11 comes to at each masked fraction."""
    study = found.summary("underspec")["underspecification"]
    rows = [
        [
            f"{100 * block['mask']:g} %",
            *(time_words(block["steps_to_80"][name]) for name in ("color", "shape")),
            *(with_interval(block["prob"][name], ".2f") for name in ("color", "shape")),
            with_interval(block["redness"]),
        ]
        for block in study["levels"]
    ]
    header = (
        "masked fraction", "steps to 80 % blue, seeds", "steps to 80 % triangle, seeds", "P(blue) at the end",
        "P(triangle) at the end", "red minus blue at the end",
    )  # fmt: skip
    return markdown(header, rows)


def masked_half(found: Results) -> list[str]:
    """Return what the protocols elicit of class 11 where half of the red triangles hide their colour."""
    asked = found.summary("underspec")["underspecification"]["elicited"]["protocols"]
    rows = [
        [
            name,
            *(time_words(one[part]["steps_to_80"]) for part in ("masked_concept", "class")),
            *(with_interval(one[part]["final"], ".2f") for part in ("masked_concept", "class")),
        ]
        for name, one in asked.items()
    ]
    header = (
        "protocol",
        "steps to blue, seeds",
        "steps to the class, seeds",
        "P(blue) at the end",
        "P(class) at the end",
    )
    return markdown(header, rows)


STUDIES_OF_CLAIMS = {
    "a": "signal", "b": "signal", "c": "signal", "d": "hidden", "e": "hidden", "f": "hidden", "g": "underspec",
    "h": "guidance", "i": "hidden", "j": "signal",
}  # fmt: skip


def _claim_rows(found: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the study that was made for each claim, and what it says of it."""
    for letter, study in STUDIES_OF_CLAIMS.items():
        yield study, next(one for one in found.summary(study)["claims"] if one["claim"] == letter)


def claims(found: Results) -> list[str]:
    """Return the verdicts: each claim in the study that was made for it."""
    rows = [
        [row["claim"], row["text"], study, f"**{row['verdict']}**" + f": {row['why']}" * bool(row["why"])]
        for study, row in _claim_rows(found)
    ]
    return markdown(("", "claim", "study", "verdict"), rows)


def claim_numbers(found: Results) -> list[str]:
    """Return what the verdicts rest on: each claim's statistic, and its measured rates of false alarms."""
    measured = found.numbers("false_alarms")
    alarms = {
        (row["claim"], row["study"]): [row[name] / measured["shuffles"] for name in ("shown", "contradicted")]
        for row in measured["rows"]
    }
    not_behind = {row["study"]: row["not_behind"] / measured["shuffles"]
                  for row in measured["rows"] if row["claim"] == false_alarms.BEHIND}  # fmt: skip
    departs = {row["study"]: max(row["departs"].values()) / measured["shuffles"]
               for row in measured["rows"] if row["claim"] == false_alarms.PROPORTION}  # fmt: skip
    rows = []
    for study, row in _claim_rows(found):
        rates = [f"{100 * rate:.1f} %" for rate in alarms.get((row["claim"], study), [])]
        if row["claim"] == "f":
            rates += [f"not behind {100 * not_behind[study]:.1f} %"]
        if row["claim"] == "g":
            rates += [f"not in proportion {100 * departs[study]:.1f} %"]
        rows.append(
            [
                row["claim"], row["statistic"], _number(row["value"], ".2f"), _interval(row), p_value(row["p"]),
                str(row["seeds"]), "; ".join(rates),
            ]
        )  # fmt: skip
    header = ("", "statistic", "value", "95 %", "p", "seeds", "false alarms: shown; contradicted")
    return markdown(header, rows)


def verdicts(found: Results) -> list[str]:
    """Return the verdict of every study on every claim."""
    studies = list(dict.fromkeys(STUDIES_OF_CLAIMS.values()))
    claims_of = {study: {row["claim"]: row for row in found.summary(study)["claims"]} for study in studies}
    rows = [
        [
            f"{letter}: {claims_of[studies[0]][letter]['text']}",
            *(claims_of[study][letter]["verdict"] for study in studies),
        ]
        for letter in STUDIES_OF_CLAIMS
    ]
    return markdown(("claim", *studies), rows)


def _interval(row: Mapping[str, Any]) -> str:
    if words := interval_words(row):
        return words
    return f"none: {row['no_interval']}" if row["no_interval"] else ""


def coverage(found: Results) -> list[str]:
    """Return the measured coverage of the intervals, in percent."""
    numbers = found.numbers("coverage")["rows"]
    seeds = list(next(iter(numbers.values())))
    rows = [[name, *("-" if row[n] is None else f"{100 * row[n]:.1f}" for n in seeds)] for name, row in numbers.items()]
    return markdown(("over seeds", *(f"n = {n}" for n in seeds)), rows)


def expect(found: Results) -> list[str]:
    """Return README's table: what the colour sweep shows, in a line a level."""
    ds, study = found.dataset("signal"), found.summary("signal")
    rows = []
    for level, block in zip(levels(ds), study["levels"], strict=True):
        seen, unseen = (
            time_words(part["learning_times"]["color"]["stays_80"])
            for part in (block["training_classes"], block["classes"]["11"])
        )
        rows.append([f"{level.setting['sep_col']:g}", seen, unseen, first_drawn(ds, level.runs).partition(";")[0]])
    header = (
        "colour signal", "steps to learn colour (`stays_80`), seen classes: median [95 %]", "unseen class",
        "the unseen class (blue, small) is first drawn as",
    )  # fmt: skip
    return markdown(header, rows)


def landscape(found: Results) -> list[str]:
    """Return Eq. 1 fitted to the mean trajectories of the colour sweep: a of each level, then a tied to the signals."""
    _, fits, shared = landscapes.measured(found.dataset("signal"))
    rows = [
        [level.label, f"{fit.a:.2f} [{fit.intervals['a'][0]:.2f}, {fit.intervals['a'][1]:.2f}]", f"{fit.residual:.3f}"]
        for level, fit in fits
    ]
    if shared is not None:
        low, high = shared.interval
        tied = f"(signal of size / signal of colour) to the power {shared.exponent:.2f} [{low:.2f}, {high:.2f}]"
        rows.append(["all, one rate", tied, f"{np.sqrt(np.mean(shared.residuals**2)):.3f}"])
    return markdown(("level", "a [interval]", "rms distance"), rows)


TABLES: dict[str, Callable[[Results], list[str]]] = {
    "signal": signal, "hidden": hidden, "guidance": guidance, "claims": claims, "claim_numbers": claim_numbers,
    "verdicts": verdicts,
    "coverage": coverage, "expect": expect, "landscape": landscape, "masking": masking, "masked_half": masked_half,
    "digits": source_tables.digits, "stroke": source_tables.stroke, "faces": source_tables.faces,
    "proxies": source_tables.proxies, "three": source_tables.three,
}  # fmt: skip
