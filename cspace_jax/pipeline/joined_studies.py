"""Several finished studies are opened together as one dataset and one table."""

import dataclasses
import functools
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import xarray as xr
from etils import epath

from cspace_jax.analysis import joining
from cspace_jax.config import to_dict
from cspace_jax.config.reading import fail, one_of
from cspace_jax.errors import UserError
from cspace_jax.paths import expanded, real_path
from cspace_jax.pipeline import preparation
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import results, workdir
from cspace_jax.storage.files import PathLike, located, quoted

WILDCARDS = "*?["


@dataclasses.dataclass(frozen=True)
class Studies:
    """Hold studies by name.

    A study's name is that of its folder, or the whole path where two folders share a name.

    Attributes:
      by_name: the studies, in the order in which they were named or found.
    """

    by_name: Mapping[str, Study]

    def __getitem__(self, name: str) -> Study:
        one_of("study", name, self.by_name)
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    @property
    def names(self) -> list[str]:
        """The names of the studies, as in the coordinate `study` of the dataset."""
        return list(self.by_name)

    @functools.cached_property
    def dataset(self) -> xr.Dataset:
        """The results of all studies as one labelled dataset, with the coordinate `study` along `run`.

        See `analysis.joining.join`: runs are numbered anew, and steps or protocols that a study does not have are NaN.

        Raises:
          UserError: a study has no results, or their concepts or classes differ.
        """
        return joining.join({name: _with_whole_grid(study) for name, study in self.by_name.items()})

    def summary(self, name: str = "") -> Any:
        """Return the numbers of every study on its own, as `Study.summary` does.

        Args:
          name: of a table, such as "learning_times", which gets `study` as the first part of its index; of a block of
            the summary, which is a dict by study; "" = the whole summaries, by study.

        Raises:
          UserError: there is nothing of that name, or a study has no results.
        """
        found = {study: one.summary(name) for study, one in self.by_name.items()}
        if all(isinstance(one, pd.DataFrame) for one in found.values()):
            return pd.concat(found, names=["study"])
        return found


def _with_whole_grid(study: Study) -> xr.Dataset:
    """Return the results of a study under the grid of all its runs.

    The results of older versions name the grid that the study had before it was extended.
    """
    ds = study.dataset
    config = {**results.config_of(ds), "grid": to_dict(study.as_evaluated(ds))["grid"]}
    return ds.assign_attrs(config=json.dumps(config, sort_keys=True))


def is_several(path: Any) -> bool:
    """Return whether an argument names several workdirs.

    It does if it is a list of paths, or a path with a wildcard that is no folder.
    """
    if not isinstance(path, str | os.PathLike):
        return True
    return any(sign in os.fspath(path) for sign in WILDCARDS) and not located(path, "workdir").exists()


def open_several(workdirs: PathLike | Sequence[PathLike]) -> Studies:
    """Return the studies of a pattern such as "runs/*", or of a list of paths and patterns.

    A pattern passes over what is no workdir.

    Raises:
      UserError: a pattern finds no workdir, a path is none, or one is named twice, perhaps in two ways.
    """
    several = [workdirs] if isinstance(workdirs, str | os.PathLike) else list(workdirs)
    for one in several:
        if not isinstance(one, str | os.PathLike):
            fail("workdir", one, "must be the path of a file or folder")
    paths = [path for one in several for path in (_matching(one) if is_several(one) else [os.fspath(one)])]
    if not paths:
        raise UserError("workdirs is empty: must hold the path of at least one workdir")
    places = list(map(real_path, paths))
    repeated = [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if repeated:
        raise UserError(f"workdirs: {quoted(repeated[0])} is named twice")
    studies = [preparation.reopen(path, "figures") for path in paths]
    return Studies(dict(zip(names_of(paths), studies, strict=True)))


def _matching(pattern: PathLike) -> list[str]:
    """Return the workdirs that a pattern matches, sorted.

    Raises:
      UserError: there is none.
    """
    text = expanded(pattern)
    if "://" in text:
        root = located(text, "workdir")
        found = [os.fspath(path) for path in root.parent.glob(root.name)]
    else:
        found = glob.glob(text)
    kept = sorted(filter(workdir.is_workdir, found))
    if not kept:
        raise UserError(f"workdir = {os.fspath(pattern)!r}: no workdir of cspace_jax is named like this")
    return kept


def names_of(paths: Sequence[str]) -> list[str]:
    """Return a name for each of several different paths.

    It is the last part of the path, or all of it where the last part is not unique.
    """
    last = [epath.Path(path).name for path in paths]
    return [path if last.count(name) > 1 or not name else name for name, path in zip(last, paths, strict=True)]
