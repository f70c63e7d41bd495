"""Measure the concept signal of the paper's levels and compare it with its closed form.

    python -m experiments.concept_signal
    python -m experiments.concept_signal --sep_col=0.2,0.4,0.8 --sep_size= --at_sep_size=0.35 --image_size=16 --blur=0.5

Two sweeps: colour levels at one size level, and size levels at one colour level. Printed for each level and concept:

  MSE       paired pixel MSE of two training classes that differ in the concept, at the class means (x axis of Fig. 3)
  closed    the same in closed form: colour (2/3) sep_col^2 M2 and size K D2, K = [(0.4 - h)^2 + 2 (0.4 + h)^2] / 3,
            h = sep_col / 2, on the white background 0.9; M2 is the mean squared blurred mask of the large object,
            D2 the mean squared difference of the masks of the two sizes
  range     the pixel MSE on the training ranges (the reference implementation's "concept gradient")
  norm      the range MSE divided by its length over concepts (colour scale of Figs. 4 and 13)
  |dG/dz|   norm of the derivative of the image by the concept (definition 3)

The masks' moments are computed here with NumPy and SciPy alone, so the two columns check each other. Time: seconds.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from scipy import ndimage
from scipy.stats import qmc

from cspace_jax import rng
from cspace_jax.analysis.levels import normalise
from cspace_jax.analysis.report import wide_console
from cspace_jax.cli import scripts
from cspace_jax.config import DataConfig, from_config_dict, grid
from cspace_jax.config.setting import Setting
from cspace_jax.data import signal
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError
from cspace_jax.plots import style
from cspace_jax.studies import signal as signal_study
from cspace_jax.studies import signal_grid

CONCEPTS = ("color", "size")
BACKGROUND = 0.9  # of images at the class means when the background is not a concept
Levels = list[tuple[float, float]]


def even_centres(number: int = 1024) -> np.ndarray:
    """Return object centres [number, 2] that fill (-0.5, 0.5) ** 2 evenly, in no step with the pixels."""
    return qmc.Halton(2, scramble=False).random(number) - 0.5


def mask_moments(
    sep_size: float, image_size: int, blur: float, centres: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Return M2(large), M2(small) and D2: mean squares of the blurred masks of circles and of their difference.

    `centres` [n, 2] are the positions averaged over, an even cover by default.
    """
    centres = even_centres() if centres is None else np.asarray(centres)
    axis = np.linspace(-1, 1, image_size)
    dx, dy = (axis[None, :] - centres[:, i, None] for i in (0, 1))
    distance = np.hypot(dx[:, :, None], dy[:, None, :])
    large, small = (_blurred(distance < 0.45 + half, blur) for half in (sep_size / 2, -sep_size / 2))
    mean_squares = [float(np.mean(one**2)) for one in (large, small, large - small)]
    return mean_squares[0], mean_squares[1], mean_squares[2]


def _blurred(mask: np.ndarray, blur: float) -> np.ndarray:
    mask = mask.astype(np.float64)
    return ndimage.gaussian_filter(mask, (0, blur, blur), mode="reflect", truncate=4.0) if blur else mask


def closed_form(sep_col: float, sep_size: float, moments: tuple[float, float, float]) -> tuple[float, float]:
    """Return the pixel MSE between the two classes of colour (both large) and of size (both red), from mask moments."""
    large, _, difference = moments
    red = np.array([0.5 + sep_col / 2, 0.5 - sep_col / 2, 0.5 - sep_col / 2])
    return 2 / 3 * sep_col**2 * large, float(np.mean((red - BACKGROUND) ** 2)) * difference


def measure(levels: Levels, data: DataConfig, images: int) -> dict[str, np.ndarray]:
    """Return every measure as an array [level, concept]."""
    settings = [{"sep_col": sep_col, "sep_size": sep_size} for sep_col, sep_size in levels]
    stacked = grid.stack([_other_fields() | one for one in settings])
    key = rng.stream(rng.run_key(0), "signal")

    source = Renderer(data)

    def one_level(setting: Any) -> dict[str, jax.Array]:
        return {
            "mse": signal.pixel_signal(source, setting, key, images),
            "range": signal.range_signal(source, setting, key, 4 * images),
            "jacobian": signal.jacobian_signal(source, setting, key),
        }

    measured = jax.device_get(jax.jit(lambda s: jax.lax.map(one_level, s))(stacked))
    moments = {sep: mask_moments(sep, data.image_size, data.blur) for sep in {sep for _, sep in levels}}
    measured["closed"] = np.array([closed_form(*level, moments[level[1]]) for level in levels])
    measured["normalised"] = normalise(measured["range"])
    return measured


def _other_fields() -> dict[str, float]:
    """Return the settings that the signal does not depend on."""
    return dict(vars(Setting()))


def table(levels: Levels, measured: dict[str, np.ndarray], title: str) -> Table:
    """Return a table with one row a level; MSEs in units of 0.001."""
    made = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    columns = ["sep\ncolour", "sep\nsize"]
    columns += [f"{name}\n{what}" for name in ("colour", "size") for what in ("MSE", "closed")]
    columns += [f"{what}\n{name}" for what in ("range", "norm", "|dG/dz|") for name in ("colour", "size")]
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    for i, (sep_col, sep_size) in enumerate(levels):
        cells = [f"{1000 * measured[name][i, c]:.3f}" for c in (0, 1) for name in ("mse", "closed")]
        cells += [f"{1000 * one:.2f}" for one in measured["range"][i]]
        cells += [f"{one:.2f}" for one in measured["normalised"][i]] + [f"{one:.1f}" for one in measured["jacobian"][i]]
        made.add_row(f"{sep_col:.3g}", f"{sep_size:.3g}", *cells)
    return made


