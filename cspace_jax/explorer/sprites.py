"""Sample images of a study as a few pictures: all saves, classes and samples of a run in one sprite sheet."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cspace_jax.plots.registry import Samples
from cspace_jax.storage.pictures import upright

BUDGET = 6_000_000  # bytes of all sheets of a page
COUNTS = (8, 6, 4, 2, 1)  # samples of a class


def sheets(samples: Samples, budget: int = BUDGET) -> dict[str, Any]:
    """Return the sheets of all runs as data addresses (WebP without loss), ready for JSON.

    A sheet has a column a save and a row a class and sample (sample fastest). Where all samples would take more than
    `budget` bytes, the page shows fewer of them a class, then fewer saves; `shown` says which saves (positions).

    Args:
      samples: step -> uint8 [r, k, n, h, w, 3]; axis h is the x coordinate. {} gives {}.
      budget: bytes.
    """
    if not samples:
        return {}
    steps = sorted(samples)
    number = samples[steps[0]].shape[2]
    options = [(n, 1) for n in COUNTS if n <= number] + [(1, every) for every in (2, 4, 8, 16)]
    fits = (one for one in options if _first_size(samples, steps, *one) * len(samples[steps[0]]) <= budget)
    n, every = next(fits, options[-1])
    shown = _every(steps, every)
    chosen = [steps[i] for i in shown]
    urls = [_url(_sheet(samples, run, chosen, n)) for run in range(len(samples[steps[0]]))]
    width, height = samples[steps[0]].shape[3:5]
    return {"sheets": urls, "shown": shown, "number": n, "of": number, "width": width, "height": height}


def _every(steps: list[int], every: int) -> list[int]:
    """Return the positions of every so many steps, and of the last."""
    return sorted({*range(0, len(steps), every), len(steps) - 1})


def _first_size(samples: Samples, steps: list[int], number: int, every: int) -> int:
    """Return the bytes of the first run's sheet."""
    return len(_encoded(_sheet(samples, 0, [steps[i] for i in _every(steps, every)], number)))


def _sheet(samples: Samples, run: int, steps: list[int], number: int) -> UInt8[np.ndarray, "row column 3"]:
    """Return the sheet of one run; images stand upright: y upwards."""
    images = np.stack([samples[step][run, :, :number] for step in steps])  # [t, k, n, h, w, 3]
    shown = upright(images)
    t, k, n, rows, columns, _ = shown.shape
    return shown.transpose(1, 2, 3, 0, 4, 5).reshape(k * n * rows, t * columns, 3)


def _encoded(sheet: UInt8[np.ndarray, "row column 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(sheet)).save(
        buffer, "WEBP", lossless=True, method=1
    )  # 7 times faster than 4, and smaller
    return buffer.getvalue()


def _url(sheet: UInt8[np.ndarray, "row column 3"]) -> str:
    return "data:image/webp;base64," + base64.b64encode(_encoded(sheet)).decode()
