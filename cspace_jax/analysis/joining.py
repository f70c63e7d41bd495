"""Several labelled datasets as one: those of several studies, or those of the parts of one study."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cspace_jax.config import GridConfig, grid, reading
from cspace_jax.errors import UserError
from cspace_jax.storage import results

QUERY = "query"
Query = tuple[str, str, int]  # protocol, value, and which of those that are the same


def join(datasets: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the datasets of several studies as one, along `run`.

    Runs are numbered anew from 0, in the order of the studies; the coordinates `study` and `run_of_study` [run] tell
    where each comes from. Steps, protocols and whatever else differs are those of all studies; NaN stands where a study
    has none. What a study holds once, such as `reading`, gets the axis `run`. Of the configurations those fields are
    kept that all studies share.

    Args:
      datasets: by the name of the study, at least one.

    Raises:
      UserError: the concepts or the classes of two studies differ.
    """
    require_same_classes(datasets)
    labelled = [
        _each_run(ds).assign_coords(
            study=("run", np.full(ds.sizes["run"], name)), run_of_study=("run", ds["run"].values)
        )
        for name, ds in datasets.items()
    ]
    attributes = [ds.attrs for ds in datasets.values()]
    shared = {key: value for key, value in attributes[0].items() if all(one.get(key) == value for one in attributes)}
    configs = [results.config_of(ds) for ds in datasets.values()]
    return _stacked(labelled).assign_attrs(shared, config=json.dumps(_shared(configs), sort_keys=True))


def stack(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the datasets of the parts of one study as one, along `run`, whose labels are numbered anew from 0.

    Every other axis holds the labels of all parts, steps in increasing order, the rest in the order of their first
    appearance; NaN stands where a part has none. What has no axis `run`, and the attributes, are those of the first,
    but the grid of the configuration, which has the values of all parts.
    """
    return _stacked(parts).assign_attrs(_whole_grid(parts))


def _stacked(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    queries = list(dict.fromkeys(query for ds in parts for query in _named(ds)))
    parts = [_numbered(ds, queries) for ds in parts]
    axes = dict.fromkeys(name for ds in parts for name in map(str, ds.indexes) if name != "run")
    labels = {axis: _union(axis, parts) for axis in axes}
    aligned = [ds.reindex({axis: found for axis, found in labels.items() if axis in ds.indexes}) for ds in parts]
    one = xr.concat(aligned, "run", data_vars="minimal", coords="minimal", compat="override", join="exact")
    one = _with_queries(one, queries)
    return one.assign_coords(run=np.arange(one.sizes["run"])).assign_attrs(parts[0].attrs)


def require_same_classes(datasets: Mapping[str, xr.Dataset]) -> None:
    """Check that all studies have the concepts and the classes of the first one.

    Raises:
      UserError: one has others; the message is one line about the first such study.
    """
    (first, expected), *others = datasets.items()
    for name, ds in others:
        for what, mine in _kinds(expected).items():
            theirs = _kinds(ds)[what]
            if mine != theirs:
                raise UserError(
                    f"studies: {name} has the {what} {', '.join(theirs)}, {first} has {', '.join(mine)}; "
                    "only studies of the same concepts and classes go together"
                )


def _kinds(ds: xr.Dataset) -> dict[str, list[str]]:
    concepts, classes = (ds[name].values.astype(str) for name in ("concept", "klass"))
    trained = classes[ds["trained"].values]
    return {"concepts": concepts.tolist(), "classes": classes.tolist(), "classes trained on": trained.tolist()}


def _whole_grid(parts: Sequence[xr.Dataset]) -> dict[str, str]:
    """Return the attribute `config` of the first part with the grid of all parts.

    Return {} where a part tells no grid.
    """
    configs = [results.config_of(ds) for ds in parts]
    if not all("grid" in one for one in configs):
        return {}
    grids = [reading.read(GridConfig, one["grid"], "grid") for one in configs]
    return {"config": json.dumps({**configs[0], "grid": reading.plain(grid.union(grids))}, sort_keys=True)}


def _each_run(ds: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose variables all have the axis `run`."""
    once = {
        name: values.expand_dims(run=ds["run"]) for name, values in ds.data_vars.items() if "run" not in values.dims
    }
    return ds.assign(once)


def _shared(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the leaves of nested mappings that are the same in all of them."""
    first, found = trees[0], {}
    for name, value in first.items():
        values = [tree.get(name) for tree in trees]
        if all(isinstance(one, Mapping) for one in values):
            found[name] = _shared(values)  # pyright: ignore[reportArgumentType]
        elif all(one == value for one in values):
            found[name] = value
    return found


def _union(axis: str, parts: Sequence[xr.Dataset]) -> list[Any]:
    found = dict.fromkeys(label for ds in parts if axis in ds.indexes for label in ds[axis].values.tolist())
    return sorted(found) if axis == "step" else list(found)


def _named(ds: xr.Dataset) -> list[Query]:
    """Return the queries of a dataset, none where no battery was asked."""
    if QUERY not in ds.dims:
        return []
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for pair in zip(map(str, ds["query_protocol"].values), map(str, ds["query_value"].values), strict=True):
        found.append((*pair, seen[pair]))
        seen[pair] += 1
    return found


def _numbered(ds: xr.Dataset, queries: Sequence[Query]) -> xr.Dataset:
    """Return a dataset whose queries are labelled by their place in `queries`."""
    if QUERY not in ds.dims:
        return ds
    return ds.drop_vars(["query_protocol", "query_value"]).assign_coords(query=list(map(queries.index, _named(ds))))


def _with_queries(ds: xr.Dataset, queries: Sequence[Query]) -> xr.Dataset:
    if QUERY not in ds.dims:
        return ds
    names, values, _ = zip(*queries, strict=True)
    coordinates = {"query_protocol": (QUERY, list(names)), "query_value": (QUERY, list(values))}
    return ds.drop_vars(QUERY).assign_coords(coordinates)
