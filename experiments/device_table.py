"""The findings of experiments/device_check.py as Markdown: verdicts, speeds, golden numbers.

A report holds "about" (the device), "starts" (time, command and commit of each), "options",
and "rows": the answers of experiments/device_parts.py, with what was asked, by the name of their task, PART/DETAIL/...
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cspace_jax.cost.fit import MARGIN
from cspace_jax.cost.preview import ACCELERATORS, SHARE_OF_PEAK
from cspace_jax.text import in_words, minutes
from experiments import golden

Report = Mapping[str, Any]
Rows = dict[str, dict[str, Any]]
# Part of a device's name -> its entry in `ACCELERATORS`, the first that fits; an H200 computes as fast as an H100.
KINDS = {
    "H100": "H100 80 GB",
    "H200": "H100 80 GB",
    "A100": "A100 80 GB",
    "TPU v5 lite": "TPU v5e-8",
    "TPU v5e": "TPU v5e-8",
    "TPU v5": "TPU v5p-8",
}
AS_FAST = 0.95  # share of the fastest rate that counts as equal to it: rates of one program scatter by a few percent


class Verdict(NamedTuple):
    """One row of the verdict table; `ok` is None where there is nothing to hold the measurement against."""

    part: str
    measured: str
    wanted: str
    ok: bool | None


def peak_of(kind: str) -> float | None:
    """Return the operations a second of one device at its default precision, None for a device that is not listed."""
    return next((ACCELERATORS[name].peak for part, name in KINDS.items() if part in kind), None)


def verdicts(report: Report) -> list[Verdict]:
    """Return what the finished rows say, part by part, and then what was left out."""
    rows = {name: row for name, row in report["rows"].items() if row["status"] == "done"}
    parts = (_kill, _golden, _training, _plans, _sampling, _memory, _saving)
    found = [verdict for part in parts for verdict in part(report, rows)]
    return found + list(_unfinished(report["rows"]))


def _of(rows: Rows, part: str) -> Rows:
    return {name: row for name, row in rows.items() if name.split("/")[0] == part}


def _kill(report: Report, rows: Rows) -> Iterator[Verdict]:
    for row in _of(rows, "kill").values():
        equal = "equal" if row["equal"] else "different"
        why = {None: "", True: "; two undisturbed trainings are equal", False: "; so are two undisturbed trainings"}
        measured = f"killed at step {row['killed_at']} of {row['last']}, {equal}{why[row.get('repeatable')]}"
        yield Verdict("kill -9 and resume", measured, "equal bit for bit", row["equal"])


def _golden(report: Report, rows: Rows) -> Iterator[Verdict]:
    for row in _of(rows, "golden").values():
        column = golden.PRECISIONS.index(row["precision"])
        beyond = [n for n, found in row["differences"].items() if not found <= golden.TOLERANCES[n][column]]
        measured = f"{len(row['differences']) - len(beyond)} of {len(row['differences'])} numbers within tolerance"
        measured += f"; beyond: {', '.join(beyond)}" if beyond else ""
        yield Verdict(f"golden numbers, {row['precision']}, {row['way']}", measured, "all", not beyond)


def _training(report: Report, rows: Rows) -> Iterator[Verdict]:
    trained = _of(rows, "train")
    if not trained:
        return
    fastest = max(trained.values(), key=lambda row: row["rate"])
    known = _peak(report) is not None
    wanted = f">= {SHARE_OF_PEAK:.0%} of the peak, which forecasts assume" if known else "no peak is known"
    ok = share(report, fastest) >= SHARE_OF_PEAK if known else None
    measured = f"{fastest['rate']:.3g} run-steps/s, {_speed(report, fastest)}"
    yield Verdict(f"training, fastest: {_named(fastest)}", measured, wanted, ok)
    one, most = (_fastest_of(trained, runs) for runs in (1, max(row["runs"] for row in trained.values())))
    if one and most and one is not most:
        ratio = most["rate"] / one["rate"]
        what = f"{most['runs']} runs against one"
        measured, wanted = f"{ratio:.2f} times the run-steps/s, {what}", f">= {AS_FAST}"
        yield Verdict("training, many runs", measured, wanted, ratio >= AS_FAST)


def _fastest_of(trained: Rows, runs: int) -> dict[str, Any] | None:
    return max((row for row in trained.values() if row["runs"] == runs), key=lambda row: row["rate"], default=None)


def _plans(report: Report, rows: Rows) -> Iterator[Verdict]:
    """Compare what `engine.plan` chooses for the planned wave, known or auto, with the fastest way of the table."""
    wave = report["about"].get("wave")
    ways = {row["way"]: row for row in _of(rows, "train").values() if row["runs"] == wave}
    if not ways:
        return
    chosen = [("known", report["about"]["known"]), *(("auto", row["way"]) for row in _of(rows, "auto").values())]
    for plan, way in chosen:
        fastest = max(ways.values(), key=lambda row: row["rate"])
        ratio = ways[way]["rate"] / fastest["rate"] if way in ways else None
        measured = f"{way}, " + ("not measured" if ratio is None else f"{ratio:.0%} of the fastest, {fastest['way']}")
        wanted = f">= {AS_FAST:.0%} of the fastest of {len(ways)}"
        yield Verdict(f"engine.plan={plan}, {wave} runs", measured, wanted, ratio and ratio >= AS_FAST)


def _sampling(report: Report, rows: Rows) -> Iterator[Verdict]:
    for row in _of(rows, "sample").values():
        measured = f"{row['rate']:.3g} images/s, {_speed(report, row)}"
        yield Verdict(f"sampling, {_named(row)}", measured, "-", None)


def _memory(report: Report, rows: Rows) -> Iterator[Verdict]:
    for row in _of(rows, "memory").values():
        predicted = in_words(row["predicted"])
        if row["peak"] is None:
            measured, ok = f"not told by the backend, {predicted} predicted", None
        else:
            ratio = row["peak"] / row["predicted"]
            measured, ok = (
                f"{in_words(row['peak'])}, {ratio:.2f} of {predicted} predicted",
                1 / MARGIN <= ratio <= MARGIN,
            )
        yield Verdict(f"memory, {_named(row)}", measured, f"{1 / MARGIN:.2f} to {MARGIN:.2f} of the prediction", ok)


def _saving(report: Report, rows: Rows) -> Iterator[Verdict]:
    for row in _of(rows, "save").values():
        speeds = (f"{word} in {row[kind]:.1f} s" for word, kind in (("saved", "save"), ("restored", "restore")))
        same = "equal" if row["equal"] else "different"
        measured = f"{in_words(row['bytes'])} of {row['runs']} runs, {', '.join(speeds)}, {same}"
        yield Verdict("save and restore", measured, "equal bit for bit", row["equal"])


def _unfinished(rows: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, row in rows.items():
        if row["status"] == "failed":
            yield Verdict(name, f"failed: {row['note']}", "done", False)
        elif row["status"] == "out of memory":
            yield Verdict(name, "out of memory", "-", None)
    skipped = [row["note"] for row in rows.values() if row["status"] == "skipped"]
    if skipped:
        left_out = f"{len(skipped)} of {len(rows)} parts skipped ({skipped[0]})"
        yield Verdict("time", left_out, "none; the same command goes on, --minutes gives more time", None)


def share(report: Report, row: Mapping[str, Any]) -> float:
    """Return the share of the peak of the devices that took part; 1 is the whole peak.

    Where no peak is known it is the share of the measured matmul speed. The matmul speed is that of one device; CPU
    devices share it.
    """
    about, peak = report["about"], _peak(report)
    devices = 1 if about["backend"] == "cpu" and peak is None else row["devices"]
    return row["flops"] / (devices * (peak or about["matmul"]))


def _peak(report: Report) -> float | None:
    return report["options"]["peak"] * 1e12 or peak_of(report["about"]["device_kind"])


def _speed(report: Report, row: Mapping[str, Any]) -> str:
    return f"{_flops(row['flops'])}, {share(report, row):.1%} of {_reference(report)}"


def _reference(report: Report) -> str:
    return "the matmul speed" if _peak(report) is None else "the peak"


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['runs']} run{'s' * (row['runs'] > 1)}{' as ' * bool(row['way'])}{row['way']}"


def _flops(rate: float) -> str:
    return f"{rate / 1e12:.3g} TFLOP/s"


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    return "\n".join([*_header(report), *_verdict_table(report), *_speeds(report), *_golden_table(report), ""])


def _header(report: Report) -> Iterator[str]:
    about, last = report["about"], report["starts"][-1]
    kind, count = about.get("device_kind", "device not known"), about.get("device_count", 1)
    yield f"### Device check: {count} x {kind}, {last['time'][:10]}"
    yield ""
    yield f"`{last['command']}` (start {len(report['starts'])} in this folder)"
    if "versions" not in about:
        return
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("jax", "jaxlib", "flax", "orbax-checkpoint"))
    commits = ", ".join(dict.fromkeys(str(start["commit"])[:20] for start in report["starts"]))
    yield f"- {about['config']}, {versions}, Python {about['python']}, commit {commits}"
    memory = in_words(about["memory"]) if about["memory"] != float("inf") else "not told"
    peak = _peak(report)
    known = "no peak is known" if peak is None else f"peak {_flops(peak)} a device"
    memory += "" if about["backend"] == "cpu" else " a device"
    speed = f"matmul speed {_flops(about['matmul'])} (measured), {known}"
    yield f"- planned wave {about['wave']} runs, memory {memory}, {speed}"


def _verdict_table(report: Report) -> Iterator[str]:
    yield ""
    yield "| part | measured | wanted | ok? |"
    yield "|---|---|---|---|"
    words = {None: "-", True: "yes", False: "NO"}
    for part, measured, wanted, ok in verdicts(report):
        yield f"| {part} | {_cell(measured)} | {wanted} | {words[ok]} |"


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _speeds(report: Report) -> Iterator[str]:
    rows = {name: row for part in ("train", "sample") for name, row in _of(report["rows"], part).items()}
    if not rows:
        return
    yield ""
    yield f"| what | runs | way | images at once | per s | TFLOP/s | of {_reference(report)} | first call, s |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in sorted(rows.items(), key=lambda item: (item[0].split("/")[0] != "train", item[1]["runs"])):
        what, way = name.split("/")[0], row["way"] or report["about"]["known"]
        if row["status"] != "done":
            yield f"| {what} | {row['runs']} | {way} | | {row['status']} | | | |"
            continue
        numbers = f"{row['rate']:.3g} | {row['flops'] / 1e12:.3g} | {share(report, row):.1%} | {row['first_call']:.1f}"
        yield f"| {what} | {row['runs']} | {way} | {row['microbatch']} | {numbers} |"


def _golden_table(report: Report) -> Iterator[str]:
    rows = {n: row for n, row in _of(report["rows"], "golden").items() if row["status"] == "done"}
    if not rows:
        return
    yield ""
    yield "| golden number | " + " | ".join(f"{row['precision']}: found | allowed" for row in rows.values()) + " |"
    yield "|---" * (1 + 2 * len(rows)) + "|"
    for name, allowed in golden.TOLERANCES.items():
        cells = [
            f"{row['differences'][name]:.1e} | {allowed[golden.PRECISIONS.index(row['precision'])]:.0e}"
            for row in rows.values()
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def summary(report: Report, seconds: float) -> str:
    """Return the decisions of a start in one line, with the `seconds` that it took."""
    oks = [verdict.ok for verdict in verdicts(report)]
    return (
        f"{oks.count(True)} ok, {oks.count(False)} not ok, {oks.count(None)} without a verdict, in {minutes(seconds)}"
    )
