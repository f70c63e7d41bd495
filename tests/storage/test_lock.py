"""One command at a time in a workdir, and no lock that outlives its owner."""

import errno
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest

from cspace_jax.errors import UserError
from cspace_jax.storage import lock

ROOT = pathlib.Path(__file__).resolve().parents[2]
CODE = """
import sys
from cspace_jax.storage import lock
with lock.released_after():
    lock.acquire(sys.argv[1])
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", CODE, str(tmp_path)]
    with subprocess.Popen(line, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "held\n"
        yield running
        running.kill()


def test_a_second_command_is_told_who_works_in_the_workdir(other, tmp_path):
    said = json.loads((tmp_path / lock.NAME).read_text())
    with pytest.raises(UserError) as error, lock.released_after():
        lock.acquire(tmp_path)
    message = str(error.value)
    assert f"process {other.pid} on {said['host']} works in it since {said['started']}" in message
    assert "\n" not in message and json.loads((tmp_path / lock.NAME).read_text()) == said
    assert [p.name for p in tmp_path.iterdir()] == [lock.NAME]
    other.communicate("\n")  # it ends in order
    with lock.released_after():
        lock.acquire(tmp_path)


def test_the_lock_of_a_killed_command_is_taken_over(other, tmp_path, capsys):
    other.kill()
    other.wait()
    assert (tmp_path / lock.NAME).exists()
    with lock.released_after():
        lock.acquire(tmp_path)
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
        lock.acquire(tmp_path)  # ours already
    assert f"process {other.pid} on" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_lock_that_cannot_be_written_leaves_nothing(links, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "no links here")

    class Full(io.StringIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "x")

    real = pathlib.Path.open

    def opened(path, mode="r", *more, **fields):
        if links != (mode == "x") and mode in "xw":
            real(path, mode, *more, **fields).close()
            return Full()
        return real(path, mode, *more, **fields)

    if not links:
        monkeypatch.setattr(lock.os, "link", refused)
    monkeypatch.setattr(pathlib.Path, "open", opened)
    with pytest.raises(UserError, match="no space left on the disk"), lock.released_after():
        lock.acquire(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(pathlib.Path, "open", real)
    with lock.released_after():
        lock.acquire(tmp_path)
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ['{"token": "t", "host": "elsewhere", "pid": 1, "boot": "b"}', "", '{"tok'])
def test_a_lock_from_elsewhere_is_taken_over_once_its_heartbeat_has_stopped(content, tmp_path):
    file = tmp_path / lock.NAME
    file.write_text(content)
    with pytest.raises(UserError, match="works in it since"), lock.released_after():
        lock.acquire(tmp_path)
    long_ago = file.stat().st_mtime - lock.SILENT_SECONDS - 5
    os.utime(file, (long_ago, long_ago))
    with lock.released_after():
        lock.acquire(tmp_path)
        assert json.loads(file.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["[]", '{"pid": 1}', "packages: 3\n", "\xff\x00binary"])
def test_a_file_of_another_program_is_never_taken_for_a_lock(content, tmp_path):
    file = tmp_path / lock.NAME
    file.write_bytes(content.encode("latin-1"))
    os.utime(file, (0, 0))
    with pytest.raises(UserError, match="is damaged or of another program"), lock.released_after():
        lock.acquire(tmp_path)
    assert file.read_bytes() == content.encode("latin-1")


def test_a_lock_that_a_power_cut_left_as_zeros_is_taken_over_in_time(tmp_path):
    file = tmp_path / lock.NAME
    file.write_bytes(bytes(40))
    os.utime(file, (0, 0))
    with lock.released_after():
        lock.acquire(tmp_path)
        assert json.loads(file.read_text())["pid"] == os.getpid()


def test_the_number_of_a_process_that_was_given_to_another_is_not_its_owner(tmp_path):
    content = {**lock._myself(), "ticks": "1"}
    assert lock.is_gone(tmp_path / lock.NAME, content)
    assert not lock.is_gone(tmp_path / lock.NAME, lock._myself())


def test_a_heartbeat_is_seen_and_one_that_lost_its_lock_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    file = tmp_path / lock.NAME
    ended = []
    monkeypatch.setattr(lock.stopping, "interrupt", lambda: ended.append(True))
    with lock.released_after():
        lock.acquire(tmp_path)
        os.utime(file, (1, 1))
        wait_until(lambda: file.stat().st_mtime > 1)
        file.write_text('{"pid": 1}')
        wait_until(lambda: ended)
    assert file.read_text() == '{"pid": 1}'  # not ours to remove


def wait_until(done):
    for _ in range(500):
        if done():
            return
        lock.threading.Event().wait(0.02)
    raise AssertionError("nothing happened within 10 s")


def test_cloud_storage_has_no_lock_and_neither_has_what_is_outside_of_a_command(tmp_path):
    with lock.released_after():
        lock.acquire("gs://bucket/x")
    lock.acquire(tmp_path)
    assert list(tmp_path.iterdir()) == []
