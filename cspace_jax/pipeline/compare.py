"""Two studies, or a study and published numbers, are put side by side, shown and written here."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr
from etils import epath
from rich.console import Console

from cspace_jax.analysis import learning, published, published_tables, report, side_by_side, side_by_side_tables
from cspace_jax.config import Config, Difference, differences
from cspace_jax.config.reading import one_of
from cspace_jax.errors import UserError
from cspace_jax.paths import real_path
from cspace_jax.pipeline import preparation
from cspace_jax.pipeline.joined_studies import names_of
from cspace_jax.pipeline.study import Study
from cspace_jax.storage.files import PathLike, quoted, require_outside_all, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS = "comparison.json"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Put two studies side by side.

    "Learned" is defined as in the configurations (`learned`) of both; where these differ, by the default, "stays_80".

    Attributes:
      studies: by name, the first and the second.
    """

    studies: Mapping[str, Study]

    @property
    def names(self) -> list[str]:
        """The names of both studies."""
        return list(self.studies)

    @functools.cached_property
    def differences(self) -> list[Difference]:
        """Every field in which the configurations differ, as they were evaluated (`Study.as_evaluated`).

        Raises:
          UserError: a study has no results, or they are damaged.
        """
        first, second = (study.as_evaluated(self._datasets[name]) for name, study in self.studies.items())
        return differences(first, second)

    @functools.cached_property
    def numbers(self) -> dict[str, Any]:
        """All numbers as plain dicts and lists; see `analysis.side_by_side.compare`.

        Raises:
          UserError: a study has no results, or their concepts or classes differ.
        """
        return side_by_side.compare(self._datasets)

    @functools.cached_property
    def _datasets(self) -> dict[str, xr.Dataset]:
        shown = learning.with_definition
        return {name: shown(study.dataset, study.config.learned) for name, study in self.studies.items()}

    @property
    def times(self) -> pd.DataFrame:
        """The learning times of both studies and their tests, by level, class and concept.

        Raises:
          UserError: as `numbers`.
        """
        return side_by_side_tables.to_frame(self.numbers)

    @property
    def figures(self) -> "dict[str, Figure]":
        """The figures by name: "curves" and "times". Studies that share no level have none.

        Raises:
          UserError: as `numbers`.
        """
        from cspace_jax.plots import side_by_side as drawing  # Matplotlib is loaded where something is drawn

        if not self.numbers["rows"]:
            return {}
        pairs, _ = side_by_side.match(list(self._datasets.values()))
        return {"curves": drawing.curves(self._datasets, pairs), "times": drawing.times(self.numbers)}

    def show(self, console: Console | None = None) -> None:
        """Print the differences of the configurations, the learning times and the tests.

        Raises:
          UserError: as `numbers`.
        """
        console = console or Console()
        numbers = self.numbers
        side_by_side_tables.print_differences(self.differences, self.names, console)
        side_by_side_tables.print_rows(numbers, console)

    def save(self, outdir: PathLike) -> list[epath.Path]:
        """Write comparison.json and the figures, PNG and PDF, into a folder, and return the files.

        Raises:
          UserError: as `numbers`, the folder is or lies in a workdir, or it cannot be written.
        """
        fields = [dataclasses.asdict(one) for one in self.differences]
        return _save({"differences": fields, **self.numbers}, self, outdir)


@dataclasses.dataclass(frozen=True)
class PublishedComparison:
    """Put a study beside the published numbers (`analysis/published.py`).

    It has `differences`, `numbers`, `times`, `figures`, `show` and `save`, as `Comparison` has.

    Attributes:
      study: of one's own.
      name: of the published numbers, such as "signal".
    """

    study: Study
    name: str

    @property
    def differences(self) -> list[Difference]:
        """The fields in which the study departs from the paper's setting, besides its levels and seeds.

        Raises:
          UserError: there are no results, or they are damaged.
        """
        found = differences(published.paper_setting(self._config), self._config)
        return [one for one in found if one.affects_results]

    @functools.cached_property
    def _dataset(self) -> xr.Dataset:
        return self.study.dataset

    @property
    def _config(self) -> Config:
        return self.study.as_evaluated(self._dataset)

    @functools.cached_property
    def parts(self) -> list[published.Part]:
        """The published tables with the study's numbers.

        Raises:
          UserError: there are no results, or nothing is published for such a study.
        """
        return published.beside(self._dataset, self._config, self.name)

    @property
    def numbers(self) -> dict[str, Any]:
        """All numbers as plain dicts and lists.

        Raises:
          UserError: as `parts`.
        """
        return {
            "published": self.name, "comparable": not self.differences,
            "parts": [
                {
                    "title": part.title,
                    "rows": [
                        {"level": row.level.label, "exact": row.exact, "sep_col": row.at[0], "sep_size": row.at[1],
                         "ours": row.ours, "published": row.published}
                        for row in part.rows
                    ],
                    "rank_correlation": {key: published.agreement(part.rows, key) for key in part.columns},
                }
                for part in self.parts
            ],
        }  # fmt: skip

    @property
    def times(self) -> pd.DataFrame:
        """The measured and the published numbers, by level and number.

        Raises:
          UserError: as `parts`.
        """
        rows = [
            {"level": row.level.label, "number": name, "exact": row.exact, "ours": row.ours[key],
             "published": row.published[key]}
            for part in self.parts for row in part.rows for key, name in part.columns.items()
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["level", "number", "exact", "ours", "published"]).set_index(
            ["level", "number"]
        )

    @property
    def figures(self) -> "dict[str, Figure]":
        """The figures by name: "published". There is none where no level was published.

        Raises:
          UserError: as `parts`.
        """
        from cspace_jax.plots import published as drawing

        if not any(part.rows for part in self.parts):
            return {}
        return {"published": drawing.figure(self._dataset, self.parts, comparable=not self.differences)}

    def show(self, console: Console | None = None) -> None:
        """Print the departures of the study from the paper's setting, and the tables.

        Raises:
          UserError: as `parts`.
        """
        console = console or report.wide_console()
        parts = self.parts
        side_by_side_tables.print_differences(self.differences, (f"paper ({self.name})", _name(self.study)), console)
        published_tables.print_parts(parts, self._dataset, self._config, console)

    def save(self, outdir: PathLike) -> list[epath.Path]:
        """Write comparison.json and the figures, as `Comparison.save` does, and return the files.

        Raises:
          UserError: as `parts`, or as `Comparison.save`.
        """
        fields = [dataclasses.asdict(one) for one in self.differences]
        return _save({"differences": fields, **self.numbers}, self, outdir)


def compare(first: Study | PathLike, second: Study | PathLike) -> Comparison | PublishedComparison:
    """Put two studies side by side, or a study and published numbers. It writes nothing.

        cs.compare("runs/a", "runs/b").times  # pandas
        cs.compare("runs/signal", "published:signal").save("comparison")

    Args:
      first: a workdir, an open study, or "published:signal" or "published:signal_grid".
      second: the same; one of both must be a study.

    Raises:
      UserError: there is no such workdir or published study, both are the same, or both are published.
    """
    for one in (first, second):
        if not isinstance(one, Study | str | os.PathLike):
            raise UserError(f"compare: {one!r} must be a workdir, an open study or published numbers")
    sides = [one if isinstance(one, Study) else os.fspath(one) for one in (first, second)]
    named = [one.removeprefix(published.PREFIX) for one in sides if isinstance(one, str) and _is_published(one)]
    for name in named:
        one_of(f"{published.PREFIX}NAME", name, published.STUDIES)
    studies = [_opened(one) for one in sides if isinstance(one, Study) or not _is_published(one)]
    if len(named) == 2:
        raise UserError("compare: one of both must be a workdir, published numbers are all of one source")
    if named:
        return PublishedComparison(studies[0], named[0])
    paths = [os.fspath(study.workdir.root) for study in studies]
    if len(set(map(real_path, paths))) == 1:
        raise UserError(f"compare: {quoted(paths[0])} is named twice")
    return Comparison(dict(zip(names_of(paths), studies, strict=True)))


def _is_published(one: str) -> bool:
    """Return whether a text names published numbers."""
    return one.startswith(published.PREFIX)


def _opened(one: Study | str) -> Study:
    """Return a study, opened if its path is given."""
    return one if isinstance(one, Study) else preparation.reopen(one, "figures")


def _name(study: Study) -> str:
    """Return the name of a study's folder."""
    return study.workdir.root.name


def default_outdir(comparison: Comparison | PublishedComparison) -> str:
    """Return the name of a comparison's folder in the current folder. It holds both names."""
    names = comparison.names if isinstance(comparison, Comparison) else [_name(comparison.study), "published"]
    return "comparison_" + "_".join(name.strip("/").replace("/", "-") for name in names)


def _save(
    numbers: Mapping[str, Any], comparison: Comparison | PublishedComparison, outdir: PathLike
) -> list[epath.Path]:
    """Write the numbers and the figures of a comparison into a folder, and return the files."""
    from cspace_jax.plots import style

    folder = require_outside_all(outdir, "outdir")
    text = json.dumps(report.to_json(numbers), indent=2, allow_nan=False)
    write_atomic(folder / NUMBERS, text + "\n")
    drawn = [path for name, figure in comparison.figures.items() for path in style.save(figure, folder / name)]
    return [folder / NUMBERS, *drawn]
