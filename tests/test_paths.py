"""Paths as people write them: which are the same place, and which lie in another."""

import pytest

from cspace_jax import paths


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("{0}/w", "{0}/w", True), ("{0}/w/", "{0}/w/a/..", True), ("{0}/w", "{0}/link/a", True),
        ("{0}/link", "{0}/w/a", True), ("/", "{0}/w", True), ("/", "/", True), ("w", "{0}/w/a", True),
        ("{0}/w", "{0}/w2", False), ("{0}/w", "{0}", False), ("{0}/w", "{0}/w/out", False),
        ("{0}/w", "gs://b/w", False),
        ("gs://b/w", "gs://b/w/a", True), ("gs://b/w/", "gs://b//w", True), ("gs://b/w", "gs://b/w2", False),
        ("gs://b/w", "s3://b/w", False), ("gs://b/w", "gs:/b/w/a", False), ("~/w", "{0}/w/a", True),
    ],
)  # fmt: skip
def test_what_lies_in_a_folder(root, path, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").mkdir()
    (tmp_path / "link").symlink_to("w")
    (tmp_path / "w" / "out").symlink_to(tmp_path)
    assert paths.within(root.format(tmp_path), path.format(tmp_path)) == expected
