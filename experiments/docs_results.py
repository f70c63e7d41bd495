"""The result files of docs/data, each read and summarised once, and the Markdown of a table."""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import xarray as xr
from etils import epath

from cspace_jax.analysis import summary
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir

MEASURED = ("false_alarms", "coverage")  # numbers of scripts that say on which result files
DATA = pathlib.Path(__file__).resolve().parents[1] / "docs" / "data"


def checksums(paths: Iterable[pathlib.Path]) -> dict[str, str]:
    """Return the SHA-256 of result files by name, of finished workdirs that of their dataset."""
    files = {path.name: Workdir(epath.Path(path)).dataset if path.is_dir() else path for path in paths}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


class Results:
    """The result files and their summaries, each read once."""

    def __init__(self, folder: pathlib.Path = DATA):
        self.folder = folder
        self._datasets: dict[str, xr.Dataset] = {}
        self._summaries: dict[str, dict[str, Any]] = {}

    def dataset(self, study: str) -> xr.Dataset:
        """Return a study's dataset."""
        if study not in self._datasets:
            self._datasets[study] = results.open_results(self.folder / f"{study}.nc")
        return self._datasets[study]

    def summary(self, study: str) -> dict[str, Any]:
        """Return a study's summary."""
        if study not in self._summaries:
            self._summaries[study] = summary.summarise(self.dataset(study))
        return self._summaries[study]

    def stale(self) -> list[str]:
        """Return which numbers of scripts were measured on other result files than those that are kept."""
        stale = []
        for name in MEASURED:
            measured = self.numbers(name).get("results", {})
            kept = checksums(file for one in measured if (file := self.folder / one).exists())
            if not measured or measured != kept:
                stale.append(name)
        return stale

    def numbers(self, name: str) -> Any:
        """Return what a script wrote as JSON."""
        return json.loads((self.folder / f"{name}.json").read_text())


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
