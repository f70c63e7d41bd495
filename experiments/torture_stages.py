"""Which stage of a command a fault meets: named by the command itself (`torture_traced.py`), counted, and aimed at."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cspace_jax.storage import file_names

START, BETWEEN = "start", "between stages"
PARAMS, STATE = "saving parameters", "saving a state"
TRAINING, PROBE, EVALUATION, BATTERY, MERGE = "training", "probe", "evaluation", "battery", "merge"
FIGURES, REPORT, EXTENSION, REPLAY = "figures", "report", "extension", "replay"
# Those that signals are aimed at, in the order of a study. The start of Python, and what lies between two stages, they
# meet by chance alone.
STAGES = (PROBE, TRAINING, PARAMS, STATE, EVALUATION, BATTERY, MERGE, FIGURES, REPORT, EXTENSION, REPLAY)
NONE = "none"  # the fault came after the end, or not at all
ALL = (*STAGES, START, BETWEEN, NONE)
_OF_FILES = {
    file_names.PROBE: PROBE,
    file_names.CHECKPOINTS: TRAINING,
    file_names.METRICS: TRAINING,
    file_names.EVAL: EVALUATION,
    file_names.ELICIT: BATTERY,
    file_names.DATASET: MERGE,
    file_names.TABLE: MERGE,
    file_names.SUMMARY: MERGE,
    file_names.FIGURES: FIGURES,
    file_names.REPORT: REPORT,
    file_names.ADDED_RUNS: EXTENSION,
    file_names.EXTENSIONS: EXTENSION,
    file_names.REPLAY: REPLAY,
    file_names.ADDED_DATASET: REPLAY,
    file_names.ADDED_TABLE: REPLAY,
}
_OF_CHECKPOINTS = {file_names.PARAMS: PARAMS, file_names.STATE: STATE, file_names.KEPT_STATES: STATE}


def of_file(path: pathlib.PurePath) -> str:
    """Return the stage that writes a file of a workdir, which is given by its place in it."""
    parts = list(path.parts)
    if parts[0] == file_names.CHECKPOINTS and len(parts) > 2:
        return _OF_CHECKPOINTS.get(parts[2], TRAINING)
    return _OF_FILES.get(parts[0], START)


@dataclasses.dataclass(frozen=True)
class Trace:
    """The file in which a command writes a line "SECONDS STAGE" whenever it enters or leaves a stage."""

    path: pathlib.Path

    def entries(self) -> list[tuple[float, str]]:
        """Return its whole lines so far."""
        text = self.path.read_text() if self.path.exists() else ""
        lines = (line.partition(" ") for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [(float(seconds), stage.strip()) for seconds, _, stage in lines]

    @property
    def now(self) -> str:
        """Return the stage of a running command; of one that ended, where it did."""
        found = self.entries()
        return found[-1][1] if found else START

    def at(self, seconds: float) -> str:
        """Return the stage of a command so many seconds after its first line."""
        found = self.entries()
        passed = [stage for began, stage in found if began <= found[0][0] + seconds]
        return passed[-1] if passed else START

    def lasted(self) -> dict[str, list[float]]:
        """Return the seconds of each stay in each stage."""
        found, out = self.entries(), collections.defaultdict(list)
        for (began, stage), (ended, _) in zip(found, found[1:], strict=False):
            out[stage].append(ended - began)
        return dict(out)


@dataclasses.dataclass(frozen=True)
class Aim:
    """A moment: so many seconds after a stage was entered for the n-th time."""

    stage: str
    entry: int
    delay: float

    def is_entered(self, trace: Trace) -> bool:
        """Return whether the command is so far."""
        return sum(stage == self.stage for _, stage in trace.entries()) > self.entry

    def __str__(self) -> str:
        return f"{self.delay:.2f} s into {self.stage}"


def aim(stages: Mapping[str, Sequence[float]], hits: Mapping[str, int], rng: np.random.Generator) -> Aim | None:
    """Aim at that stage of a command which was met least so far; None if it has none.

    Args:
      stages: seconds of each stay in each stage (`Trace.lasted`).
      hits: how often each stage was met.
      rng: decides between equals, and where in the stage.
    """
    known = [stage for stage in STAGES if stages.get(stage)]
    if not known:
        return None
    least = min(hits.get(stage, 0) for stage in known)
    stage = str(rng.choice([stage for stage in known if hits.get(stage, 0) == least]))
    entry = int(rng.integers(len(stages[stage])))
    return Aim(stage, entry, float(rng.uniform(0.0, stages[stage][entry])))


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Return as Markdown how many faults of each kind met each stage; a fault may meet several."""
    rows = list(rows)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    counts = collections.Counter((stage, row["kind"]) for row in rows for stage in row["stages"].split("; "))
    lines = [f"| stage | {' | '.join(kinds)} | all |", f"|---|{'---|' * (len(kinds) + 1)}"]
    for stage in ALL:
        found = [counts[stage, kind] for kind in kinds]
        lines.append(f"| {stage} | {' | '.join(map(str, found))} | {sum(found)} |")
    return "\n".join(lines) + "\n"
