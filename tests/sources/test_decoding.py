"""Decoded pictures against Pillow, and the cache: decoded once, never half."""

import dataclasses
import errno
import io
import os
import pathlib
import zlib

import faces
import numpy as np
import pytest
from PIL import Image

from cspace_jax.errors import UserError
from cspace_jax.sources import arrays, celeba, decoding, folder
from cspace_jax.sources.listing import Listing, listing_of
from cspace_jax.sources.selection import select

BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("faces")
    faces.write_folder(root, 8)
    return root


def listed(**pictures: bytes) -> Listing:
    names, bits = list(pictures), np.zeros((len(pictures), 2), np.uint8)
    stamp = [(len(data), 0) for data in pictures.values()]
    words, held = [("a0", "a1"), ("b0", "b1")], np.zeros(len(names), bool)
    return listing_of("here", names, ["a", "b"], words, bits, held, read=pictures.__getitem__, stamp=stamp)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def counted(listing: Listing) -> tuple[Listing, list[str]]:
    calls: list[str] = []
    assert listing.read
    read = listing.read
    return dataclasses.replace(listing, read=lambda name: calls.append(name) or read(name)), calls


def stored(picture: Image.Image) -> np.ndarray:
    """Rows from the top into [x, y], y upwards, in the plainest way."""
    rows = np.asarray(picture)
    size = rows.shape[0]
    result = np.empty_like(rows)
    for x in range(size):
        for y in range(size):
            result[x, y] = rows[size - 1 - y, x]
    return result


@pytest.mark.parametrize("crop, box", [(178, (0, 20, 178, 198)), (100, (39, 59, 139, 159)), (0, (0, 0, 178, 218))])
def test_pixels_equal_pillow(root, tmp_path, crop, box):
    listing = folder.read(root)
    found = decoding.pixels(listing, 16, crop, tmp_path)
    assert found.shape == (8, 16, 16, 3) and found.dtype == np.uint8 and not found.flags.writeable
    for i, name in enumerate(listing.names):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(found[i], stored(image.crop(box).resize((16, 16), BILINEAR)))


def test_x_is_to_the_right_and_y_upwards():
    rows = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    found = decoding.decoded(encoded(Image.fromarray(rows)), 4, 0)
    np.testing.assert_array_equal(found[0, 0], rows[3, 0])  # lower left
    np.testing.assert_array_equal(found[3, 0], rows[3, 3])  # lower right
    np.testing.assert_array_equal(found[0, 3], rows[0, 0])  # upper left


def test_kinds_of_pictures_in_plain_rgb():
    deep = np.array([[0, 255], [256, 65535]], np.uint16)
    grey = [[[0] * 3, [0] * 3], [[1] * 3, [255] * 3]]
    half = np.array([[[200, 100, 0, 0], [200, 100, 0, 255]]] * 2, np.uint8)
    seen = [[[255] * 3, [200, 100, 0]]] * 2
    palette = Image.new("P", (2, 2))
    palette.putpalette([200, 100, 0, 9, 8, 7])
    cases = [
        (encoded(Image.fromarray(deep)), grey),
        (encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), grey),
        (encoded(Image.fromarray(half)), seen),
        (encoded(palette), [[[200, 100, 0]] * 2] * 2),
        (encoded(palette, transparency=0), [[[255] * 3] * 2] * 2),
        (encoded(Image.new("LA", (2, 2), (10, 0))), [[[255] * 3] * 2] * 2),
        (encoded(Image.new("L", (2, 2), 7)), [[[7] * 3] * 2] * 2),
        (encoded(Image.new("1", (2, 2), 1)), [[[255] * 3] * 2] * 2),
        (encoded(Image.new("CMYK", (2, 2)), "TIFF"), [[[255] * 3] * 2] * 2),
    ]
    for data, rows in cases:
        found = decoding.decoded(data, 2, 0)
        np.testing.assert_array_equal(found, stored(Image.fromarray(np.array(rows, np.uint8))))


def test_the_camera_s_orientation_is_applied():
    rows = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    found = decoding.decoded(encoded(Image.fromarray(rows), exif=exif), 2, 0)
    np.testing.assert_array_equal(found, stored(Image.fromarray(np.rot90(rows, -1).copy())))


@pytest.mark.parametrize("size, crop, box", [(8, 0, (0, 0, 8, 8)), (4, 6, (1, 1, 7, 7)), (16, 0, (0, 0, 8, 8))])
def test_arrays_are_cropped_and_resized_alike(tmp_path, size, crop, box):
    rows = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=rows, bits=np.eye(3, 2, dtype=int))
    found = decoding.pixels(arrays.read(tmp_path / "a.npz"), size, crop, tmp_path / "cache")
    for i in range(3):
        picture = Image.fromarray(rows[i]).crop(box).resize((size, size), BILINEAR)
        np.testing.assert_array_equal(found[i], stored(picture))


# the cache


