"""Folders of pictures: tables of labels, folders named by class, and every error as one line."""

import faces
import numpy as np
import pytest
from folders import fails, labelled, pictures

from cspace_jax.config import DataConfig
from cspace_jax.sources import decoding, folder, opening
from cspace_jax.sources.listing import own_split
from cspace_jax.sources.selection import select

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
