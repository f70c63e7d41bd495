"""The choice of concepts: order, exchanged values, and every error as one line."""

import faces
import numpy as np
import pytest
from folders import fails, labelled

from cspace_jax.sources import folder
from cspace_jax.sources.selection import select

# the choice of concepts


def test_selecting_orders_and_exchanges(tmp_path):
    bits = faces.write_folder(tmp_path, 8)
    listing = folder.read(tmp_path)
    chosen = select(listing, ("smiling", "-sex"))
    assert chosen.concepts == ("smiling", "sex") and chosen.words == (("not smiling", "smiling"), ("male", "female"))
    np.testing.assert_array_equal(chosen.bits, np.stack([bits[:, 1], 1 - bits[:, 0]], 1))
    assert chosen.bits.dtype == np.uint8
    assert chosen.pictures == listing.pictures and chosen.fingerprint != listing.fingerprint
    assert select(chosen, ("-sex", "smiling")).fingerprint == listing.fingerprint == select(listing, ()).fingerprint


@pytest.mark.parametrize(
    "concepts, words",
    [
        (("c0", "smilin"), "unknown concept 'smilin', did you mean 'smiling'?; known concepts: 'smiling', 'c0'"),
        (("c0", "mood"), "'mood' does not hold two values: it holds 3 different values, 'a', 'b', 'c'"),
        (("c0", "flat"), "'flat' does not hold two values: it holds only one value, '0'"),
        (("c0", "gaps"), "'gaps' does not hold two values: 1 of 3 values are empty"),
        (("c0", "-c0"), "holds 'c0' twice"),
        (("c0",), "must hold 2 to 6 concepts, not 1"),
        (tuple(f"c{i}" for i in range(7)), "must hold 2 to 6 concepts, not 7"),
        ((), "must hold 2 to 6 concepts, choose them by name; "),
    ],
)
def test_bad_choices(tmp_path, concepts, words):
    header = "file,smiling,mood,flat,gaps," + ",".join(f"c{i}" for i in range(7))
    rows = ["a.png,0,a,0,1," + "0," * 6 + "0", "b.png,1,b,0,," + "1," * 6 + "1", "c.png,1,c,0,0," + "1," * 6 + "1"]
    listing = folder.read(labelled(tmp_path, "\n".join([header, *rows])))
    fails(words, select, listing, concepts, field="data.concepts")


def test_too_few_columns_name_the_reason(tmp_path):
    listing = folder.read(labelled(tmp_path, "file,x,y\na.png,0,a\nb.png,1,a"))
    fails("has 1: 'x'; 'y' does not hold two values (it holds only one", select, listing, (), field="data.concepts")
