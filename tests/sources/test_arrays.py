"""Arrays of pictures: their layouts, and every error as one line."""

import zipfile

import numpy as np
import pytest
from folders import fails

from cspace_jax.sources import arrays
from cspace_jax.sources.listing import own_split

ONES = {"bits": np.array([[0, 1], [1, 0], [1, 1]])}
GREY = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)


# arrays


def test_arrays(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, images=GREY, **ONES)
    listing = arrays.read(file)
    assert listing.names == ("000000", "000001", "000002") and listing.read is None and listing.stamp == ()
    assert listing.concepts == ("a", "b") and listing.words == (("a0", "a1"), ("b0", "b1"))
    np.testing.assert_array_equal(listing.pixels, np.repeat(GREY[..., None], 3, -1))
    np.testing.assert_array_equal(listing.bits, ONES["bits"])
    np.testing.assert_array_equal(listing.held, own_split(listing.names))
    np.savez(file, images=GREY + 1, **ONES)
    assert arrays.read(file).fingerprint != listing.fingerprint
    split, words = np.array(["Train", "val", "test"]), np.array([["no hat", "hat"], ["sad", "glad"]])
    np.savez(
        file, images=np.stack([GREY] * 3, -1), concepts=np.array(["hat", "mood"]), words=words, split=split, **ONES
    )
    named = arrays.read(file)
    assert named.concepts == ("hat", "mood") and named.words == (("no hat", "hat"), ("sad", "glad"))
    assert named.held.tolist() == [False, True, True] and named.notes == ()
    np.savez(file, images=GREY, concepts=np.array(["hat", "mood"]), split=np.array([2, 0, 1]), **ONES)
    assert arrays.read(file).held.tolist() == [True, False, True]
    assert arrays.read(file).words[0] == ("not hat", "hat")


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"images": None}, "has no array 'images', only bits"),
        ({"bits": None}, "has no array 'bits', only images"),
        ({"images": GREY / 255}, "'images' must be uint8, not float64"),
        ({"images": GREY[0]}, "'images' must have the shape [n, h, w, 3] or [n, h, w]"),
        ({"images": np.zeros((3, 2, 2, 4), np.uint8)}, "not [3, 2, 2, 4]"),
        ({"images": GREY[:0]}, "'images' must have the shape"),
        ({"images": np.array([None, {}])}, "'images' is damaged (ValueError: Object arrays"),
        ({"bits": np.ones((3, 2))}, "'bits' must be integers, not float64"),
        ({"bits": np.ones(3, int)}, "'bits' must have the shape [n, concept], not [3]"),
        ({"bits": np.ones((2, 2), int)}, "'bits' has 2 rows, 'images' 3"),
        ({"bits": np.full((3, 2), 2)}, "'bits' must hold 0 and 1, not 2"),
        ({"concepts": np.array(["a"])}, "'concepts' must have the shape [2], as 'bits' says, not [1]"),
        ({"concepts": np.array(["a", "a"])}, "'concepts' must hold different names"),
        ({"concepts": np.array([1, 2])}, "'concepts' must be text, not int64"),
        ({"words": np.array(["a", "b"])}, "'words' must have the shape [2, 2]"),
        ({"words": np.array([["a", "b"], ["c", "c"]])}, "'words' must hold two different words a concept"),
        ({"split": np.array(["train"])}, "'split' must have the shape [3]"),
        ({"split": np.array(["train", "x", "val"])}, "'split' holds 'x', must be one of train, val"),
        ({"split": np.array([0, 1, 3])}, "'split' holds 3, must be one of"),
    ],
)
def test_bad_arrays(tmp_path, changed, words):
    content = {"images": GREY, **ONES} | changed
    np.savez(tmp_path / "a.npz", **{key: value for key, value in content.items() if value is not None})
    fails(words, arrays.read, tmp_path / "a.npz")


def test_damaged_arrays(tmp_path):
    file = tmp_path / "a.npz"
    fails("no such file", arrays.read, file)
    file.write_text("<html>")
    fails("is not a .npz file, or damaged", arrays.read, file)
    np.savez(file, images=np.zeros((3, 50, 50), np.uint8), **ONES)
    data = bytearray(file.read_bytes())
    data[2000] ^= 1
    file.write_bytes(data)
    fails("'images' is damaged (BadZipFile: Bad CRC", arrays.read, file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", b"")
    fails("'images' is not an array", arrays.read, file)
