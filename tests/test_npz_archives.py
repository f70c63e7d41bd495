import io
import pickle
import zipfile

import numpy as np
import pytest

from cspace_jax import machine, npz_archives
from cspace_jax.npz_archives import DAMAGES, read_npz


def packed(**members):
    """An archive of the given bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return io.BytesIO(buffer.getvalue())


def header(shape, kind="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_arrays_come_back_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.ones(2))
    assert read_npz(tmp_path / "a.npz").keys() == {"a", "b"}
    assert read_npz(tmp_path / "a.npz", ["b", "c"], optional=True).keys() == {"b"}
    with pytest.raises(KeyError, match="c"):
        read_npz(tmp_path / "a.npz", ["b", "c"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (packed(a=header((10**15,))), "announces more than fits into memory|array is too big"),  # terabytes
        (packed(a=header((2**70,))), "is damaged"),
        (io.BytesIO(header((2**50,))), "announces more than fits into memory|is damaged"),
        (packed(a=header((3,), "|O") + pickle.dumps([1, 2, 3])), "allow_pickle=False"),
        (packed(a=b"not an array"), "is not an array|magic|pickle"),
        (io.BytesIO(pickle.dumps({"a": 1})), "pickle"),
        (packed(a=header((30,))), "cannot reshape|EOF|expected"),  # cut
    ],
)
def test_what_is_no_array_is_refused(content, words):
    with pytest.raises(DAMAGES, match=words):
        read_npz(content)


def test_any_flipped_bit_is_an_error_or_harmless(tmp_path):
    arrays = {"a": np.arange(20, dtype=np.float32), "b": np.ones(3)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    content = (tmp_path / "a.npz").read_bytes()
    noticed = 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = read_npz(io.BytesIO(bytes(flipped)), ("a", "b"))
        except DAMAGES:
            noticed += 1
        else:
            assert all(np.array_equal(found[name], array) for name, array in arrays.items()), f"bit {bit}"
    assert noticed > 4 * len(content)


def test_what_unpacks_to_more_than_memory_is_refused_before_it_is_unpacked(monkeypatch):
    bomb = packed(a=header((25_000_000,)) + bytes(100_000_000))
    assert len(bomb.getvalue()) < 200_000
    monkeypatch.setattr(machine, "memory", lambda: 5e7)
    monkeypatch.setattr(npz_archives, "_array", pytest.fail)
    with pytest.raises(ValueError, match="unpacks to 0.1 GB, more than the memory"):
        read_npz(bomb)