def test_pictures_are_decoded_once(root, tmp_path):
    listing, calls = counted(folder.read(root))
    first = decoding.pixels(listing, 8, 0, tmp_path)
    assert sorted(calls) == list(listing.names)
    second = decoding.pixels(select(listing, ("-smiling", "sex")), 8, 0, tmp_path)
    assert isinstance(second, np.memmap) and len(calls) == 8
    np.testing.assert_array_equal(first, second)
    assert len(os.listdir(tmp_path)) == 1
    decoding.pixels(listing, 8, 100, tmp_path)
    decoding.pixels(listing, 4, 0, tmp_path)
    changed = dataclasses.replace(listing, stamp=((listing.stamp[0][0], 1), *listing.stamp[1:]))
    decoding.pixels(changed, 8, 0, tmp_path)
    assert len(calls) == 32 and len(os.listdir(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["short", "empty", "shape", "dtype", "text", "order"])
def test_a_damaged_cache_is_decoded_again(root, tmp_path, damage):
    listing, calls = counted(folder.read(root))
    whole = np.array(decoding.pixels(listing, 8, 0, tmp_path))
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    if damage in ("short", "empty", "text"):
        file.write_bytes({"short": data[:-1], "empty": b"", "text": b"no"}[damage])
    else:
        wrong = {"shape": whole[1:], "dtype": whole.astype(np.int8), "order": np.asfortranarray(whole)}[damage]
        np.save(file, wrong)
    np.testing.assert_array_equal(decoding.pixels(listing, 8, 0, tmp_path), whole)
    assert len(calls) == 16 and file.read_bytes() == data


def test_an_interrupted_decoding_leaves_nothing(root, tmp_path, monkeypatch):
    listing = folder.read(root)
    read = listing.read
    assert read
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 0)

    def stops(name: str) -> bytes:
        if name == listing.names[5]:
            raise KeyboardInterrupt
        return read(name)

    with pytest.raises(KeyboardInterrupt):
        decoding.pixels(dataclasses.replace(listing, read=stops), 8, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_after_a_day(root, tmp_path):
    name = f".{'a' * 16}.npy.{'b' * 31}"
    old, young, other = tmp_path / f"{name}0.tmp", tmp_path / f"{name}1.tmp", tmp_path / ".mine.tmp"
    for file in (old, young, other):
        file.write_bytes(b"half")
    for file in (old, other):
        os.utime(file, (0, 0))
    decoding.pixels(folder.read(root), 8, 0, tmp_path)
    assert not old.exists() and young.exists() and other.exists()


def test_two_at_once_both_succeed(root, tmp_path):
    listing = folder.read(root)
    read, found = listing.read, []
    assert read

    def meanwhile(name: str) -> bytes:
        if name == listing.names[0]:
            found.append(np.array(decoding.pixels(listing, 8, 0, tmp_path)))
        return read(name)

    slower = decoding.pixels(dataclasses.replace(listing, read=meanwhile), 8, 0, tmp_path)
    np.testing.assert_array_equal(found[0], slower)
    assert len(os.listdir(tmp_path)) == 1


def test_a_zip_file_gives_the_same_pixels(tmp_path):
    faces.write_celeba(tmp_path / "one", 4)
    faces.write_celeba(tmp_path / "two", 4, zipped=True)
    one, two = (decoding.pixels(celeba.read(tmp_path / name), 8, 178, tmp_path / "cache") for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


# errors


def png(width: int, height: int) -> bytes:
    """A file that says it has so many pixels; most of them are missing."""
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


JPEG = encoded(faces.face(True, True, 0), "JPEG")


@pytest.mark.parametrize(
    "data, crop, words",
    [
        (b"<html>", 0, "data.path = 'here': picture 'bad' cannot be read, it may be damaged: not a picture"),
        (b"", 0, "picture 'bad' cannot be read, it may be damaged: not a picture"),
        (JPEG[: len(JPEG) // 2], 0, "picture 'bad' cannot be read, it may be damaged: image file is truncated"),
        (png(9, 9), 0, "picture 'bad' cannot be read, it may be damaged"),
        (png(8001, 8000), 0, "picture 'bad' has 8001 x 8000 pixels, at most 64,000,000 are read"),
        (png(10_000, 10_000), 0, "picture 'bad' is too large, at most 64,000,000 pixels are read"),
        (png(20_000, 20_000), 0, "picture 'bad' is too large, at most 64,000,000 pixels are read"),
        (JPEG, 179, "data.crop = 179: picture 'bad' of 'here' has only 178 x 218 pixels"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), 0, "picture 'bad' has pixels of floating point"),
        (encoded(Image.new("I;16", (4, 4), 200), "PNG"), 0, "picture 'bad' has 16 bits a pixel and no value above 255"),
        (encoded(Image.new("I", (4, 4), 70_000), "TIFF"), 0, "picture 'bad' has pixels of more than 16 bits"),
    ],
)
def test_bad_pictures_are_named(tmp_path, data, crop, words):
    good = encoded(Image.new("RGB", (300, 300)))
    with pytest.raises(UserError) as caught:
        decoding.pixels(listed(a=good, bad=data, c=good), 8, crop, tmp_path)
    message = str(caught.value)
    assert words in message and "\n" not in message and message.startswith("data."), message
    assert list(tmp_path.iterdir()) == []


def test_a_picture_removed_meanwhile_is_named(tmp_path):
    faces.write_folder(tmp_path / "faces", 4)
    listing = folder.read(tmp_path / "faces")
    (tmp_path / "faces" / "face_0002.jpg").unlink()
    with pytest.raises(UserError, match="picture 'face_0002.jpg' cannot be read, .*No such file"):
        decoding.pixels(listing, 8, 0, tmp_path / "cache")


def test_a_full_disk_is_one_line(root, tmp_path, monkeypatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"^cannot write '.*\.npy': no space left on the disk$"):
        decoding.pixels(folder.read(root), 8, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_line(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot write '.*': .*a file"):
        decoding.pixels(folder.read(root), 8, 0, tmp_path / "file")
