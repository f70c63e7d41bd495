"""The numbers of a study for people: summary.json and a short table in the terminal."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from cspace_jax.analysis.intervals import LEAST_MEDIAN, missing
from cspace_jax.analysis.turning_steps import RunTurn
from cspace_jax.analysis.verdict_tables import known, print_claims, print_comparisons, time_words
from cspace_jax.config.definitions import LEARNED
from cspace_jax.config.protocol_names import NAIVE
from cspace_jax.storage.files import write_atomic
from cspace_jax.storage.workdir import Workdir

_ANY_WIDTH = 10_000  # characters, more than a table has
WIDTH = 120  # columns that a table may need, whatever the terminal's: a narrow one breaks lines, and nothing is cut
_SEVERAL = "level"  # header where several settings vary
_TITLE = "Steps until a concept is learned ({learned}): median over seeds, and how many learned if not all did"
_LEGEND = (
    "taken for: the seen class that an unseen class is first drawn as, and how low its weak concept fell, of the mean "
    "trajectory over seeds; turn: the step of that; 80 %: seeds that reach it on all concepts, at some save and at the "
    "last."
)


def wide_console() -> Console:
    """Return a console of at least `WIDTH` columns."""
    console = Console()
    console.width = max(console.width, WIDTH)
    return console


def to_json(value: Any) -> Any:
    """Return `value` as strict JSON types: NaN and infinities become None, NumPy scalars and arrays plain Python."""
    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_json(one) for one in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_summary(summary: Mapping[str, Any], workdir: Workdir) -> None:
    """Write summary.json into a workdir, atomically; unknown numbers are null."""
    text = json.dumps(to_json(summary), indent=2, allow_nan=False)
    write_atomic(workdir.summary, (text + "\n").encode())


_ELICIT_TITLE = "\nWhat protocols elicit: steps until P(class asked for) is learned ({learned})"
_ELICIT_LEGEND = (
    "emerges: median over seeds, and how many if not all; std: over the seeds that did; sooner: seeds in which it "
    "emerges before naive prompting, scored in the same way, does; end, best: mean P(class) at the last save and at "
    "the best save (the query is chosen on one half of the samples and scored on the other); max: plain maximum over "
    "queries, last save."
)


def _elicitation_table(axis: str, labels: list[str], levels: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(axis, overflow="fold")
    table.add_column("class", no_wrap=True)
    table.add_column("protocol", overflow="fold")
    for name in ("emerges", "std", "sooner", "end", "best", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, level in zip(labels, levels, strict=True):
        for klass, block in level["classes"].items():
            for name, one in block.items():
                compared = one.get("compared", one["emergence"]["seeds"])
                sooner = "" if name == NAIVE else f"{one['sooner_than_naive']}/{compared}"
                numbers = (one["final_split"], one["best_split"], one["final"])
                cells = [f"{number:.2f}" if known(number) else "" for number in numbers]
                spread = f"{one['emergence_std']:,.0f}" if known(one["emergence_std"]) else ""
                table.add_row(label, klass, name, time_text(one["emergence"]), spread, sooner, *cells)
                label = klass = ""
        table.add_section()
    return table


_MASK_TITLE = "\nHeld-out class {held_out_class} by the share of class {masked_class} whose {masked_concept} is hidden"
_MASK_LEGEND = (
    "to: steps until learned ({learned}), median over seeds and how many if not all; P: probability of each concept's "
    "second value at the last save{colors}."
)
_COLORS_LEGEND = "; R, G, B: mean colour of the object, and R - B [95 % interval over seeds]"


def _mask_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    names, rendered = list(summary["levels"][0]["prob"]), "redness" in summary
    for name in ["mask", *(f"to {name}" for name in names), "P", *(("R, G, B", "R - B") if rendered else ())]:
        table.add_column(name, justify="right", no_wrap=True)
    for level in summary["levels"]:
        table.add_row(
            f"{level['mask']:g}",
            *(time_text(level["steps_to_80"][name]) for name in names),
            ", ".join(f"{level['prob'][name]['mean']:.2f}" for name in names),
            *(_color_cells(level) if rendered else ()),
        )
    return table


def _color_cells(level: Mapping[str, Any]) -> tuple[str, str]:
    low, high = level["redness"]["interval"]
    interval = f" [{low:.2f}, {high:.2f}]" if known(low) else ""
    channels = ", ".join(f"{channel['mean']:.2f}" for channel in level["rgb"].values())
    return channels, f"{level['redness']['mean']:.2f}{interval}"


_ELICITED_TITLE = (
    "\nElicited at a masked share of {mask:g}{where}: steps until it is learned, and the mean at the last save"
)


def _elicited_table(found: Mapping[str, Any], concept: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("protocol", no_wrap=True)
    for name in (concept, "end", "class", "end"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, block in found["protocols"].items():
        cells = [(time_text(one["steps_to_80"]), f"{one['final']['mean']:.2f}") for one in block.values()]
        table.add_row(name, *cells[0], *cells[1])
    return table


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the learning times and what the held-out classes were first mistaken for, one row a level and class."""
    console = console or Console()
    found, learned = summary["levels"], summary["learned"]
    console.print(_TITLE.format(learned=learned), highlight=False)
    _print_levels(console, found, lambda axis, labels: _table(axis, labels, found, learned))
    for line in [_LEGEND, _intervals(found), _definitions(), *sentences(summary)]:
        console.print(line, highlight=False)
    if summary.get("elicitation"):
        console.print(_ELICIT_TITLE.format(learned=learned), highlight=False)
        asked = summary["elicitation"]
        _print_levels(console, asked, lambda axis, labels: _elicitation_table(axis, labels, asked))
        console.print(_ELICIT_LEGEND, highlight=False)
    if summary.get("comparisons"):
        print_comparisons(summary["comparisons"], console)
    if summary.get("underspecification"):
        _print_masks(summary["underspecification"], learned, console)
    print_claims(summary["claims"], console)


def _mask_groups(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the groups of masked fractions, each with the words that say which one it is.

    The words are "" for an only group and in old summaries.
    """
    groups = found.get("groups", [found])
    return [(f" at {group['label']}" if len(groups) > 1 else "", group) for group in groups]


def _print_masks(found: Mapping[str, Any], learned: str, console: Console) -> None:
    groups = _mask_groups(found)
    for where, group in groups:
        console.print(_MASK_TITLE.format(**found) + where, highlight=False)
        console.print(_mask_table(group))
    words = _COLORS_LEGEND if "redness" in groups[0][1] else ""
    console.print(_MASK_LEGEND.format(learned=learned, colors=words), highlight=False)
    for where, group in groups:
        elicited = group.get("elicited")
        if elicited and len(elicited["protocols"]) > 1:
            console.print(_ELICITED_TITLE.format(**elicited, where=where), highlight=False)
            console.print(_elicited_table(elicited, found["masked_concept"]))


def _intervals(levels: list[dict[str, Any]]) -> str:
    """Return where the intervals of the medians are, or why there are none."""
    none = missing(min((len(level["seeds"]) for level in levels if level["seeds"]), default=0), LEAST_MEDIAN)
    return (
        f"medians: {none}, it takes {LEAST_MEDIAN} seeds." if none else "medians: 95 % intervals are in summary.json."
    )


def _definitions() -> str:
    return "learned: " + "; ".join(f"{name} = {text.partition(';')[0]}" for name, text in LEARNED.items()) + "."


def report(summary: Mapping[str, Any], workdir: Workdir, console: Console | None = None) -> None:
    """Write a summary into summary.json of a workdir and print its tables."""
    write_summary(summary, workdir)
    print_summary(summary, console)


def print_turns(turns: Sequence[RunTurn], console: Console | None = None) -> None:
    """Print the turning step of each run, by the saves and by the steps added around it."""
    console = console or Console()
    if not turns:
        console.print("No run turns: nothing was zoomed.")
        return
    table = Table("run", "class", "held back", "turn by saves", "turn with added steps", box=box.SIMPLE_HEAD)
    for one in turns:
        fine = f"{one.zoomed:,.0f} (every {one.zoomed_spacing:,.0f})" if math.isfinite(one.zoomed) else "-"
        coarse = f"{one.by_saves:,.0f} (saves {one.spacing:,.0f} apart around it)"
        table.add_row(str(one.run), one.klass, one.concept, coarse, fine)
    console.print(table)


def time_text(times: Mapping[str, Any]) -> str:
    """Return a median of times as text, and how many seeds learned if not all did."""
    return time_words(times, interval=False, share=" {learned}/{seeds}", at_most="<=")  # any terminal has these


def _table(axis: str, labels: list[str], levels: list[dict[str, Any]], shown: str) -> Table:
    concepts = list(levels[0]["signal"])
    padding = (0, 1 if len(concepts) < 3 else 0, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=padding, pad_edge=False)
    table.add_column(axis, overflow="fold")
    table.add_column("class", no_wrap=True)
    for name in [*concepts, "all", "taken for", "turn", "80 %"]:
        table.add_column(name, justify="right", no_wrap=True)
    for label, level in zip(labels, levels, strict=True):
        _add_level(table, label, level, concepts, shown)
    return table


def _print_levels(console: Console, levels: list[dict[str, Any]], make: Callable[[str, list[str]], Table]) -> None:
    """Print the table that `make` makes of the header and the names of its levels.

    Where several settings vary and the table would be wider than the terminal, which would cut names until two of them
    look alike, levels are numbered and their names stand above the table in full.
    """
    axis, names = _labels([level["label"] for level in levels])
    table = make(axis, names)
    width = console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum
    if axis == _SEVERAL and width > console.width:
        table = make(_SEVERAL, [str(number) for number in range(1, len(names) + 1)])
        for number, name in enumerate(names, 1):
            console.print(f"{_SEVERAL} {number}: {name}", highlight=False)
    console.print(table)


def _labels(labels: list[str]) -> tuple[str, list[str]]:
    """Return (header, shortened labels): "axis=value" becomes "value" below "axis" where only one axis varies.

    The label of an only level says nothing and is left out.
    """
    if len(labels) == 1:
        return "", [""]
    pairs = [label.partition("=") for label in labels]
    if len({axis for axis, *_ in pairs}) == 1 and all(sign and "=" not in value for _, sign, value in pairs):
        return pairs[0][0], [value for *_, value in pairs]
    return _SEVERAL, labels


def _add_level(table: Table, label: str, level: Mapping[str, Any], concepts: list[str], shown: str) -> None:
    times = level["training_classes"]["learning_times"]
    table.add_row(label, "seen", *(time_text(times[name][shown]) for name in [*concepts, "joint"]))
    for name, block in level["classes"].items():
        if not block["trained"]:
            times, found, count = block["learning_times"], block["memorisation"], block["reached_80"]
            cells = [time_text(times[concept][shown]) for concept in [*concepts, "joint"]]
            counts = f"{count['momentary']}, {count['persistent']} of {count['seeds']}"
            table.add_row("", name, *cells, _mistaken(found), _turning(found), counts)
    table.add_section()


def _mistaken(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    return f"{found['as_class']} {found['min_correct']:.2f}" if found["memorised"] else "none"


def _turning(found: Mapping[str, Any]) -> str:
    return f"{found['turning_step']:,.0f}" if found and known(found["turning_step"]) else ""


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return the findings in plain words: order of the learning times, masking, product of accuracies, divergence."""
    lines = []
    concept = summary["swept_concept"]
    for place, kinds in summary["order"][concept].items():
        check = kinds[summary["learned"]]
        if check["ordered"] is not None:
            where = "the training classes" if place == "training_classes" else f"held-out class {place}"
            verdict = "sooner at every stronger signal" if check["ordered"] else "NOT in the order of the signal"
            if check["groups"] > 1:
                verdict = f"sooner at every stronger signal in {check['ordered_groups']} of {check['groups']} groups"
                verdict += " with the other settings equal"
            lines.append(f"{concept} on {where}: learned {verdict} ({check['levels']} levels).")
    lines += _mask_sentences(summary.get("underspecification"))
    lines += _product_sentences(summary)
    if summary["runs"]["diverged"]:
        diverged, total = summary["runs"]["diverged"], summary["runs"]["total"]
        lines.append(f"{diverged} of {total} runs diverged and {'is' if diverged == 1 else 'are'} left out.")
    return lines


def _mask_sentences(found: Mapping[str, Any] | None) -> list[str]:
    lines: list[str] = []
    if not found:
        return lines
    for where, group in _mask_groups(found):
        of = f"class {found['held_out_class']}{where}"
        for concept, check in group["slower"].items():
            if check["ordered"] is not None:
                verdict = (
                    "at no larger fraction sooner, and last at the largest" if check["ordered"] else "NOT in its order"
                )
                line = f"{concept} on held-out {of} by masked fraction: learned {verdict} ({check['levels']} levels)."
                lines.append(line)
        if "redness" in group and group["redness"]["rises"] is not None:
            rises, within = group["redness"]["rises"], group["redness"]["rises_within_intervals"]
            verdict = "rises with the masked fraction" if rises or within else "does NOT rise with it throughout"
            verdict += ", within intervals over seeds" if within and not rises else ""
            lines.append(f"red minus blue of {of} at the end: {verdict}.")
    return lines


def _product_sentences(summary: Mapping[str, Any]) -> list[str]:
    checks: dict[str, list[Mapping[str, float]]] = {}
    for level in summary["levels"]:
        for name, block in level["classes"].items():
            if not block["trained"] and known(block["product_check"]["mean"]):
                checks.setdefault(name, []).append(block["product_check"])
    lines = []
    for name, found in checks.items():
        mean, largest = np.mean([one["mean"] for one in found]), max(one["largest"] for one in found)
        what = f"accuracy of held-out class {name} on all concepts minus the product of the concepts' accuracies"
        lines.append(f"{what}: {mean:+.3f} on average, at most {largest:.2f} either way.")
    return lines
