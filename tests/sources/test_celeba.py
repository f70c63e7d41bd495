"""CelebA in the layouts in which it is found, and its errors as one line."""

import pathlib
import shutil
import zipfile

import faces
import numpy as np
import pytest

from cspace_jax.errors import UserError
from cspace_jax.sources import celeba
from cspace_jax.sources.listing import own_split
from cspace_jax.sources.selection import select

N = 20
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("original") / "celeba"
    faces.write_celeba(root, N)
    return root


@pytest.fixture
def root(original, tmp_path) -> pathlib.Path:
    return shutil.copytree(original, tmp_path / "copy")


def edit(file: pathlib.Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def fails(root: pathlib.Path, words: str) -> None:
    with pytest.raises(UserError) as caught:
        celeba.read(root)
    message = str(caught.value)
    assert message.startswith("data.path = ") and "\n" not in message
    assert words in message, message


def same(one, other) -> None:
    assert (one.names, one.concepts, one.words, one.fingerprint) == (
        other.names,
        other.concepts,
        other.words,
        other.fingerprint,
    )
    np.testing.assert_array_equal(one.bits, other.bits)
    np.testing.assert_array_equal(one.held, other.held)


def test_labels_and_the_authors_split(original):
    listing = celeba.read(original)
    assert listing.names == tuple(f"{i + 1:06d}.jpg" for i in range(N)) and listing.concepts == faces.ATTRIBUTES
    np.testing.assert_array_equal(listing.held, faces.parts(N) > 0)
    chosen = select(listing, ("Male", "Smiling", "-Wearing_Hat", "5_o_Clock_Shadow", "No_Beard"))
    np.testing.assert_array_equal(chosen.bits[:, :2], faces.labels(N, 0))
    assert chosen.words == (
        ("female", "male"),
        ("not smiling", "smiling"),
        ("wearing hat", "not wearing hat"),
        ("not 5 o clock shadow", "5 o clock shadow"),
        ("beard", "no beard"),
    )
    assert listing.notes == () and listing.unusable == {}
    picture = original / "img_align_celeba" / "000003.jpg"
    assert listing.read and listing.read("000003.jpg") == picture.read_bytes()
    assert listing.stamp[2] == (picture.stat().st_size, picture.stat().st_mtime_ns)


def test_a_zip_file_equals_a_folder(original, root):
    archive = faces.zip_pictures(root / "img_align_celeba")
    folder, zipped = celeba.read(original), celeba.read(root)
    same(folder, zipped)
    assert folder.read and zipped.read
    assert [folder.read(name) for name in folder.names] == [zipped.read(name) for name in zipped.names]
    (root / "img_align_celeba").mkdir()  # what an unpacking that failed left
    same(folder, celeba.read(root))
    archive.write_text("<html>Quota exceeded</html>")
    fails(root, "img_align_celeba.zip is not a zip file, or damaged (27 bytes); the official files are")


def drive(root: pathlib.Path) -> None:
    for folder, name in {"Anno": ATTRIBUTES, "Eval": PARTITION, "Img": "img_align_celeba"}.items():
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)


def torchvision(root: pathlib.Path) -> None:
    below = root.rename(root.parent / "celeba")
    root.mkdir()
    below.rename(root / "celeba")


