"""Folders, arrays and the choice of concepts: every layout, and every error as one line."""

import pathlib
import zipfile

import faces
import numpy as np
import pytest
from PIL import Image

from cspace_jax.config import DataConfig
from cspace_jax.errors import UserError
from cspace_jax.sources import arrays, decoding, folder, opening
from cspace_jax.sources.listing import own_split
from cspace_jax.sources.selection import select

ONES = {"bits": np.array([[0, 1], [1, 0], [1, 1]])}
GREY = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)


def fails(words: str, call, *args, field: str = "data.path") -> None:
    with pytest.raises(UserError) as caught:
        call(*args)
    message = str(caught.value)
    assert message.startswith(f"{field} = ") and "\n" not in message
    assert words in message, message


@pytest.mark.parametrize("path", ["memory://x", "gs://b/x", "file:///tmp/x", "hdfs://n/x"])
def test_pictures_are_on_this_machine(path):
    fails("must be a folder on this machine", opening.open_source, DataConfig(source="images", path=path))


def pictures(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def labelled(root: pathlib.Path, text: str | bytes, *names: str) -> pathlib.Path:
    pictures(root, *(names or ("a.png", "b.png", "c.png")))
    (root / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return root


# labels.csv


def test_a_table_of_labels(tmp_path):
    bits = faces.write_folder(tmp_path, 20)
    listing = folder.read(tmp_path)
    assert listing.names == tuple(f"face_{i:04d}.jpg" for i in range(20))
    assert listing.concepts == ("sex", "smiling")
    assert listing.words == (("female", "male"), ("not smiling", "smiling"))
    np.testing.assert_array_equal(listing.bits, bits)
    np.testing.assert_array_equal(listing.held, faces.parts(20) > 0)
    assert listing.read and listing.read("face_0003.jpg") == (tmp_path / "face_0003.jpg").read_bytes()
    assert listing.stamp[3][0] == (tmp_path / "face_0003.jpg").stat().st_size
    assert listing.pixels is None and listing.notes == () and listing.unusable == {}


def test_rows_in_any_order_give_the_same_listing(tmp_path):
    faces.write_folder(tmp_path, 8)
    before = folder.read(str(tmp_path))
    header, *rows = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join([header, *rows[::-1]]))
    after = folder.read(tmp_path)
    assert after.names == before.names and after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after.bits, before.bits)


@pytest.mark.parametrize("name", ["file", "image_id", "filename", "File"])
def test_other_spellings_of_a_table(tmp_path, name):
    text = f"\ufeff;{name} ; hat_on;Mood;Split\r\n0; ./b.png ; 0;sad;TRAIN\r\n\r\n1;sub\\a.png; 1 ;glad; valid\r\n"
    listing = folder.read(labelled(tmp_path, text, "b.png", "sub/a.png", "c.png", ".hidden.png"))
    assert listing.names == ("b.png", "sub/a.png")
    assert listing.words == (("not hat on", "hat on"), ("glad", "sad"))
    assert listing.bits.tolist() == [[0, 1], [1, 0]] and listing.held.tolist() == [False, True]
    (note,) = listing.notes
    assert note.endswith("has pictures without a label, which are not used: 1 ('c.png')")


@pytest.mark.parametrize("zero, one", [("-1", "1"), ("no", "yes"), ("False", "True"), ("0.0", "1.0"), ("NO", "yes")])
def test_columns_of_yes_and_no(tmp_path, zero, one):
    listing = folder.read(labelled(tmp_path, f"file,x,y\na.png,{one},b\nb.png,{zero},a\nc.png,{one},B"))
    assert listing.words == (("not x", "x"),) and listing.bits.tolist() == [[1], [0], [1]]
    assert listing.unusable == {"y": "it holds 3 different values, 'B', 'a', 'b'"}
    assert "one picture in ten" in listing.notes[0]
    np.testing.assert_array_equal(listing.held, own_split(listing.names))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "labels.csv is empty"),
        ("file,x\n", "names no pictures"),
        ("name,x\na.png,1", "no column 'file' (or 'filename', 'image_id'), only 'name', 'x'"),
        ("file\na.png", "no column of labels beside 'file'"),
        ("file,x,x\na.png,0,1", "the column 'x' twice"),
        ("file,x\na.png,0\na.png,1", "names pictures more than once: 1 ('a.png')"),
        ("file,x\na.png,0\n./a.png,1", "names pictures more than once: 1 ('a.png')"),
        (
            "file,x\n" + "".join(f"{i}.png,0\n" for i in range(5)),
            "names pictures that are not there: 5 ('0.png', '1.png', '2.png', ...",
        ),
        ("file,x\na.png,0\n,1", "a row without the name of a file"),
        ("file,x\na.png,0\nb.png,1,1", "line 3 of labels.csv has 3 values, the header 2"),
        ("file,split\na.png,train", "no column of labels"),
        ("file,x,split\na.png,0,mine", "column 'split' of labels.csv holds 'mine', must be one of train, val"),
        (b"file,x\na.png,\xff\xfe", "not a table in UTF-8"),
        ("file,x\n../a.png,0", "'../a.png', which leads out of the folder"),
        ("file,x\nsub\\..\\..\\a.png,0", "which leads out of the folder"),
        ("file,x\n/etc/passwd,0", "'/etc/passwd', which leads out of the folder"),
        ("file,x\nC:\\a.png,0", "which leads out of the folder"),
        ("file,x\nlink.png,0", "'link.png', a link that leads out of the folder"),
        ("file,x\nlinks/a.png,0", "'links/a.png', a link that leads out of the folder"),
    ],
)
def test_bad_tables(tmp_path, text, words):
    root = labelled(tmp_path / "root", text)
    pictures(tmp_path / "elsewhere", "a.png")
    (root / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (root / "links").symlink_to(tmp_path / "elsewhere")
    fails(words, folder.read, root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("=x", "name '=x': must not begin with =, +, - or @"),
        ("x$y$", "nor hold $"),
        ("x\x1b[2J", "must be printable"),
        ("x" * 81, "at most 80 characters"),
    ],
)
def test_names_that_would_be_taken_for_something_else(name, words, tmp_path):
    """Only of the concepts that are chosen."""
    table = f"file,{name},a,b\na.png,0,1,0\nb.png,1,0,1"
    listing = folder.read(labelled(tmp_path / "root", table, "a.png", "b.png"))
    assert select(listing, ("a", "b")).concepts == ("a", "b")
    fails(words, select, listing, (name, "a"))
    described = {"concepts": [name, "a"], "words": [["0", "1"]] * 2, "counts": [1] * 4, "held": [1] * 4}
    fails(words, opening.reopen_closed, DataConfig(source="images", path="x"), {**described, "fingerprint": "0"})


