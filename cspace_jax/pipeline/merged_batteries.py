"""The answers to all batteries of a workdir, joined into one battery.

The results take from each battery what no earlier one has.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from cspace_jax.config.protocol_names import controlled, is_control
from cspace_jax.evaluation import protocols
from cspace_jax.pipeline import elicit
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.batteries import description
from cspace_jax.storage.evaluations import ELICITED, read_evaluation
from cspace_jax.storage.workdir import DESCRIPTION

_TOLD = ("patch_step", "concept")  # fields that the results keep of each protocol's battery


@dataclasses.dataclass(frozen=True)
class Battery:
    """The answers of one battery, or of several that were joined.

    Attributes:
      names: each query's protocol.
      values: each query's values as text.
      raw: by step prob_samples [r, q, k, s, c] and mean_rgb [r, q, k, 3].
      fields: by protocol what its own battery asked with: "samples", and "patch_step" and "concept" where it says them.
    """

    names: list[str]
    values: list[str]
    raw: Mapping[int, Mapping[str, np.ndarray]]
    fields: dict[str, dict[str, Any]]


class Raw(Mapping[int, Mapping[str, np.ndarray]]):
    """Map each step to the answers of all runs.

    A step is read when it is asked for: all of a large grid take more than the memory.

    Args:
      study: whose runs were asked.
      parts: folders of batteries, and the queries that are taken of each.
    """

    def __init__(self, study: Study, parts: Sequence[tuple[epath.Path, list[int]]]):
        self._study, self._parts, self._steps = study, parts, elicit.steps(study)

    def __getitem__(self, step: int) -> Mapping[str, np.ndarray]:
        if step not in self._steps:
            raise KeyError(step)
        found: dict[str, list[np.ndarray]] = {name: [] for name in ELICITED}
        for root, kept in self._parts:
            files = [elicit.answer_file(root, wave, step) for wave in self._study.waves]
            waves = [read_evaluation(file, ELICITED) for file in files]
            for name, parts in found.items():
                parts.append(np.concatenate([one[name] for one in waves])[:, kept])
        return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)


def load(study: Study) -> Battery | None:
    """Return all complete batteries of a workdir as one, that of the configuration first. No battery gives None.

    A protocol that several batteries hold is taken from the first, its controls from that one alone. Left out, with a
    line that says so: a battery with another number of samples than the first; controls that were not measured with
    the protocol that is taken, and controls that an older version drew in another way.

    Raises:
      UserError: a file is damaged; those of a step are read when they are asked for.
    """
    found = _complete(study)
    parts = [
        (root, kept)
        for root, names in _taken(found).items()
        if (kept := [i for i, name in enumerate(found[root]["protocols"]) if name in names])
    ]
    names, values = ([found[root][part][i] for root, kept in parts for i in kept] for part in ("protocols", "values"))
    fields: dict[str, dict[str, Any]] = {}
    for root, kept in parts:
        stored = (elicit.stored_description(root) or {}).get(elicit.FIELDS) or {}
        told = {"samples": found[root]["samples"]} | {name: stored[name] for name in _TOLD if name in stored}
        fields |= {found[root]["protocols"][i]: told for i in kept}
    return Battery(names, values, Raw(study, parts), fields) if parts else None


def _complete(study: Study) -> dict[epath.Path, dict[str, Any]]:
    """Return the descriptions of all complete batteries by folder, that of the configuration first.

    A line says which batteries are left out.
    """
    own = elicit.folder(study) if study.config.elicit.protocols else None
    for root in sorted({path.parent for path in study.workdir.elicit.glob("*/wave_*")}):
        if not (root / DESCRIPTION).exists():
            print(f"elicit: {root} is left out of the results, its {DESCRIPTION} is gone; ask for the same once more")
    roots = study.workdir.batteries()
    found: dict[epath.Path, dict[str, Any]] = {}
    for root in sorted((root for root in roots if elicit.is_answered(study, root)), key=lambda root: root != own):
        described = description(root)
        if found and described["samples"] != next(iter(found.values()))["samples"]:
            print(f"elicit: {root} is left out of the results, it has another number of samples")
            continue
        found[root] = described
    return found


def _taken(found: dict[epath.Path, dict[str, Any]]) -> dict[epath.Path, set[str]]:
    """Return the protocols and controls that each battery gives.

    A line names the controls that no battery gives.
    """
    homes: dict[str, epath.Path] = {}  # the first battery of each protocol, and of each control without a protocol
    for root, described in found.items():
        for name in described["protocols"]:
            if not is_control(name):
                homes.setdefault(name, root)
    old = {root for root, described in found.items() if described["controls"] != protocols.CONTROLS}
    taken: dict[epath.Path, set[str]] = {}
    for root, described in found.items():
        names = [name for name in described["protocols"] if not (is_control(name) and root in old)]
        taken[root] = {name for name in names if homes.setdefault(_home_of(name, homes), root) == root}
    everything = set().union(*taken.values())
    for root, described in found.items():
        left = [name for name in dict.fromkeys(described["protocols"]) if name not in everything]
        if left:
            why = (
                "controls drawn by an older version"
                if root in old
                else "measured with another battery of their protocol"
            )
            print(f"elicit: {', '.join(left)} of {root} are left out of the results: {why}; ask for them again")
    return taken


def _home_of(name: str, homes: dict[str, epath.Path]) -> str:
    """Return the name whose battery gives a control.

    It is the control's protocol, or the control itself where no battery measured that protocol.
    """
    return controlled(name) if controlled(name) in homes else name
