"""The numbers of a study as pandas tables, by level and class."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import xarray as xr

from cspace_jax.analysis import summary
from cspace_jax.config.reading import fail
from cspace_jax.text import closest


def learning_times(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a level, class, concept and definition: median step, its interval and how many seeds learned.

    `klass` is "seen" for the mean over the training classes; the concept "joint" means all at once. A median of NaN
    means never. Definitions: `summary.DEFINITIONS`.
    """
    rows = []
    for level in found["levels"]:
        places = {"seen": level["training_classes"]} | level["classes"]
        for klass, block in places.items():
            for concept, kinds in block["learning_times"].items():
                for definition, one in kinds.items():
                    row = {"level": level["label"], "klass": klass, "concept": concept, "definition": definition}
                    low, high = one["interval"]
                    numbers = {name: one[name] for name in ("median", "learned", "seeds")}
                    rows.append({**row, **numbers, "low": low, "high": high})
    return pd.DataFrame(rows).set_index(["level", "klass", "concept", "definition"])


def memorisation(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a level and held-out class: what it was first drawn as, and when its trajectory turned.

    Both are those of the mean trajectory over seeds; the summary has those of each seed (`per_seed`).
    """
    names = ("as_class", "memorised", "weak_concept", "min_correct", "at_step", "turning_step")
    rows = [
        {"level": level["label"], "klass": klass, **{name: block["memorisation"].get(name) for name in names}}
        for level in found["levels"]
        for klass, block in level["classes"].items()
        if not block["trained"]
    ]
    return pd.DataFrame(rows).set_index(["level", "klass"])


def claims(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a claim of the paper: its words, what was measured, and the verdict (docs/claims.md).

    `low`, `high`: 95 % interval of the value, of `median` where that is known; NaN where there is none (`no_interval`
    says why); `definition`: of "learned".
    """
    names = ("median", "p", "seeds", "why", "definition", "no_interval", "text", "statistic")
    rows = [
        {"claim": row["claim"], "verdict": row["verdict"], "value": row["value"], "low": row["interval"][0],
         "high": row["interval"][1], **{name: row[name] for name in names}}
        for row in found["claims"]
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index("claim")


def comparisons(found: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a level, class, protocol and what it is compared with: difference, interval, p-values, seeds.

    The difference is the median over seeds, `low` and `high` its interval.
    Empty where no battery was measured.
    """
    names = ("seeds", "p", "p_holm", "p_least", "median", "median_against", "sooner", "later", "p_times")
    rows = [
        {
            "level": level["label"], "klass": klass, "protocol": row["protocol"], "against": row["against"],
            "difference": row["difference"]["median"], "low": row["difference"]["interval"][0],
            "high": row["difference"]["interval"][1], **{name: row[name] for name in names},
        }
        for level in found.get("comparisons", ())
        for klass, compared in level["classes"].items()
        for row in compared
    ]  # fmt: skip
    index = ["level", "klass", "protocol", "against"]
    return pd.DataFrame(rows, columns=[*index, "difference", "low", "high", *names]).set_index(index)


TABLES = {
    "learning_times": learning_times, "memorisation": memorisation, "claims": claims, "comparisons": comparisons
}  # fmt: skip


def select(ds: xr.Dataset, name: str = "") -> Any:
    """Return a table or a block of the summary of a dataset by name; "" = the whole summary.

    Raises:
      UserError: there is nothing of that name.
    """
    found = summary.summarise(ds)
    known = (*TABLES, *(block for block in found if block not in TABLES))
    if not name:
        return found
    if name not in known:
        fail("summary", name, f"must be one of {', '.join(known)}{closest(name, known)}")
    return TABLES[name](found) if name in TABLES else found[name]
