"""Draw the figures of a study by name, into a folder or to be shown."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from etils import epath
from jaxtyping import Real, UInt8
from matplotlib.figure import Figure

from cspace_jax.analysis.levels import levels, ok_runs, swept_concept
from cspace_jax.config import ALL_FIGURES, DataConfig
from cspace_jax.config.reading import fail
from cspace_jax.config.schema import DGP
from cspace_jax.errors import UserError
from cspace_jax.plots import (
    animation,
    elicitation,
    embeddings,
    faces,
    pictures,
    progress,
    speeds,
    style,
    three_concepts,
    trajectories,
    underspecification,
)
from cspace_jax.plots.registry import FIGURES, OFFERED, PATH, Samples, names
from cspace_jax.text import closest

WITHOUT_RUNS = ("fig2", "classes")  # figures that show no run
ALL_DIVERGED = "all runs diverged, only the classes can be drawn"
# Importing a module registers its figures.
MODULES = (
    animation, elicitation, embeddings, faces, pictures, progress, speeds, three_concepts, trajectories,
    underspecification,
)  # fmt: skip


class Inputs:
    """The inputs of figures, which `FIGURES` take by the names of their parameters.

    Args:
      ds: labelled dataset.
      samples: step -> uint8 [r, k, n, h, w, 3]; may be empty.
      data: the configuration of the images.
      examples: some images of each class, uint8 [k, n, h, w, 3]; None where they are rendered.
    """

    def __init__(
        self, ds: xr.Dataset, samples: Samples, data: DataConfig, examples: UInt8[np.ndarray, "k n h w 3"] | None = None
    ):
        self.ds, self.samples, self.data, self.examples = ds, samples, data, examples

    @functools.cached_property
    def setting(self) -> dict[str, float]:
        """The setting of the strongest level of the swept concept: its classes are told apart best by eye."""
        found = levels(self.ds)
        index = swept_concept(found)
        return max(found, key=lambda level: np.nan_to_num(level.signal[index])).setting

    @functools.cached_property
    def corner_images(self) -> dict[int, Real[np.ndarray, "h w 3"]]:
        """An image of each class."""
        if self.data.source != DGP:
            return {} if self.examples is None else {k: one[0] for k, one in enumerate(self.examples)}
        return dict(enumerate(pictures.class_images(self.data, self.setting)[0]))

    @functools.cached_property
    def run(self) -> int:
        """A run of the level that Fig. 12 shows, so that pictures and curves belong together."""
        found = levels(self.ds)
        return found[progress.choose_level(found, self.ds, str(self.ds["protocol"].values[0]))].runs[0]

    def cannot(self, name: str) -> str:
        """Return why a figure cannot be drawn from this, "" if it can."""
        found = FIGURES[name]
        if "examples" in inspect.signature(found.draw).parameters and self.examples is None:
            return "the classes are rendered images (fig2)" if self.data.source == DGP else "no examples are stored"
        return found.cannot(self.ds, self.samples)

    def arguments(self, draw: Callable[..., Any]) -> dict[str, Any]:
        """Return the arguments that a registered function asks for by name."""
        asked = set(inspect.signature(draw).parameters) - {PATH}
        return {name: getattr(self, name) for name in OFFERED if name in asked}


def expand(chosen: Sequence[str]) -> tuple[str, ...]:
    """Return the names of figures, "all" spelled out.

    Raises:
      UserError: a name is unknown.
    """
    for name in chosen:
        if name not in (ALL_FIGURES, *FIGURES):
            known = (ALL_FIGURES, *names())
            fail("figures", name, f"must be one of {', '.join(known)}{closest(name, known)}")
    return names() if ALL_FIGURES in chosen else tuple(chosen)


def draw(name: str, inputs: Inputs) -> Figure:
    """Return one figure.

    Raises:
      UserError: the name is unknown, or the study does not hold what the figure needs.
    """
    (name,) = expand((name,)) if name != ALL_FIGURES else ("",)
    if not name or PATH in inspect.signature(FIGURES[name].draw).parameters:
        fail("figure", name or ALL_FIGURES, "must be one figure that is not an animation; see WORKDIR/figures")
    reason = inputs.cannot(name) if name in WITHOUT_RUNS or ok_runs(inputs.ds).any() else ALL_DIVERGED
    if reason:
        raise UserError(f"figure {name}: {reason}")
    return FIGURES[name].draw(**inputs.arguments(FIGURES[name].draw))


def draw_all(
    inputs: Inputs,
    outdir: epath.PathLike,
    chosen: Sequence[str] = (ALL_FIGURES,),
    show: Callable[[str], None] = print,
    verbose: bool = False,
) -> list[epath.Path]:
    """Draw the named figures into OUTDIR/NAME.png and .pdf (gif: .gif), and return the files written.

    A figure that this study cannot give is left out. One that was named, or any if `verbose`, gives a line to `show`
    that says why; of the others one line gives the number.

    Raises:
      UserError: a name is unknown, or a file cannot be written.
    """
    wanted, outdir = expand(chosen), epath.Path(outdir)
    if not ok_runs(inputs.ds).any():
        show(f"figures: {ALL_DIVERGED}")
        wanted = tuple(name for name in wanted if name in WITHOUT_RUNS)
    left_out = {name: reason for name in wanted if (reason := inputs.cannot(name))}
    told = [name for name in left_out if verbose or name in chosen]
    for name in told:
        show(f"figures: {name} left out, {left_out[name]}")
    if untold := len(left_out) - len(told):
        show(f"{untold} {'figures do' if untold > 1 else 'figure does'} not apply to this study; --verbose says why")
    return [file for name in wanted if name not in left_out for file in _write(name, inputs, outdir)]


def _write(name: str, inputs: Inputs, outdir: epath.Path) -> list[epath.Path]:
    function = FIGURES[name].draw
    arguments = inputs.arguments(function)
    if PATH in inspect.signature(function).parameters:
        return [function(**arguments, path=outdir / f"{name}.gif")]
    return list(style.save(function(**arguments), outdir / name))