def test_links_within_the_folder_are_followed_and_end(tmp_path):
    labelled(tmp_path / "root", "file,x\nlinks/a.png,0", "sub/a.png")
    (tmp_path / "root" / "links").symlink_to("sub")
    (tmp_path / "root" / "sub" / "up").symlink_to("..")
    (tmp_path / "linked").symlink_to("root")
    assert folder.read(tmp_path / "linked").names == ("links/a.png",)


def test_bad_folders(tmp_path):
    pictures(tmp_path, "a.png")
    fails("no such folder", folder.read, tmp_path / "none")
    fails("must name the folder", folder.read, "")
    fails("is a file, not a folder", folder.read, tmp_path / "a.png")
    fails("neither labels.csv nor folders named by class", folder.read, tmp_path)
    (tmp_path / "labels.csv").mkdir()
    fails("cannot read", folder.read, tmp_path)


# folders named by class


def test_folders_named_by_class(tmp_path):
    pictures(tmp_path, "00/a.png", "01/b.png", "10/sub/c.png", "11/d.png", "other/e.png", "11/._d.png")
    (tmp_path / "11" / "notes.txt").write_text("")
    listing = folder.read(tmp_path)
    assert listing.names == ("00/a.png", "01/b.png", "10/sub/c.png", "11/d.png")
    assert listing.bits.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert listing.concepts == ("a", "b") and listing.words == (("a0", "a1"), ("b0", "b1"))
    (tmp_path / "concepts.txt").write_text("sex: female, male\n\n mood :sad,glad \n")
    named = folder.read(tmp_path)
    assert named.concepts == ("sex", "mood") and named.words == (("female", "male"), ("sad", "glad"))
    assert named.pictures == listing.pictures and named.fingerprint != listing.fingerprint


@pytest.mark.parametrize(
    "text, words",
    [
        ("sex: female, male", "has 1 lines, must have one for each of the 2 bits"),
        ("a: 0, 1\na: 2, 3", "has the concept 'a' twice"),
        ("a: 0, 1\nb: x", "line 'b: x' of concepts.txt must be"),
        ("a: 0, 1\nb: x, x", "line 'b: x, x' of concepts.txt must be"),
        (b"\xff", "not text in UTF-8"),
    ],
)
def test_bad_names_of_concepts(tmp_path, text, words):
    pictures(tmp_path, "00/a.png")
    (tmp_path / "concepts.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    fails(words, folder.read, tmp_path)


def test_bad_class_folders(tmp_path):
    (tmp_path / "00").mkdir()
    fails("hold no pictures", folder.read, tmp_path)
    (tmp_path / "1").mkdir()
    fails("names of one length, not '00' and '1'", folder.read, tmp_path)
    (tmp_path / "1").rmdir()
    (tmp_path / "01").symlink_to("/")
    fails("class folder '01' is a link that leads out of the folder", folder.read, tmp_path)
    pictures(tmp_path / "long", "0" * 27 + "/a.png")
    fails("must have at most 26 bits", folder.read, tmp_path / "long")


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


def test_the_own_split_never_changes():
    held = own_split([f"{i:06d}.jpg" for i in range(1, 2001)])
    assert np.flatnonzero(held[:40]).tolist() == [7, 10, 11, 19, 23, 28, 35, 36]
    assert 150 < held.sum() < 250


def test_tables_that_are_links_out_of_the_folder_are_refused(tmp_path):
    root = labelled(tmp_path / "root", "file,x\na.png,0\nb.png,1")
    (root / "labels.csv").rename(tmp_path / "labels.csv")
    (root / "labels.csv").symlink_to("../labels.csv")
    fails("'labels.csv' is a link that leads out of the folder", folder.read, root)
    classes = pictures(tmp_path / "classes", "0/a.png", "1/b.png")
    (tmp_path / "names").write_text("x: no, yes")
    (classes / "concepts.txt").symlink_to("../names")
    fails("'concepts.txt' is a link that leads out of the folder", folder.read, classes)


def test_a_picture_that_is_too_large_is_not_read(tmp_path):
    root = labelled(tmp_path, "file,x,y\na.png,0,1\nb.png,1,0")
    with open(root / "b.png", "r+b") as file:
        file.truncate(65_000_000)
    words = "'b.png' takes 65 MB, a picture may take 64"
    fails(words, folder.read(root).read, "b.png")
    fails(words, decoding.pixels, folder.read(root), 4, 0, tmp_path / "cache")
