"""The top of a study's page: the question, verdicts, learning times, and what was run."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr

from cspace_jax.analysis import intervals
from cspace_jax.analysis.claims import UNTOLD
from cspace_jax.analysis.levels import levels
from cspace_jax.analysis.verdict_tables import interval_words, known, p_value, time_words
from cspace_jax.explorer.charts import listed
from cspace_jax.plots import style
from cspace_jax.text import minutes

# However the command was started, and wherever it lay on that machine; a shell quotes a path with a space.
_PROGRAM = re.compile(r"^('[^']*/(cspace|main\.py)'|\S*/(cspace|main\.py)|main\.py)(?= |$)")


def claims(summary: Mapping[str, Any]) -> list[tuple[bool, list[dict[str, str]], list[str]]]:
    """Return the verdicts on the paper's claims as text: (True, those that can be told), (False, the others).

    Each with a sentence for every definition of "learned" that its verdicts rest on.
    """
    rows = summary.get("claims", ())
    parts = [(told, [row for row in rows if (row["verdict"] != UNTOLD) is told]) for told in (True, False)]
    return [(told, _claim_rows(part), _learned(part, summary)) for told, part in parts if part]


def _learned(rows: list[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """Return which definition of "learned" which claims rest on; summaries of older versions do not say it."""
    letters: dict[str, list[str]] = {}
    for row in rows:
        if row.get("definition"):
            letters.setdefault(row["definition"], []).append(row["claim"])
    words = summary["definitions"]
    return [f"What claims {', '.join(found)} call learned: {words[name]} ({name})." for name, found in letters.items()]


def _claim_rows(rows: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "claim": row["claim"], "text": row["text"], "statistic": row["statistic"], "why": row["why"] or "",
            "value": f"{row['value']:.2f}" if known(row["value"]) else "", "verdict": row["verdict"],
            "interval": interval_words(row), "p": p_value(row["p"]) if known(row["p"]) else "",
            "seeds": str(row["seeds"]) if row["seeds"] else "", "no_interval": row.get("no_interval") or "",
        }
        for row in rows
    ]  # fmt: skip


def learning_times(ds: xr.Dataset, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of learning times as text: concepts, and a row a level and class."""
    definition = summary["learned"]
    concepts = [*map(str, ds["concept"].values), "joint"]
    rows = []
    for label, level in zip((one.label for one in levels(ds)), summary["levels"], strict=True):
        places = {"seen classes": level["training_classes"]}
        places |= {_words(ds, name): block for name, block in level["classes"].items() if not block["trained"]}
        for place, block in places.items():
            times = block["learning_times"]
            cells = [time_words(times[concept][definition]) for concept in concepts]
            rows.append({"level": label, "klass": place, "cells": cells, "taken": _taken(ds, block)})
    titles = [*map(style.concept_title, concepts[:-1]), "all"]
    return {"definition": definition, "words": summary["definitions"][definition], "titles": titles, "rows": rows}


def facts(summary: Mapping[str, Any], env: Mapping[str, Any], times: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the facts of a study as pairs of a name and a text; unknown ones are left out.

    They tell what was run, on what and how long. Command, device, date, versions and commit are those of the first
    start. Each later start has a line that says where it differs.
    """
    runs, starts = summary["runs"], _starts(env)
    seconds, first = sum(times.values()), _told(starts[0])
    shown = [
        ("Command", first["command"]),
        ("Scale", str(summary["scale"])),
        ("Runs", f"{runs['total']}" + (f", {runs['diverged']} diverged and left out" if runs["diverged"] else "")),
        ("Seeds", _seeds(summary)),
        ("Medians", intervals.missing(_least(summary), intervals.LEAST_MEDIAN) or "with 95 % intervals over seeds"),
        ("Device", first["device"]),
        ("Time", minutes(seconds) + _stages(times) if seconds else ""),
        ("Date", str(starts[0].get("time", ""))),
        ("Versions", first["versions"]),
        ("Commit", first["commit"]),
        *(("Later", text) for text in _later(starts)),
    ]
    return [(name, text) for name, text in shown if text]


def _starts(env: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the records of all starts that computed something, the first one first."""
    earlier = env.get("earlier", ())
    return [*(one for one in earlier if isinstance(one, Mapping)), env] if isinstance(earlier, list) else [env]


def _told(start: Mapping[str, Any]) -> dict[str, str]:
    versions = start.get("versions") or {}
    return {
        "command": _PROGRAM.sub("cspace", str(start.get("command_line", ""))),
        "device": f"{start.get('device_count')} x {start['device_kind']}" if start.get("device_kind") else "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "commit": str(start.get("git_commit") or ""),
    }


def _later(starts: list[Mapping[str, Any]]) -> list[str]:
    """Return a text for each later start; equal starts in a row share one.

    It tells the command, and in what the start differed from the one before.
    """
    texts, before = [], _told(starts[0])
    for told, group in itertools.groupby(starts[1:], _told):
        dates = [str(one["time"]) for one in group if one.get("time")]
        parts = ["the same command" if told["command"] == before["command"] else told["command"] or "unknown command"]
        parts += [f"{len(dates)} times, last {dates[-1]}" if len(dates) > 1 else dates[-1]] if dates else []
        parts += [f"{name} {_changed(before, told, name)}" for name in list(told)[1:] if told[name] != before[name]]
        texts.append("; ".join(parts))
        before = told
    return texts


def _changed(before: Mapping[str, str], told: Mapping[str, str], name: str) -> str:
    """Return the parts of a text of `_told` that are new, such as the versions that differ."""
    parts = [part for part in told[name].split(", ") if part not in before[name].split(", ")]
    return ", ".join(parts) or "unknown"


def _seeds(summary: Mapping[str, Any]) -> str:
    """Return the seeds of all runs, and which of them diverged at which level."""
    lost = [f"{seed} at {level['label']}" for level in summary["levels"] for seed in level["diverged_seeds"]]
    every = {seed for level in summary["levels"] for seed in (*level["seeds"], *level["diverged_seeds"])}
    return ", ".join(map(str, sorted(every))) + (f" (diverged: {listed(lost)})" if lost else "")


def run_line(summary: Mapping[str, Any], env: Mapping[str, Any], times: Mapping[str, float]) -> str:
    """Return scale, runs, device and time of a study in one line."""
    shown = dict(facts(summary, env, times))
    parts = [f"{shown['Scale']} scale", f"{shown['Runs']} runs", shown.get("Device", ""), minutes(sum(times.values()))]
    return ", ".join(part for part in parts[: 4 if times else 3] if part)


def _stages(times: Mapping[str, float]) -> str:
    return " (" + ", ".join(f"{stage} {minutes(seconds)}" for stage, seconds in times.items()) + ")"


def _least(summary: Mapping[str, Any]) -> int:
    return min((len(level["seeds"]) for level in summary["levels"] if level["seeds"]), default=0)


def _words(ds: xr.Dataset, klass: str) -> str:
    return style.class_label(ds, list(map(str, ds["klass"].values)).index(klass))


def _taken(ds: xr.Dataset, block: Mapping[str, Any]) -> str:
    found = block.get("memorisation") or {}
    return f"{_words(ds, found['as_class'])}" if found.get("memorised") else "none" if found else ""
