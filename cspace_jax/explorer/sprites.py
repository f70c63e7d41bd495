"""Sample images of a study as a few pictures.

One sprite sheet holds all saves, classes and samples of a run.
"""

import base64
import dataclasses
import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cspace_jax.plots.registry import Samples
from cspace_jax.storage.pictures import upright

BUDGET = 6_000_000  # bytes of all sheets of a page
COUNTS = (8, 6, 4, 2, 1)  # samples of a class
SIDE = 16_383  # pixels of a WebP's side
AREA = 40_000_000  # pixels of a sheet, which a browser unpacks as a whole
TOO_LARGE = "The stored sample images are too large for a page."
TRIED = 4  # runs whose sheets tell about how large those of all are


@dataclasses.dataclass(frozen=True)
class Plan:
    """The content of a sheet and its arrangement.

    Attributes:
      steps: that are shown.
      number: samples of a class.
      across: cells beside each other.
    """

    steps: list[int]
    number: int
    across: int


def sheets(samples: Samples, budget: int = BUDGET) -> dict[str, Any]:
    """Return the sheets of all runs as data addresses (WebP without loss), ready for JSON.

    The cells of a sheet are numbered along its lines of `across` cells: for each class and sample (sample fastest) one
    a save. Where all samples would take more than `budget` bytes, or a sheet more pixels than a picture may have, the
    page shows fewer of them a class, then fewer saves; `shown` says which saves (positions).

    Args:
      samples: step -> uint8 [r, k, n, h, w, 3]; axis h is the x coordinate. {} gives {}; images of which no sheet can
        be made give `why`, a sentence, alone.
      budget: bytes.
    """
    if not samples:
        return {}
    plans = _plans(samples)
    if not plans:
        return {"why": TOO_LARGE}
    steps, (runs, _, number, width, height, _) = sorted(samples), samples[min(samples)].shape
    tried = np.unique(np.linspace(0, runs - 1, min(TRIED, runs)).round().astype(int))
    few = {step: samples[step][tried] for step in steps}  # a step is read once, not once a run
    promising = (plan for plan in plans[:-1] if np.mean([len(one) for one in _encoded(few, plan)]) * runs <= budget)
    found = ((plan, _encoded(samples, plan)) for plan in promising)
    fitting = ((plan, encoded) for plan, encoded in found if sum(map(len, encoded)) <= budget)
    plan, encoded = next(fitting, None) or (plans[-1], _encoded(samples, plans[-1]))
    shown = [steps.index(step) for step in plan.steps]
    urls = [f"data:image/webp;base64,{base64.b64encode(one).decode()}" for one in encoded]
    sizes = {"width": width, "height": height, "across": plan.across}
    return {"sheets": urls, "shown": shown, "number": plan.number, "of": number, **sizes}


def _plans(samples: Samples) -> list[Plan]:
    """Return the plans whose sheets may be a picture, those that show most first.

    A line holds the saves of a sample, or as many cells as it takes for the lines not to be too many.
    """
    steps, (_, classes, number, width, height, _) = sorted(samples), samples[min(samples)].shape
    halvings = [2**power for power in range(1, max(1, len(steps) - 1).bit_length() + 1)]
    options = [(n, 1) for n in COUNTS if n <= number] + [(1, every) for every in halvings]
    found = []
    for count, every in options:
        chosen = [steps[i] for i in sorted({*range(0, len(steps), every), len(steps) - 1})]
        cells, most = classes * count * len(chosen), max(1, SIDE // height)  # of lines
        across = max(1, min(SIDE // width, max(len(chosen), -(-cells // most))))
        lines = -(-cells // across)
        if across * width <= SIDE and lines * height <= SIDE and lines * height * across * width <= AREA:
            found.append(Plan(chosen, count, across))
    return found


def _encoded(samples: Samples, plan: Plan) -> list[bytes]:
    """Return the sheets of all runs as pictures."""
    images = np.stack([samples[step][:, :, : plan.number] for step in plan.steps], axis=1)  # [r, t, k, n, h, w, 3]
    return [_picture(_sheet(one, plan)) for one in images]


def _sheet(images: UInt8[np.ndarray, "t k n h w 3"], plan: Plan) -> UInt8[np.ndarray, "row column 3"]:
    """Return the sheet of one run; images stand upright: y upwards."""
    shown = upright(images).transpose(1, 2, 0, 3, 4, 5)  # [k, n, t, row, column, 3]
    cells = shown.reshape(-1, *shown.shape[3:])
    lines = -(-len(cells) // plan.across)
    filled = np.zeros((lines * plan.across, *cells.shape[1:]), np.uint8)
    filled[: len(cells)] = cells
    rows, columns = cells.shape[1:3]
    grid = filled.reshape(lines, plan.across, rows, columns, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(lines * rows, plan.across * columns, 3)


def _picture(sheet: UInt8[np.ndarray, "row column 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(sheet)).save(
        buffer, "WEBP", lossless=True, method=1
    )  # 7 times faster than 4, and smaller
    return buffer.getvalue()
