"""The registry of summary blocks: numbers that only some studies have, each under a name of its own in summary.json.

@summary_block("spread", when=lambda ds: ds.sizes["run"] > 1)
def spread(ds):
    return {"std": float(ds["prob"].std())}
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import xarray as xr

from cspace_jax.errors import UserError
from cspace_jax.registering import check_name, require_name


@dataclasses.dataclass(frozen=True)
class SummaryBlock:
    """A part of the summary.

    Attributes:
      make: from the labelled dataset to plain dicts and lists.
      when: whether a dataset has these numbers.
    """

    make: Callable[[xr.Dataset], Any]
    when: Callable[[xr.Dataset], bool]


OWN = (  # parts of every summary
    "study", "scale", "protocol", "sigma", "definitions", "learned", "runs", "probe_accuracy", "swept_concept",
    "levels", "order", "wall_times",
)  # fmt: skip
OF_TABLES = ("learning_times", "memorisation")  # tables that `Study.summary` gives, of no block of the summary
BLOCKS: dict[str, SummaryBlock] = {}


def summary_block(
    name: str, when: Callable[[xr.Dataset], bool] = lambda ds: True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function (ds) -> plain dicts and lists as a block of the summary.

    `name` is its name in summary.json. It is made of the datasets for which `when` holds.

    Raises:
      UserError: another function is the block of this name, or every summary has a part of this name.
    """

    require_name("summary block", name)

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        if name in (*OWN, *OF_TABLES):
            raise UserError(f"summary block {name!r}: every summary has a part of this name, choose another")
        check_name("summary block", name, make, BLOCKS[name].make if name in BLOCKS else None)
        BLOCKS[name] = SummaryBlock(make, when)
        return make

    return register