def kaggle(root: pathlib.Path) -> None:
    """Comma-separated tables, and the folder of pictures in another of the same name."""
    inner = (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    inner.rename(root / "img_align_celeba" / "img_align_celeba")
    count, header, *rows = (root / ATTRIBUTES).read_text().splitlines()
    lines = [["image_id", *header.split()], *(row.split() for row in rows)]
    (root / "list_attr_celeba.csv").write_text("\n".join(map(",".join, lines)))
    rows = (root / PARTITION).read_text().splitlines()
    lines = [["image_id", "partition"], *(row.split() for row in rows)]
    (root / "list_eval_partition.csv").write_text("\r\n".join(map(",".join, lines)))
    (root / ATTRIBUTES).unlink()
    (root / PARTITION).unlink()


def without_count(root: pathlib.Path) -> None:
    text = (root / ATTRIBUTES).read_text().split("\n", 1)[1]
    (root / ATTRIBUTES).write_text("\ufeff" + text.replace(" ", "   ").replace("\n", " \r\n"), newline="")


def shuffled(root: pathlib.Path) -> None:
    count, header, *rows = (root / ATTRIBUTES).read_text().splitlines()
    (root / ATTRIBUTES).write_text("\n".join([count, header, *rows[::-1]]))
    (root / PARTITION).write_text("\n".join((root / PARTITION).read_text().splitlines()[::-1]))


def zeros(root: pathlib.Path) -> None:
    (root / ATTRIBUTES).write_text((root / ATTRIBUTES).read_text().replace("-1", " 0"))


@pytest.mark.parametrize("layout", [drive, torchvision, kaggle, without_count, shuffled, zeros])
def test_layouts(original, root, layout):
    layout(root)
    same(celeba.read(original), celeba.read(root))


def test_without_a_partition_a_tenth_is_held(root):
    (root / PARTITION).unlink()
    listing = celeba.read(root)
    np.testing.assert_array_equal(listing.held, own_split(listing.names))
    assert f"there is no {str(root / PARTITION)!r}, the authors' split" in listing.notes[0]


def test_pictures_and_labels_without_each_other(root):
    for i in (2, 4, 5, 6):
        (root / "img_align_celeba" / f"{i:06d}.jpg").unlink()
    shutil.copy(root / "img_align_celeba" / "000001.jpg", root / "img_align_celeba" / "x.jpg")
    listing = celeba.read(root)
    assert listing.names[:3] == ("000001.jpg", "000003.jpg", "000007.jpg") and len(listing.names) == N - 4
    np.testing.assert_array_equal(select(listing, ("Male", "Smiling")).bits[1], faces.labels(N, 0)[2])
    (note,) = listing.notes
    assert note == (
        "labels without a picture: 4 ('000002.jpg', '000004.jpg', '000005.jpg', ...); pictures without a label: 1"
        " ('x.jpg'); used are those with both: 16"
    )


def test_a_wrong_count_is_said(root):
    edit(root / ATTRIBUTES, "20\n", "202599\n")
    assert celeba.read(root).notes == (f"{ATTRIBUTES} says that it has 202599 pictures, and has 20",)


@pytest.mark.parametrize(
    "file, old, new, words",
    [
        (ATTRIBUTES, "000003.jpg", "000003.jpg 1", f"line 5 of {ATTRIBUTES} has 42 entries, must have 41"),
        (ATTRIBUTES, "000003.jpg -1", "000003.jpg  0", "must be -1 or 1"),
        (ATTRIBUTES, "000003.jpg -1", "000003.jpg 12", "has '12' for '000003.jpg', must be a number of one digit"),
        (ATTRIBUTES, "000003.jpg -1", "000003.jpg  x", "has 'x' for '000003.jpg', must be a number of one digit"),
        (ATTRIBUTES, "000003.jpg", "000002.jpg", "names pictures more than once: 1 ('000002.jpg')"),
        (
            ATTRIBUTES,
            "Bald",
            "Young",
            "line 2 of list_attr_celeba.txt must hold the names of the attributes, each once",
        ),
        (PARTITION, "000003.jpg 0", "000003.jpg 3", "the part of '000003.jpg' is 3, must be 0, 1 or 2"),
        (PARTITION, "000003.jpg 0", "000003.jpg", f"line 3 of {PARTITION} has 1 entries, must have 2"),
        (PARTITION, "000003.jpg", "x.jpg", f"{PARTITION} lacks 1 of 20 pictures: '000003.jpg'"),
    ],
)
def test_damaged_tables(root, file, old, new, words):
    lines = (root / ATTRIBUTES).read_text().split("\n")
    lines[4] = "000003.jpg -1" + lines[4][13:]
    (root / ATTRIBUTES).write_text("\n".join(lines))
    edit(root / file, old, new)
    fails(root, words)


@pytest.mark.parametrize("text, words", [("", "must hold the names"), ("2\na b\n", "names no pictures")])
def test_empty_tables(root, text, words):
    (root / ATTRIBUTES).write_text(text)
    fails(root, words)


def test_missing_files(root):
    fails(root / "none", "no such folder")
    (root / "img_align_celeba").rename(root / "pictures")
    fails(root, "there is no folder img_align_celeba with pictures and no img_align_celeba.zip; the official files")
    (root / ATTRIBUTES).unlink()
    fails(root, "there is no list_attr_celeba.txt (or .csv)")
    fails(root, "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html")


def test_pictures_of_other_names(root):
    pictures = root / "img_align_celeba"
    for picture in pictures.iterdir():
        picture.rename(picture.with_suffix(".png"))
    fails(root, "none of 20 labels has a picture: labels '000001.jpg', '000002.jpg', '000003.jpg', ..., pictures '0000")
    shutil.rmtree(pictures)
    pictures.mkdir()
    (pictures / "readme.txt").write_text("")
    faces.zip_pictures(pictures)
    fails(root, "img_align_celeba.zip holds no pictures")
    with zipfile.ZipFile(root / "img_align_celeba.zip", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img_align_celeba/000001.jpg", bytes(65_000_000))  # 63 kB in the file
    fails(root, "'img_align_celeba/000001.jpg' unpacks to 65 MB, a picture may take 64")


@pytest.mark.parametrize(
    "name", [ATTRIBUTES, PARTITION, "img_align_celeba", "img_align_celeba/000003.jpg", "img_align_celeba.zip"]
)
def test_links_that_lead_out_of_the_folder_are_refused(root, tmp_path, name):
    if name.endswith(".zip"):
        faces.zip_pictures(root / "img_align_celeba")
    (tmp_path / "elsewhere").mkdir()
    moved = (root / name).rename(tmp_path / "elsewhere" / (root / name).name)
    (root / name).symlink_to(moved)
    fails(root, f"{name!r} is a link that leads out of the folder")


def test_a_link_to_the_folder_and_links_within_it_are_followed(original, root, tmp_path):
    (root / "Img").mkdir()
    (root / "img_align_celeba").rename(root / "Img" / "all")
    (root / "img_align_celeba").symlink_to("Img/all")
    (tmp_path / "linked").symlink_to(root)
    same(celeba.read(original), celeba.read(tmp_path / "linked"))


def test_what_is_too_large_is_not_read(root):
    listing_of_root = celeba.read(root)
    with open(root / "img_align_celeba" / "000003.jpg", "r+b") as file:
        file.truncate(65_000_000)  # it takes no space on the disk
    with pytest.raises(UserError, match="'img_align_celeba/000003.jpg' takes 65 MB, a picture may take 64"):
        listing_of_root.read("000003.jpg")
    with open(root / ATTRIBUTES, "r+b") as file:
        file.truncate(1_100_000_000)
    fails(root, f"{ATTRIBUTES!r} takes 1,100 MB, labels may take 1000")