@style.styled()
def figure(sweeps: list[tuple[Levels, dict[str, np.ndarray]]]) -> Figure:
    """Draw signal against separation: a panel for each sweep's own concept, then the normalised signals of the first.

    sweeps: levels and measures of the colour sweep and of the size sweep; either may be empty.
    """
    shown = [(concept, *sweep) for concept, sweep in enumerate(sweeps) if sweep[0]]
    fig = style.new_figure(3.3 * (len(shown) + 1), 3.1)
    axes = list(np.ravel(fig.subplots(1, len(shown) + 1, squeeze=False)))
    for ax, (concept, levels, measured) in zip(axes, shown, strict=False):
        _draw_sweep(ax, concept, levels, measured)
    _draw_normalised(axes[-1], *shown[0])
    return fig


def _draw_sweep(ax: Axes, concept: int, levels: Levels, measured: dict[str, np.ndarray]) -> None:
    x = [level[concept] for level in levels]
    ax.plot(x, measured["closed"][:, concept], "-", color="#8C8C8C", label="closed form")
    ax.plot(x, measured["mse"][:, concept], "o", ms=4, color=style.TRAINED_COLOR, label="class means")
    ax.plot(x, measured["range"][:, concept], "s", ms=4, mfc="none", color=style.HELD_OUT_COLOR, label="ranges")
    name = style.concept_title(CONCEPTS[concept])
    fixed = ("sep_size", "sep_col")[concept], levels[0][1 - concept]
    ax.set(xlabel=f"{name} separation", ylabel=f"{name} signal  [pixel MSE]", title=f"{fixed[0]} = {fixed[1]:g}")
    ax.set_ylim(bottom=0)
    ax.legend()


def _draw_normalised(ax: Axes, concept: int, levels: Levels, measured: dict[str, np.ndarray]) -> None:
    x = [level[concept] for level in levels]
    for index, color in enumerate((style.HELD_OUT_COLOR, style.TRAINED_COLOR)):
        ax.plot(
            x, measured["normalised"][:, index], "o-", ms=3, color=color, label=style.concept_title(CONCEPTS[index])
        )
    ax.set(xlabel=f"{style.concept_title(CONCEPTS[concept])} separation", ylabel="normalised signal", ylim=(0, 1.05))
    ax.legend()


def parser() -> scripts.Parser:
    """Return the parser of this script's command line."""
    colour = signal_study.SEP_COL["paper"]
    size = signal_grid.SEP_SIZE["paper"]
    made = scripts.Parser(description=(__doc__ or "").splitlines()[0])
    floats = scripts.comma_separated(float)
    made.add_argument("--sep_col", type=floats, default=colour, help="levels of the colour sweep; may be empty")
    made.add_argument("--sep_size", type=floats, default=size, help="levels of the size sweep; may be empty")
    made.add_argument("--at_sep_size", type=float, default=0.4, help="size separation of the colour sweep")
    made.add_argument("--at_sep_col", type=float, default=0.4, help="colour separation of the size sweep")
    made.add_argument("--image_size", type=int, default=32, help="pixels a side")
    made.add_argument("--blur", type=float, default=1.0, help="sigma of the edge's blur in pixels")
    made.add_argument("--images", type=int, default=128, help="images a class at the means; four times that in ranges")
    made.add_argument("--out", default="runs/concept_signal", help="figure without its ending; .png and .pdf are added")
    return made


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: bad input.
    """
    args = parser().parse_args(list(arguments))
    data = _checked(args)
    colour: Levels = [(sep, args.at_sep_size) for sep in args.sep_col]
    size: Levels = [(args.at_sep_col, sep) for sep in args.sep_size]
    measured = measure(colour + size, data, args.images)
    parts = [{k: v[: len(colour)] for k, v in measured.items()}, {k: v[len(colour) :] for k, v in measured.items()}]
    sweeps = list(zip((colour, size), parts, strict=True))
    console = wide_console()
    console.width = max(console.width, 100)
    for (levels, values), name in zip(sweeps, ("Colour", "Size"), strict=True):
        if levels:
            where = f"{data.image_size} x {data.image_size} pixels, blur {data.blur:g}"
            console.print(table(levels, values, f"{name} sweep, {where}; MSE and range in 0.001"))
    error = np.abs(measured["mse"] / measured["closed"] - 1).max()
    print(f"largest difference of MSE and closed form: {100 * error:.1f} % (sampling of positions)")
    print(*style.save(figure(sweeps), args.out), sep="\n")


def _checked(args: Any) -> DataConfig:
    """Return the data configuration; the library's own checks see all numbers."""
    if not args.sep_col and not args.sep_size:
        raise UserError("sep_col = (), sep_size = (): at least one of the two sweeps needs a level")
    if args.images < 1:
        raise UserError(f"images = {args.images}: must be at least 1")
    config = signal_study.get_config("paper")
    # Both networks' demands on the image size do not matter here.
    config.network.channels, config.probe.channels = (64,), (32,)
    config.grid.sep_col = (*args.sep_col, args.at_sep_col)
    config.grid.sep_size = (*args.sep_size, args.at_sep_size)
    config.data.image_size, config.data.blur = args.image_size, args.blur
    for name in ("sep_col", "sep_size"):
        config.grid[name] = tuple(dict.fromkeys(config.grid[name]))  # an axis of a grid holds no value twice
    return from_config_dict(config).data


if __name__ == "__main__":
    scripts.start(run)
