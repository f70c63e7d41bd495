"""Signals: what a process saves before it ends, how soon it ends, and with which exit code."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.system

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A body that no signal reaches: a call in C that lets other threads run.
BLOCKED = "import hashlib; print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)"
BODIES = {
    "saves": """
with stopping.saves():
    print("ready", flush=True)
    while not stopping.asked():
        time.sleep(0.01)
    print("saved")
    stopping.leave()
""",
    "plain": "print('ready', flush=True)\nwhile True: time.sleep(0.01)",
    "blocked": BLOCKED,
    "waits": f"with stopping.waits():\n    {BLOCKED}",
    "where no exception gets out": """
class Collected:
    def __del__(self):
        print("ready", flush=True)
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not stopping.asked():
            pass
collected = Collected()
del collected
while True: time.sleep(0.01)
""",
    "lost": """
with stopping.saves():
    print("ready", flush=True)
    time.sleep(0.3)
    stopping.interrupt()
    time.sleep(60)
    print("saved")
""",
}
CODE = """
import signal, sys, time
from cspace_jax import stopping
from cspace_jax.cli import scripts
stopping.GRACE_SECONDS = 1.0
stopping.finally_do(lambda: print("last act"))
def body(_):
    try:
        exec(sys.argv[1])
    finally:
        print("orderly")
for name in sys.argv[2:]:
    signal.signal(signal.Signals[name], signal.SIG_IGN)
stopping.listen()
stopping.listen()
scripts.exit_on_user_error(body, [])
"""


@contextlib.contextmanager
def start(body, *ignored):
    """A process that carries out a body and has said that it is ready."""
    line = [sys.executable, "-c", CODE, BODIES[body], *ignored]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, **streams) as running:
        try:
            assert running.stdout.readline() == "ready\n"
            time.sleep(0.3)  # it is in its body
            yield running
        finally:
            running.kill()


def end(running):
    """Return exit code, output and errors of a process, which must end by itself."""
    out, err = running.communicate(timeout=1200)
    return running.returncode, out, err


CODES = pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])


@CODES
@pytest.mark.parametrize("body", ["saves", "plain", "where no exception gets out"])
def test_what_can_be_saved_is_saved_first_and_all_else_ends_where_it_is(body, name, code):
    with start(body) as running:
        running.send_signal(signal.Signals[name])
        found, out, err = end(running)
    assert (found, out) == (code, "saved\norderly\n" if body == "saves" else "orderly\n")
    *first, last = err.strip().split("\n")
    again = "; once more ends at once" if name == "SIGINT" else ""
    assert first == ([f"{name}: a state is saved first{again}"] if body == "saves" else [])
    assert last == f"{name}: ended; the same command goes on from the last checkpoint"


def test_sigterm_ends_a_process_whose_main_thread_does_not_come_to_it():
    with start("blocked") as running:
        sent = time.monotonic()
        running.send_signal(signal.SIGTERM)
        found, out, err = end(running)
        assert time.monotonic() - sent > 0.9  # its grace is a second here
    assert (found, out) == (143, "last act\n") and "SIGTERM: ended;" in err


def test_a_second_interrupt_ends_at_once():
    with start("blocked") as running:
        running.send_signal(signal.SIGINT)
        time.sleep(1.5)
        assert running.poll() is None  # one alone waits, however long it takes
        running.send_signal(signal.SIGINT)
        found, out, err = end(running)
    assert (found, out) == (130, "last act\n") and "SIGINT: ended;" in err


@CODES
def test_a_process_that_waits_for_others_ends_at_once(name, code):
    with start("waits") as running:
        running.send_signal(signal.Signals[name])
        found, out, _ = end(running)
    assert (found, out) == (code, "last act\n")


def test_a_signal_that_was_ignored_from_the_start_stays_ignored():
    """As under nohup, or behind & in a script."""
    with start("plain", "SIGINT") as running:
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert end(running)[0] == 143


def test_who_lost_the_workdir_saves_nothing():
    with start("lost") as running:
        found, out, _ = end(running)
    assert (found, out) == (130, "orderly\n")
