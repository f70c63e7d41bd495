"""Draw the figures of a study by name into its folder."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from etils import epath
from matplotlib.figure import Figure

from cspace_jax.analysis.levels import levels, ok_runs, swept_concept
from cspace_jax.analysis.underspecification import common_seeds, is_swept
from cspace_jax.config import FIGURES, Config
from cspace_jax.errors import UserError
from cspace_jax.plots import (
    animation,
    elicitation,
    embeddings,
    pictures,
    progress,
    speeds,
    style,
    trajectories,
    underspecification,
)

Samples = Mapping[int, np.ndarray]
NAMES = FIGURES


def draw_all(
    ds: xr.Dataset, samples: Samples, config: Config, outdir: epath.PathLike, names: Sequence[str] = NAMES,
    show: Callable[[str], None] = print,
) -> list[epath.Path]:  # fmt: skip
    """Draw the named figures into OUTDIR/NAME.png and .pdf (gif: .gif); returns the files written.

    samples: step -> uint8 [r, k, n, h, w, 3]; may be empty. A figure that this dataset cannot give is left out with one
    line to `show`. Raises UserError for an unknown name.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UserError(f"figures: {unknown[0]!r} is unknown; allowed are {', '.join(NAMES)}")
    outdir = epath.Path(outdir)
    if not ok_runs(ds).any():
        show("figures: all runs diverged, only the classes can be drawn")
        names = [name for name in names if name == "fig2"]
    written: list[epath.Path] = []
    for name in names:
        reason = _cannot(name, ds, samples)
        if reason:
            show(f"figures: {name} left out, {reason}")
        elif name == "gif":
            written.append(animation.to_gif(ds, samples, outdir / "gif.gif"))
        else:
            written.extend(style.save(_figure(name, ds, samples, config), outdir / name))
    return written


def _cannot(name: str, ds: xr.Dataset, samples: Samples) -> str:
    if name in ("samples", "gif", "fig7") and not samples:
        return "no sample images are stored"
    if name in ("fig7", "fig8", "fig9", "fig10") and not is_swept(ds):
        return "the masked fraction does not vary (grid.mask)"
    if name == "fig7" and not common_seeds(ds):
        return "every seed diverged at some masked fraction"
    if name in ("fig6", "fig10", "elicitation") and "capability" not in ds:
        return "no protocols besides naive prompting were measured (elicit.protocols)"
    if name == "fig16" and not elicitation.guided(ds):
        return "guidance was not among the protocols (elicit.protocols)"
    if name == "fig17" and "patch" not in ds["protocol"].values:
        return "patch was not among the protocols (elicit.protocols)"
    if name == "embeddings" and "embedding_cosine" not in ds:
        return "embeddings were not measured; remove WORKDIR/eval and run --mode=eval to measure them"
    if name == "fig3" and not np.isfinite(ds["signal"].values).all():
        return "the concept signal was not measured"
    return ""


def _figure(name: str, ds: xr.Dataset, samples: Samples, config: Config) -> Figure:
    setting = display_setting(ds)
    if name == "fig2":
        return pictures.fig2(config.data, setting)
    if name in ("fig4", "fig13"):
        images, _ = pictures.class_images(config.data, setting)
        draw = {"fig4": trajectories.fig4, "fig13": trajectories.fig13}[name]
        return draw(ds, corner_images=dict(enumerate(images)))
    if name == "samples":
        return pictures.sample_grid(ds, samples, run=_shown_run(ds))
    if name == "fig7":
        return underspecification.fig7(ds, samples)
    others: dict[str, Callable[[xr.Dataset], Figure]] = {
        "fig3": speeds.fig3,
        "fig6": elicitation.fig6,
        "fig8": underspecification.fig8,
        "fig9": underspecification.fig9,
        "fig10": underspecification.fig10,
        "fig12": progress.fig12,
        "fig16": elicitation.fig16,
        "fig17": elicitation.fig17,
        "elicitation": elicitation.overview,
        "embeddings": embeddings.similarities,
        "curves": progress.learning_curves,
        "product": underspecification.product,
    }
    return others[name](ds)


def display_setting(ds: xr.Dataset) -> dict[str, float]:
    """Return the setting of the strongest level of the swept concept: its classes are told apart best by eye."""
    found = levels(ds)
    index = swept_concept(found)
    return max(found, key=lambda level: np.nan_to_num(level.signal[index])).setting


def _shown_run(ds: xr.Dataset) -> int:
    """Return a run of the level that Fig. 12 shows, so that pictures and curves belong together."""
    found = levels(ds)
    return found[progress.choose_level(found, ds, str(ds["protocol"].values[0]))].runs[0]
