"""Errors of the disk in plain words."""

import errno
import os
import stat

import fsspec
import numpy as np
import pytest
from disks import fail_with, one_line
from etils import epath
from etils.epath import backend as epath_backend

from cspace_jax.errors import UserError
from cspace_jax.storage import checked_json, evaluations, files, metrics
from cspace_jax.storage.files import located, write_atomic, writing
from cspace_jax.storage.workdir import Workdir

FULL = "no space left on the disk"


def chained():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("a library's words") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), FULL),
        (OSError(errno.EROFS, "x"), "the file system is read-only"),
        (chained(), FULL),
        (ValueError(f"write failed: {os.strerror(errno.ENOSPC)} [tensorstore_spec=...]"), FULL),
        (ValueError("RESOURCE_EXHAUSTED: Error writing ocdbt"), FULL),
        (OSError(errno.EIO, "Input/output error"), files.DISK_ERROR),
        (OSError(errno.EMFILE, "Too many open files"), ""),
        (ValueError("something else"), ""),
    ],
)
def test_why_a_file_cannot_be_written(error, words):
    assert files.reason(error) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "x"), files.DISK_ERROR),
        (PermissionError(errno.EACCES, "x"), "no permission to read it"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (MemoryError(), "out of memory"),
        (
            ValueError(f"PERMISSION_DENIED: {os.strerror(errno.EACCES)} [source locations=...]"),
            "no permission to read it",
        ),
        (IsADirectoryError(errno.EISDIR, "x"), ""),
        (ValueError("bad magic number"), ""),
        (chained(), ""),
    ],
)
def test_which_failures_to_read_say_nothing_about_the_file(error, words):
    assert files.not_its_fault(error) == words


def test_a_file_is_the_old_or_the_new_one_and_nothing_is_left(tmp_path, monkeypatch):
    target = tmp_path / "deep" / "file"
    files.write_atomic(target, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "x")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=f"cannot write '{target}': {FULL}"):
        patch.setattr(files.os, "fsync", full)
        files.write_atomic(target, "new")
    assert target.read_text() == "old" and [path.name for path in target.parent.iterdir()] == ["file"]
    synced = []  # whether each was a folder
    sync = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda f: (synced.append(stat.S_ISDIR(os.fstat(f).st_mode)), sync(f)))
    files.write_atomic(target, b"new")
    assert target.read_text() == "new" and synced == [False, True]


def test_cloud_storage_that_cannot_be_reached_is_one_line(monkeypatch):
    files._missing.cache_clear()
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'gs://bucket/x': gs:// needs a package .*: pip install gcsfs$"):
        files.located("gs://bucket/x")
    with pytest.raises(UserError, match="'ftp://host/x': must be a path, or start with one of gs://, s3://"):
        files.located("ftp://host/x")
    with pytest.raises(UserError, match="^workdir = 'gs:/bucket/x': two slashes must follow the colon$"):
        files.located("gs:/bucket/x", "workdir")
    files._missing.cache_clear()
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: name == "gcsfs" or None)
    assert str(files.located("gs://bucket/x")) == "gs://bucket/x"
    files._missing.cache_clear()


@pytest.mark.parametrize(
    ("path", "root", "words"),
    [
        ("gs://b/w/x", "gs://b/w", r"^to = 'gs://b/w/x': lies in the workdir 'gs://b/w', must be another folder$"),
        ("gs://b/w", "gs://b/w", "lies in the workdir 'gs://b/w'"),
        ("{0}/w/x", "{0}/w", "w/x': lies in the workdir '{0}/w', must"),
        ("{0}/link/x", "{0}/w", "link/x': lies in the workdir '{0}/w', must"),
        ("x", "{0}/w", "'x': lies in the workdir '{0}/w', must"),
    ],
)
def test_a_place_in_the_workdir_is_refused_by_its_own_name(path, root, words, tmp_path, monkeypatch):
    (tmp_path / "w").mkdir()
    (tmp_path / "link").symlink_to("w")
    monkeypatch.chdir(tmp_path / "link")
    with pytest.raises(UserError, match=words.format(tmp_path)):
        files.require_outside(path.format(tmp_path), root.format(tmp_path), "to")


