"""One look for all figures: sizes, colour-blind-safe colours, labels, images, files.

Figures are made without pyplot, so none is kept open and no global state changes.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from etils import epath
from jaxtyping import Float, Real
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from cspace_jax.analysis import intervals
from cspace_jax.analysis.levels import Level, levels, setting_label, swept_concept
from cspace_jax.config.concepts import SEPARATION, TABLE
from cspace_jax.storage.files import write_atomic

# Okabe and Ito's colours, those that differ also for colour-blind readers; black is kept for text
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C", "#B8A800")
TRAINED_COLOR = "#0072B2"
HELD_OUT_COLOR = "#D55E00"
SIGNAL_MAP = "viridis"
LINES: tuple[Any, ...] = (
    "-", (0, (4.0, 1.6)), (0, (1.2, 1.3)), (0, (5.0, 1.4, 1.2, 1.4)), (0, (9.0, 2.0)),
    (0, (5.0, 1.4, 1.2, 1.4, 1.2, 1.4)),
)  # fmt: skip
SETTING_NAMES = {"mask": "masked fraction"}
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "image.interpolation": "nearest",
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Apply the style inside a with block only, whatever the user's own settings are; also usable as a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches, arranged by constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def save(fig: Figure, path_stem: epath.PathLike) -> tuple[epath.Path, epath.Path]:
    """Write PATH_STEM.png (200 dpi) and PATH_STEM.pdf; equal figures give equal files. Returns both paths."""
    stem = epath.Path(path_stem)
    paths = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".pdf")
    # dates and versions would make equal figures differ
    metadata = {"Software": None}, {"CreationDate": None, "Producer": None, "Creator": None}
    for path, one in zip(paths, metadata, strict=True):
        buffer = io.BytesIO()
        with styled():
            # the second file keeps the layout that the first one found
            fig.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=one, bbox_inches="tight", pad_inches=0.06)
        fig.set_layout_engine("none")
        write_atomic(path, buffer.getvalue())
    return paths


def concept_title(concept: str) -> str:
    """Return the name of a concept as printed in figures."""
    return (TABLE[concept].title if concept in TABLE else "") or concept


def bit_label(ds: xr.Dataset, concept: str, bit: int) -> str:
    """Return the word for a value of a concept, such as "blue"; without a word it is "name=1"."""
    words = json.loads(ds.attrs.get("words", "{}"))  # datasets of older versions hold none
    pair = words.get(concept) or (TABLE[concept].words if concept in TABLE else None)
    return pair[bit] if pair else f"{concept}={bit}"


def probability_label(ds: xr.Dataset, concept: str) -> str:
    """Return the axis label of a concept-space coordinate, such as "P(blue)"."""
    return f"P({bit_label(ds, concept, 1)})"


def class_label(ds: xr.Dataset, klass: int) -> str:
    """Return a class in code and words, such as "11 (blue, small)"."""
    words = [bit_label(ds, str(c), int(b)) for c, b in zip(ds["concept"].values, ds["bit"].values[klass], strict=True)]
    return f"{ds['klass'].values[klass]} ({', '.join(words)})"


def class_color(klass: int) -> str:
    """Return the colour of a class; more than eight classes start again."""
    return OKABE_ITO[klass % len(OKABE_ITO)]


def signal_colors(found: list[Level]) -> tuple[list[Any], ScalarMappable, int]:
    """Return the colour of each level by the swept concept's normalised signal, the scale, and that concept's index.

    Levels that do not differ in it are coloured by the one setting that varies, such as the masked fraction, or by
    their order; the index is then -1.
    """
    index = swept_concept(found)
    values = np.array([level.normalised[index] for level in found])
    if not np.isfinite(values).all() or (len(found) > 1 and np.ptp(values) < 1e-9):
        settings = [tuple(level.varying.values()) for level in found]
        single = all(len(one) == 1 for one in settings)
        values, index = np.array([one[0] if single else i for i, one in enumerate(settings)], dtype=float), -1
    low, high = (values.min(), values.max()) if values.max() - values.min() > 1e-9 else (0.0, 1.0)
    scale = ScalarMappable(Normalize(low, high), ListedColormap(shades(256)))
    return [tuple(map(float, color)) for color in np.asarray(scale.to_rgba(values))], scale, index


def line_styles(ds: xr.Dataset, found: list[Level]) -> tuple[list[Any], dict[str, Any]]:
    """Return the line style of each level, and the legend: words -> style.

    The legend is {} where all lines are solid. The style tells the settings that change no concept's signal (mask,
    learning rate, weight decay, initial scale) and therefore not the colour. All lines are solid where none varies, or
    where one of them varies alone, which the colour then tells. More combinations than `LINES` start again.
    """
    signals = [SEPARATION[name] for name in map(str, ds["concept"].values) if name in SEPARATION]
    words = [
        setting_label({name: value for name, value in level.varying.items() if name not in signals}) for level in found
    ]
    names = list(dict.fromkeys(words))
    if len(names) < 2 or all(len(level.varying) == 1 for level in found):
        return [LINES[0]] * len(found), {}
    lines = {name: LINES[i % len(LINES)] for i, name in enumerate(names)}
    return [lines[word] for word in words], lines


def line_legend(fig: FigureBase, lines: dict[str, Any]) -> None:
    """Draw the legend of line styles (words -> style) below a figure; nothing for {}."""
    if lines:
        handles = [Line2D([], [], color="#444444", ls=line, lw=1.6, label=words) for words, line in lines.items()]
        fig.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), handlelength=3.4)


def shades(number: int) -> Float[np.ndarray, "number 4"]:
    """Return evenly spaced colours [number, 4] of the map of signals, without its end that is too pale on white."""
    return matplotlib.colormaps[SIGNAL_MAP].resampled(256)(np.linspace(0.0, 0.9, number))


def signal_bar(fig: FigureBase, scale: ScalarMappable, ds: xr.Dataset, index: int, axes: Any) -> None:
    """Draw the colour bar of the levels beside `axes`."""
    varying = levels(ds)[0].varying
    level = SETTING_NAMES.get(next(iter(varying)), next(iter(varying))) if len(varying) == 1 else "level"
    label = level if index < 0 else f"normalised {concept_title(str(ds['concept'].values[index]))} signal"
    fig.colorbar(scale, ax=axes, label=label, shrink=0.85, pad=0.02)


def upright(image: Real[np.ndarray, "h w 3"]) -> Float[np.ndarray, "w h 3"]:
    """Return an image as rows for origin="lower", clipped to [0, 1].

    The image is [h, w, 3], uint8 or in 0..1, with h the x coordinate; the rows are [w, h, 3].
    """
    image = np.asarray(image)
    image = image / 255.0 if image.dtype == np.uint8 else image
    return np.clip(np.transpose(image, (1, 0, 2)), 0.0, 1.0)


def show_image(ax: Axes, image: Real[np.ndarray, "h w 3"], frame: Any = None, width: float = 1.2) -> None:
    """Show an image [h, w, 3] with y upwards and without ticks, in a frame of the given colour."""
    ax.imshow(upright(image), origin="lower")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#B0B0B0" if frame is None else frame, linewidth=0.6 if frame is None else width)


def place_image(
    ax: Axes, image: Real[np.ndarray, "h w 3"], xy: tuple[float, float], offset: tuple[float, float], frame: str
) -> None:
    """Put a small image beside the data point `xy`, moved by `offset` points; it may lie outside the axes."""
    shown = np.flipud(upright(image))  # an OffsetImage has its first row at the top
    zoom = 24 / shown.shape[0]
    box = AnnotationBbox(
        OffsetImage(shown, zoom=zoom), xy, xybox=offset, boxcoords="offset points", pad=0.08,
        bboxprops={"edgecolor": frame, "linewidth": 1.4}, annotation_clip=False,
    )  # fmt: skip
    ax.add_artist(box)
    box.set_clip_on(False)  # it lies outside the axes, and the layout shall make room for it


def step_axis(ax: Axes) -> None:
    """Label an x axis of training steps with few, readable numbers."""
    ax.set_xlabel("training step")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter("{x:,.0f}")


def band_words(counts: Iterable[int]) -> str:
    """Return the words of a figure of means over seeds: how many they are, and whether bands are drawn.

    `counts` are the numbers of seeds, one a level and at least one.
    """
    least, most = min(counts := list(counts)), max(counts)
    number = f"n = {least}" if least == most else f"n = {least} to {most}"
    if least < intervals.LEAST_MEAN <= most:
        return f"mean over seeds with 95 % interval, {number}; seeds as points where n < {intervals.LEAST_MEAN}"
    told = intervals.missing(least, intervals.LEAST_MEAN)
    return f"mean over seeds, {told}, seeds as points" if told else f"mean over seeds with 95 % interval, {number}"


def draw_band(
    ax: Axes, steps: Real[np.ndarray, " t"], values: Float[np.ndarray, "r t"], samples: int, color: Any
) -> None:
    """Draw the 95 % interval over seeds of probabilities [r, t] as a band.

    Where there is none, draw the seeds as points. `samples` is the number of samples of which each value is a mean.
    """
    if len(values) < intervals.LEAST_MEAN:
        ax.plot(np.repeat([steps], len(values), axis=0).T, values.T, ".", color=color, ms=2.5, alpha=0.5, mew=0)
        return
    ax.fill_between(steps, *intervals.share_interval(values, samples), color=color, alpha=0.15, lw=0)
