"""Reasons why a dataset lacks the data of a figure, a chart of the page or a claim.

They are "" if it lacks nothing. Figures and charts call a need with a second argument, their samples or their summary,
which these functions ignore.
"""

from typing import Any

import numpy as np
import xarray as xr

from cspace_jax.analysis.underspecification import is_swept

NO_SIGNAL = "the concept signal was not measured"


def known_signals(ds: xr.Dataset) -> list[int]:
    """Return the indices of the concepts whose signal is known in every run; of tinted pictures the tint alone."""
    return np.flatnonzero(np.isfinite(ds["signal"].values).all(axis=0)).tolist()


def signal(ds: xr.Dataset, more: Any = None) -> str:
    """Return why no concept has a known signal, "" if one has."""
    return "" if known_signals(ds) else NO_SIGNAL


def further_protocols(ds: xr.Dataset, more: Any = None) -> str:
    """Return why there is no battery of protocols, "" if there is one."""
    measured = "capability" in ds
    return "" if measured else "no protocols besides naive prompting were measured (elicit.protocols)"


def embeddings(ds: xr.Dataset, more: Any = None) -> str:
    """Return why there are no cosines between embeddings, "" if there are. Early versions did not measure them."""
    again = "embeddings were not measured; remove WORKDIR/eval and run --mode=eval to measure them"
    return "" if "embedding_cosine" in ds else again


def masked_fractions(ds: xr.Dataset, more: Any = None) -> str:
    """Return why there are not several masked fractions, "" if there are."""
    return "" if is_swept(ds) else "the masked fraction does not vary (grid.mask)"
