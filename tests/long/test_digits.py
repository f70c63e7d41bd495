"""The script that writes real digits as folders of pictures, on an archive of drawn ones."""

import csv
import gzip

import numpy as np
import pytest
from PIL import Image

from cspace_jax.errors import UserError
from cspace_jax.sources import folder
from experiments import digits


@pytest.fixture
def archive(tmp_path):
    """Thirty zeros, ones and twos whose stroke grows with their number."""
    rows = []
    for label in (0, 1, 2):
        for i in range(30):
            picture = np.zeros((28, 28), int)
            picture[:, : 1 + i // 3] = 255 - i  # ink grows, no two pictures are equal
            rows.append([*picture.ravel(), label])
    text = "\n".join(",".join(map(str, row)) for row in rows)
    file = tmp_path / "digits.csv.gz"
    file.write_bytes(gzip.compress(text.encode()))
    return file


def rows_of(path):
    with (path / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def test_pictures_and_labels_are_what_the_loader_reads(archive, tmp_path, capsys):
    digits.main([f"--archive={archive}", f"--out={tmp_path / 'data'}"])
    tinted, stroke = tmp_path / "data" / "digits", tmp_path / "data" / "stroke"
    assert [row["digit"] for row in rows_of(tinted)] == ["zero"] * 30 + ["one"] * 30
    thick = [row["stroke"] for row in rows_of(stroke) if row["digit"] == "zero"]
    assert thick == ["thin"] * thick.count("thin") + ["thick"] * thick.count("thick")  # the ink grows
    assert 9 <= thick.count("thin") <= 12 and 9 <= thick.count("thick") <= 12
    first = np.asarray(Image.open(tinted / rows_of(tinted)[4]["file"]))
    assert first.shape == (28, 28) and first[0].tolist() == [251, 251, *[0] * 26]
    listing = folder.read(stroke)
    assert listing.concepts == ("digit", "stroke") and listing.words == (("one", "zero"), ("thick", "thin"))


def test_nothing_is_overwritten_and_a_damaged_archive_is_one_line(archive, tmp_path):
    (tmp_path / "data" / "digits").mkdir(parents=True)
    with pytest.raises(UserError, match="exists already"):
        digits.main([f"--archive={archive}", f"--out={tmp_path / 'data'}"])
    (tmp_path / "config.json").write_text('{"study": "signal", "grid": {}}')
    with pytest.raises(UserError, match="^out = '.*': lies in the workdir"):
        digits.main([f"--archive={archive}", f"--out={tmp_path / 'other'}"])
    (tmp_path / "config.json").unlink()
    archive.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        digits.main([f"--archive={archive}", f"--out={tmp_path / 'other'}"])
    assert not (tmp_path / "other").exists()
