"""Images as pictures that others read: PNG, rows from the top."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def upright(images: UInt8[np.ndarray, "... h w 3"]) -> UInt8[np.ndarray, "... w h 3"]:
    """Turn images whose axis h is x into rows from the top of the picture.

    In the result x points right and y points up.
    """
    return np.flip(images.swapaxes(-3, -2), axis=-3)


def png(rows: UInt8[np.ndarray, "row column 3"]) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(buffer, "PNG")
    return buffer.getvalue()


def sheet(images: UInt8[np.ndarray, "k n h w 3"]) -> UInt8[np.ndarray, "row column 3"]:
    """Return one picture of the images of all classes, with a row per class and a column per image."""
    k, n, columns, rows, _ = images.shape
    return upright(images).transpose(0, 2, 1, 3, 4).reshape(k * rows, n * columns, 3)
