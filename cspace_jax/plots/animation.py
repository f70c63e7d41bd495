"""An animated GIF of the dynamics: one point a level moves through concept space, with samples at its side.

The figure is laid out once; a frame only moves its points and changes its images, which keeps sixty frames cheap.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from etils import epath
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from PIL import Image

from cspace_jax.analysis import curves
from cspace_jax.analysis.learning import default_sigma, trajectory
from cspace_jax.analysis.levels import Level, by_signal, held_out, levels, swept_concept
from cspace_jax.plots import style
from cspace_jax.plots.pictures import choose_steps
from cspace_jax.plots.registry import figure, stored_samples
from cspace_jax.plots.trajectories import concept_square
from cspace_jax.storage.files import write_atomic

Samples = Mapping[int, UInt8[np.ndarray, "r k n h w 3"]]
Update = Callable[[int], None]
MAX_LEVELS = 5
MAX_FRAMES = 60


def choose_levels(found: list[Level], number: int = MAX_LEVELS) -> list[int]:
    """Return at most `number` positions of levels with a live run, spread over their signal, the strongest first."""
    alive = by_signal(found, swept_concept(found), strongest_first=True)
    picked = np.unique(np.linspace(0, len(alive) - 1, min(number, len(alive))).round().astype(int)) if alive else []
    return [alive[i] for i in picked]


@style.styled()
def dynamics(
    ds: xr.Dataset, samples: Samples, klass: int | None = None, protocol: str | None = None
) -> tuple[Figure, Update]:
    """Return the figure of the animation and the function that sets it to a step.

    Left: trajectories of a held-out class up to the step, mean over seeds, smoothed as published, at most five levels.
    Right: samples of that class from each level's first live run, from the last stored step not after it (before the
    first stored step: that one). klass None takes the last held-out class.
    """
    protocol = protocol or str(ds["protocol"].values[0])
    klass = held_out(ds) if klass is None else klass
    found = levels(ds)
    colors, scale, index = style.signal_colors(found)
    lines, legend = style.line_styles(ds, found)
    chosen = choose_levels(found)
    shown = [(found[i], colors[i]) for i in chosen]
    fig = style.new_figure(7.6, 4.3)
    halves: Any = fig.subfigures(1, 2, width_ratios=[1.42, 1])
    left, right = halves
    ax = left.subplots()
    concept_square(ax, ds, (0, min(1, ds.sizes["concept"] - 1)))
    if len(found) > 1:
        style.signal_bar(left, scale, ds, index, ax)
    style.line_legend(left, {words: line for words, line in legend.items() if line in [lines[i] for i in chosen]})
    updates = [_moving_point(ax, ds, found[i], (colors[i], lines[i]), klass, protocol) for i in chosen]
    updates.append(_changing_images(right, samples, shown, klass))

    def update(step: int) -> None:
        ax.set_title(f"asked for {style.class_label(ds, klass)}: step {step:,}")
        for one in updates:
            one(step)

    update(int(ds["step"].values[0]))
    return fig, update


def _moving_point(ax: Axes, ds: xr.Dataset, level: Level, look: tuple[Any, Any], klass: int, protocol: str) -> Update:
    color, line = look
    pair = [0, min(1, ds.sizes["concept"] - 1)]
    mean = trajectory(ds, level.runs, klass, protocol).mean(axis=0)
    path = curves.smooth(mean, default_sigma(ds))[:, pair]
    (trail,) = ax.plot([], [], ls=line, color=color, lw=1.4, alpha=0.6, zorder=3, label=level.label)
    (point,) = ax.plot([], [], "o", color=color, mec="white", ms=10, mew=1, zorder=5)

    def update(step: int) -> None:
        past = path[ds["step"].values <= step]
        trail.set_data(*past.T)
        point.set_data(*past[-1:].T)

    return update


def _changing_images(
    fig: FigureBase, samples: Samples, shown: list[tuple[Level, Any]], klass: int, columns: int = 3
) -> Update:
    stored = sorted(samples)
    columns = min(columns, samples[stored[0]].shape[2])
    axes = fig.subplots(len(shown), columns, squeeze=False)
    artists = []
    for row, (level, color) in enumerate(shown):
        for column in range(columns):
            image = samples[stored[0]][level.runs[0], klass, column]
            style.show_image(axes[row, column], image, color, 2.0)
            artists.append((axes[row, column].images[0], (level.runs[0], klass, column)))
        axes[row, 0].set_ylabel(level.label.replace(", ", "\n"), fontsize=7)

    def update(step: int) -> None:
        past = [one for one in stored if one <= step] or stored[:1]
        for artist, place in artists:
            artist.set_data(style.upright(samples[past[-1]][place]))

    return update


@figure("gif", needs=(stored_samples,))
def to_gif(
    ds: xr.Dataset, samples: Samples, path: epath.PathLike, klass: int | None = None, protocol: str | None = None,
    frames: int = MAX_FRAMES, seconds: float = 0.14, hold: float = 2.0, dpi: int = 100,
) -> epath.Path:  # fmt: skip
    """Write the animation as a GIF, and return its path.

    It shows at most `frames` saves for `seconds` each, and the last one for `hold` seconds.
    """
    fig, update = dynamics(ds, samples, klass, protocol)
    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    pictures = []
    for step in choose_steps([int(one) for one in ds["step"].values], frames):
        update(step)
        with style.styled():
            canvas.draw()
        fig.set_layout_engine("none")  # the first draw has arranged the figure
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        pictures.append(picture.quantize(256, dither=Image.Dither.NONE))
    times = [int(1000 * seconds)] * (len(pictures) - 1) + [int(1000 * hold)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
    write_atomic(path, buffer.getvalue())
    return epath.Path(path)
