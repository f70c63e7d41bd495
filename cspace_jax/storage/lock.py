"""A lock lets one command at a time work in a workdir.

A file says who works in it, and its time of change is the owner's heartbeat. The file is created exclusively, which
network file systems keep to where locks of the kernel are often switched off. An owner on this machine is gone when his
process is; of one elsewhere only the heartbeat tells, the file's time of change. That is compared with the time of a
file written now in the same folder, so that no two clocks need agree.
"""

import contextlib
import datetime
import json
import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from cspace_jax import stopping
from cspace_jax.errors import UserError
from cspace_jax.machine import text_of
from cspace_jax.storage.files import PathLike, quoted, writing

NAME = "lock.json"
BEAT_SECONDS = 20.0
_BEGINNING = b'{"token": "'  # of a lock; one that was written in place may be torn
SILENT_SECONDS = 180.0  # after which an owner whose process cannot be looked for is gone

_held: dict[str, "_Lock"] = {}
_scopes: list[None] = []  # bodies of `released_after` that are being carried out


def _release_all() -> None:
    """Release every workdir that this process holds."""
    for lock in list(_held.values()):
        lock.release()


stopping.finally_do(_release_all)  # who goes on elsewhere need not wait for the heartbeat to fall silent


@contextlib.contextmanager
def released_after() -> Iterator[None]:
    """Release at the end of the body the workdirs that it acquired.

    Workdirs that this process held before stay held.
    """
    before = set(_held)
    _scopes.append(None)
    try:
        yield
    finally:
        _scopes.pop()
        for name in set(_held) - before:
            _held.pop(name).release()


def acquire(workdir: PathLike) -> None:
    """Hold an existing workdir for this process until the end of the body of `released_after`.

    Nothing happens outside of such a body, if this process holds it already, or in cloud storage, which knows no
    exclusive creation.

    Raises:
      UserError: another process holds it, one line with its host, number and start; or the folder cannot be written.
    """
    if not _scopes or "://" in os.fspath(workdir):
        return
    name = os.path.realpath(workdir)
    if name not in _held:
        _held[name] = _Lock(pathlib.Path(name))


def holds(workdir: PathLike) -> bool:
    """Return whether this process holds a workdir."""
    return os.path.realpath(workdir) in _held


class _Lock:
    """A lock that is held until `release`.

    Args:
      folder: the workdir.
    """

    def __init__(self, folder: pathlib.Path):
        self._path = folder / NAME
        self._content = json.dumps({"token": uuid.uuid4().hex, **_myself()})
        with writing(self._path):
            if not self._create():
                self._take_over()
        self._stop = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="workdir heartbeat").start()

    def release(self) -> None:
        """Stop the heartbeat, and remove the file if it is still ours."""
        self._stop.set()
        with contextlib.suppress(OSError):
            if self._path.read_text() == self._content:
                self._path.unlink()

    def _create(self) -> bool:
        """Create the file with its content, and return False if it exists.

        It has its content from its first moment, as an empty one would keep others waiting.
        """
        made = self._path.with_name(f".{NAME}.{uuid.uuid4().hex}.tmp")
        try:
            made.write_text(self._content)
            try:
                os.link(made, self._path)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                return self._create_in_place()
            return True
        finally:
            made.unlink(missing_ok=True)

    def _create_in_place(self) -> bool:
        """Create the file on a file system without links, and return False if it exists."""
        try:
            file = self._path.open("x")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(self._content)
        except BaseException:
            self._path.unlink()
            raise
        return True

    def _take_over(self) -> None:
        """Replace the lock of an owner that is gone, or raise UserError."""
        text = text_of(self._path)
        owner = _parsed(text)
        if is_foreign(self._path):
            raise UserError(f"{quoted(self._path)} is damaged or of another program: rename it, or remove it")
        if not is_gone(self._path, owner):
            raise UserError(
                f"workdir = {quoted(self._path.parent)}: process {owner.get('pid', '?')} on {owner.get('host', '?')} "
                f"works in it since {owner.get('started', '?')}; wait for it or end it"
            )
        # Renamed first: of two that find the owner gone one gets the file, and what is no longer his is given back.
        moved = self._path.with_name(f".{NAME}.{uuid.uuid4().hex}.tmp")
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(moved)
            if text_of(moved) != text:
                with contextlib.suppress(FileExistsError):
                    os.link(moved, self._path)
            moved.unlink()
        if not self._create():
            raise UserError(f"workdir = {quoted(self._path.parent)}: another process has just begun to work in it")
        print(f"cspace_jax: process {owner.get('pid', '?')} on {owner.get('host', '?')} worked here and is gone")

    def _beat(self) -> None:
        """Touch the file every `BEAT_SECONDS`, and end the process if another took it over."""
        while not self._stop.wait(BEAT_SECONDS):
            text = text_of(self._path)
            if text and text != self._content and not self._stop.is_set():
                print(f"{self._path} says that another process took over this workdir: this one ends", flush=True)
                stopping.interrupt()
                return
            with contextlib.suppress(OSError):
                os.utime(self._path)


def is_foreign(path: pathlib.Path | epath.Path) -> bool:
    """Return whether a file with a lock's name holds neither a lock nor the beginning of one."""
    if path.name != NAME:
        return False
    try:
        content = pathlib.Path(path).read_bytes().strip(b"\0")  # what a power cut may leave
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return not _parsed(content.decode(errors="replace")) and not content.startswith(_BEGINNING[: len(content)])


def is_gone(path: pathlib.Path, owner: dict[str, Any]) -> bool:
    """Return whether the owner of a lock is gone.

    Args:
      path: of the lock.
      owner: what it says; nothing if it is damaged, or was just created.
    """
    here = _myself()
    if owner and all(owner.get(name) == here[name] for name in ("host", "boot", "space")):
        return _started(owner.get("pid", 0)) != owner.get("ticks")
    return _age(path) > SILENT_SECONDS


def _age(path: pathlib.Path) -> float:
    """Return the seconds since a file changed, by the clock of its file system."""
    now = path.with_name(f".{NAME}.{uuid.uuid4().hex}.tmp")
    try:
        now.write_text("")
        time = now.stat().st_mtime
        try:
            return time - path.stat().st_mtime
        except FileNotFoundError:  # released meanwhile
            return float("inf")
    finally:
        now.unlink(missing_ok=True)


def _myself() -> dict[str, Any]:
    """Return the fields by which a lock names this process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "ticks": _started(os.getpid()),
        "boot": text_of(pathlib.Path("/proc/sys/kernel/random/boot_id")).strip(),
        "space": _link("/proc/self/ns/pid"),  # containers of one machine number their processes apart
    }


def _started(pid: int) -> str:
    """Return when a process of this machine started, in ticks of the kernel.

    A process that does not exist gives "". Where the kernel does not tell, a process that exists gives "running".
    """
    fields = text_of(pathlib.Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if len(fields) > 19:
        return "" if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "" if pathlib.Path("/proc/self/stat").exists() else "running"


def _link(path: str) -> str:
    """Return the target of a link. No link gives ""."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, Any]:
    """Return the fields of a lock's text. A text that is no lock gives {}."""
    try:
        owner = json.loads(text)
    except ValueError:
        return {}
    ours = isinstance(owner, dict) and isinstance(owner.get("pid"), int) and isinstance(owner.get("token"), str)
    return owner if ours else {}
