"""The registry of figures: a function beside its drawing code says its name, its source and what it needs.

    @figure("joint", needs=(several_steps,))
    def joint(ds):
        fig = style.new_figure(4, 3)
        ...
        return fig

It is then drawn with all others, alone by `--config.figures="('joint',)"` and by `study.figure("joint")`. The
function's parameters say what it is given:

* `ds`: the labelled dataset; `samples`: step -> uint8 [r, k, n, h, w, 3];
* `data`: the configuration of the images; `setting`: the setting of the strongest level; `corner_images`: one a class;
* `examples`: some images of each class, uint8 [k, n, h, w, 3], where they are not rendered;
* `run`: the run whose samples are shown; `path`: for a function that writes its own file and returns its path.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import UInt8

from cspace_jax.analysis.underspecification import is_rendered
from cspace_jax.config import ALL_FIGURES
from cspace_jax.errors import UserError
from cspace_jax.registering import check_name, require_name

Samples = Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]
PATH = "path"
OFFERED = ("ds", "samples", "data", "setting", "corner_images", "examples", "run", PATH)  # arguments of figures
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Need = Callable[[xr.Dataset, Samples], str]  # why a figure cannot be drawn, "" if it can


@dataclasses.dataclass(frozen=True)
class RegisteredFigure:
    """A figure that studies can draw.

    Attributes:
      draw: the function; its parameters are those of the module's docstring, or have defaults.
      paper: the figure of the paper that it redraws; "" for our own.
      needs: each says why the figure cannot be drawn from a dataset and its samples, or "".
    """

    draw: Callable[..., Any]
    paper: str
    needs: tuple[Need, ...]

    def cannot(self, ds: xr.Dataset, samples: Samples) -> str:
        """Return why it cannot be drawn, "" if it can."""
        return next(filter(None, (need(ds, samples) for need in self.needs)), "")


FIGURES: dict[str, RegisteredFigure] = {}


def figure(
    name: str, *, paper: str = "", needs: Need | Iterable[Need] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a drawing function as the figure `name`. The module's docstring tells what it may take.

    Raises:
      UserError: another figure has the name, or the function needs an argument that is not offered.
    """

    require_name("figure", name)

    def register(draw: Callable[..., Any]) -> Callable[..., Any]:
        if name == ALL_FIGURES:
            raise UserError(f"figure {name!r}: the name stands for all figures, choose another")
        arguments = inspect.signature(draw).parameters.values()
        asked = [one for one in arguments if one.default is one.empty and one.kind not in _REST]
        if other := [one.name for one in asked if one.name not in OFFERED]:
            raise UserError(f"figure {name!r}: its argument {other[0]!r} must be one of {', '.join(OFFERED)}")
        check_name("figure", name, draw, FIGURES[name].draw if name in FIGURES else None)
        FIGURES[name] = RegisteredFigure(draw, paper, (needs,) if callable(needs) else tuple(needs))
        return draw

    return register


def names() -> tuple[str, ...]:
    """Return the names of all figures: those of the paper by number, then the others."""

    def key(name: str) -> tuple[int, str]:
        number = re.fullmatch(r"fig(\d+)", name)
        return (int(number[1]), "") if number else (10**6, name)

    return tuple(sorted(FIGURES, key=key))


def stored_samples(ds: xr.Dataset, samples: Samples) -> str:
    """Return why there are no sample images, "" if there are. Samples may know why they are missing.

    A figure names this need last, since it opens files.
    """
    return "" if samples else getattr(samples, "missing", "no sample images are stored")


def rendered_images(ds: xr.Dataset, samples: Samples) -> str:
    """Return why images are not of the data-generating process, "" if they are."""
    return "" if is_rendered(ds) else "only drawn for the data-generating process"