def test_no_workdir_is_written_to_as_another_folder(tmp_path, monkeypatch):
    (tmp_path / "w" / "figures").mkdir(parents=True)
    (tmp_path / "w" / "config.json").write_text('{"study": "signal", "grid": {}}')
    (tmp_path / "link").symlink_to("w/figures")
    (tmp_path / "config.json").write_text('{"theme": "dark"}')  # of another program
    monkeypatch.chdir(tmp_path)
    for place in ("w", "w/", "w/figures", "link/new", tmp_path / "w" / "a" / "b"):
        with pytest.raises(
            UserError, match=f"^out = '.*': lies in the workdir '{tmp_path}/w', must be another folder$"
        ):
            files.require_outside_all(place, "out")
    for place in ("", " "):
        with pytest.raises(UserError, match=f"^out = '{place}': must be the path of a folder$"):
            files.require_outside_all(place, "out")
    assert [str(files.require_outside_all(one, "out")) for one in ("wx", "new/a")] == ["wx", "new/a"]


def test_small_files_of_a_study_work_in_cloud_storage(monkeypatch):
    """Through fsspec, with its file system in memory in the place of the bucket."""

    class Bucket(fsspec.get_filesystem_class("memory")):
        store, pseudo_dirs, protocol = {}, [""], ("gs",)

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("gs:/"))

    monkeypatch.setattr(type(epath_backend.fsspec_backend), "_get_filesystem", lambda *_: bucket)
    monkeypatch.setattr(files, "_missing", lambda scheme: "")
    bucket = Bucket()
    root = files.located("gs://bucket/w")
    for content in ("old", "new"):
        files.write_atomic(root / "deep" / "a.json", content)
    assert (root / "deep" / "a.json").read_text() == "new" and list(bucket.store) == ["/bucket/w/deep/a.json"]
    files.write_atomic(root / "config.json", '{"study": "signal", "grid": {}}')
    with pytest.raises(UserError, match="^out = 'gs://bucket/w/x': lies in the workdir 'gs://bucket/w', must"):
        files.require_outside_all("gs://bucket/w/x", "out")
    assert str(files.require_outside_all("gs://bucket/x", "out")) == "gs://bucket/x"
    checked_json.write(root / "b.json", {"steps": 7})
    assert checked_json.read(root / "b.json") == {"steps": 7}
    metrics.append_metrics(root / "metrics.jsonl", [{"run": 0, "step": step} for step in (1, 2)])
    metrics.truncate_metrics(root / "metrics.jsonl", 1)
    metrics.append_metrics(root / "metrics.jsonl", [{"run": 0, "step": 3}])
    metrics.sync(root / "metrics.jsonl")
    assert [row["step"] for row in metrics.read_metrics(root / "metrics.jsonl")] == [1, 3]
    place = root / "eval" / "wave_000" / "step_00000001.npz"
    evaluations.write_npz(place, {"a": np.arange(3)})
    assert evaluations.read_evaluation(place, ("a",))["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["/gs/scratch/run", "/s3/run", "/az", "/hf/x/y", "/gsx/y", "//gs/run"])
def test_a_path_that_starts_with_a_slash_is_of_this_machine(text):
    found = located(text)
    assert "://" not in os.fspath(found)
    assert os.fspath(found).lstrip("/") == text.lstrip("/")
    assert os.fspath(Workdir(found).checkpoints / "a").lstrip("/") == f"{text.lstrip('/')}/checkpoints/a"


@pytest.mark.parametrize("data", ["text\n", b"\x00\xff"])
def test_write_atomic_replaces_and_makes_parents(tmp_path, data):
    target = tmp_path / "a" / "b" / "f.bin"
    write_atomic(target, "old")
    write_atomic(target, data)
    assert target.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert [p.name for p in target.parent.iterdir()] == ["f.bin"]


@pytest.mark.parametrize("place", ["fsync", "rename"])
def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, place):
    target = tmp_path / "f.json"
    write_atomic(target, "old")
    if place == "fsync":
        monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    else:
        monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", fail_with(errno.ENOSPC))
    with pytest.raises(UserError, match="no space left on the disk") as error:
        write_atomic(target, "new")
    assert str(target) in one_line(error)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_interrupt_during_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupt(_fd):
        raise KeyboardInterrupt

    write_atomic(tmp_path / "f", "old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "f", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("f", "old")]


def test_writing_leaves_other_errors_alone():
    with pytest.raises(ZeroDivisionError), writing("x"):
        _ = 1 / 0
