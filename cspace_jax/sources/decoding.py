"""Pictures are decoded, cropped and resized once, and kept in a file that is mapped into memory."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from cspace_jax import machine
from cspace_jax.config import fingerprint
from cspace_jax.config.reading import fail
from cspace_jax.errors import UserError
from cspace_jax.paths import expanded
from cspace_jax.progress_bars import bar
from cspace_jax.sources.listing import Listing, refuse
from cspace_jax.storage.files import writing

VERSION = 1  # changes when decoding gives other pixels
MAX_PIXELS = 64_000_000  # of a picture
CHUNK_BYTES = 32_000_000  # of decoded pictures in memory
DAY = 86400.0
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.npy\.[0-9a-f]{32}\.tmp")


def pixels(
    listing: Listing, image_size: int, crop: int, cache_dir: str | os.PathLike[str]
) -> UInt8[np.ndarray, "n x y 3"]:
    """Return all pictures of a listing, in the order of its names.

    They are decoded at the first call only.

    Args:
      listing: labelled pictures; other labels of the same pictures share a cache.
      image_size: pixels a side of the result.
      crop: pixels a side of the central square that is resized; 0 = the whole picture.
      cache_dir: folder of the decoded pictures, made if missing.

    Returns:
      A read-only map of the file, [n, x, y, 3], y upwards.

    Raises:
      UserError: a picture is damaged, too large or smaller than `crop`, or the cache cannot be written.
    """
    shape = (len(listing.names), image_size, image_size, 3)
    file = os.path.join(expanded(cache_dir), f"{_key(listing, image_size, crop)}.npy")
    found = _mapped(file, shape)
    if found is not None:
        with contextlib.suppress(OSError):  # of a cache that others own
            os.utime(file)  # the file used longest ago goes first where the cache is bounded
    if found is None:
        with writing(file):
            os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
            _remove_leftovers(os.path.dirname(file) or ".")
        _decode_all(listing, image_size, crop, file)
        found = _mapped(file, shape)
    if found is None:
        raise UserError(f"cannot read {file!r}, which was just written: free the disk or set data.cache_dir")
    return found


def decoded(data: bytes, image_size: int, crop: int) -> UInt8[np.ndarray, "x y 3"]:
    """Return one encoded picture as [x, y, 3] with y upwards, cropped and resized to `image_size` pixels a side.

    Raises:
      ValueError: it is too large, too small or of an unknown kind; what Pillow raises if it is damaged.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _Unfit(f"has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,} are read")
        return _fitted(_rgb(ImageOps.exif_transpose(image)), image_size, crop)


class _Unfit(ValueError):
    """A picture is in order but cannot be used. The message is the end of a sentence."""


class _Small(_Unfit):
    """A picture is smaller than the crop."""


def _key(listing: Listing, image_size: int, crop: int) -> str:
    """Return the name of the cache of these pictures at this size and crop."""
    stamps = np.array(listing.stamp, np.int64).tobytes()
    text = f"{VERSION} {listing.pictures} {image_size} {crop} {hashlib.sha256(stamps).hexdigest()}"
    return fingerprint(text, 16)


def _mapped(file: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the array of a cache file, or None if it is absent or damaged."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(array, np.memmap) and array.shape == shape and array.dtype == np.uint8
    return array if whole and array.flags.c_contiguous else None


def _remove_leftovers(folder: str) -> None:
    """Remove the files that killed processes left, if they are older than a day.

    Younger files may be another process's.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > DAY:
                        os.unlink(entry.path)


def _decode_all(listing: Listing, image_size: int, crop: int, file: str) -> None:
    """Write the cache under another name, and rename it when it is complete.

    No reader takes the other name.
    """
    temporary = os.path.join(os.path.dirname(file), f".{os.path.basename(file)}.{uuid.uuid4().hex}.tmp")
    try:
        # Plain writes: a map into a file would end the process by SIGBUS when the disk is full.
        with writing(file), open(temporary, "wb") as output:
            _write(output, listing, image_size, crop)
            output.flush()
            os.fsync(output.fileno())
        with writing(file):
            os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _write(output: BinaryIO, listing: Listing, image_size: int, crop: int) -> None:
    """Write the header and the pictures of a cache."""
    n = len(listing.names)
    shape = (n, image_size, image_size, 3)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(output, header)
    one = _one(listing, image_size, crop)
    workers = machine.cores()
    chunk = max(workers, min(1024, CHUNK_BYTES // (3 * image_size**2)))
    with (
        _strict_warnings(),
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        bar(n, "pictures", "picture", leave=False) as shown,
    ):
        for start in range(0, n, chunk):
            for picture in pool.map(one, range(start, min(start + chunk, n))):
                output.write(picture.tobytes())
                shown.update()


def _one(listing: Listing, image_size: int, crop: int) -> Callable[[int], np.ndarray]:
    """Return the function that decodes a picture by its number."""

    def one(i: int) -> np.ndarray:
        name = listing.names[i]
        try:
            if listing.pixels is not None:
                return _fitted(Image.fromarray(listing.pixels[i]), image_size, crop)
            assert listing.read is not None
            return decoded(listing.read(name), image_size, crop)
        except _Small as error:
            fail("data.crop", crop, f"picture {name!r} of {listing.path!r} {error}")
        except _Unfit as error:
            refuse(listing.path, f"picture {name!r} {error}")
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            refuse(listing.path, f"picture {name!r} is too large, at most {MAX_PIXELS:,} pixels are read")
        except (MemoryError, UserError):
            raise
        except Exception as error:  # Pillow names no class of errors for damaged files
            reason = "not a picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
            refuse(listing.path, f"picture {name!r} cannot be read, it may be damaged: {reason}")

    return one


def _rgb(image: Image.Image) -> Image.Image:
    """Return a picture in 8-bit RGB, with white in place of transparency."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and not 0 <= values.min() <= values.max() < 2**16:
            raise _Unfit("has pixels of more than 16 bits, must have 8 or 16")
        if values.size and 0 < values.max() < 2**8:
            raise _Unfit("has 16 bits a pixel and no value above 255, store it with 8 bits or scale it to 65,535")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise _Unfit("has pixels of floating point, must have 8 or 16 bits")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    return image.convert("RGB")


def _fitted(image: Image.Image, image_size: int, crop: int) -> np.ndarray:
    """Crop the centre, resize, and turn rows from the top into [x, y] with y upwards."""
    if crop:
        if min(image.size) < crop:
            raise _Small(f"has only {image.width} x {image.height} pixels")
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    resized = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(resized).transpose(1, 0, 2)[:, ::-1])


@contextlib.contextmanager
def _strict_warnings() -> Iterator[None]:
    """Let an over-large picture raise, and hide Pillow's other warnings about files that it reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield
