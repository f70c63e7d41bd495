"""How Orbax is called: in silence that ends, and with errors of one line."""

import logging
import os
import sys

import pytest

from cspace_jax.storage import orbax_calls


def test_the_line_of_an_error_leaves_out_the_dump_of_settings():
    error = ValueError("NOT_FOUND: no\n  such chunk [tensorstore_spec='{...}']")
    assert orbax_calls.line(error) == "ValueError: NOT_FOUND: no such chunk"
    assert orbax_calls.line(RuntimeError()) == "RuntimeError"
    assert len(orbax_calls.line(OSError("x" * 1000))) == len("OSError: ") + 240


def test_silence_ends_after_an_error_too():
    before = logging.root.manager.disable, sys.unraisablehook
    with pytest.raises(ZeroDivisionError), orbax_calls.quiet():
        assert logging.root.manager.disable == logging.CRITICAL and sys.unraisablehook is not before[1]
        raise ZeroDivisionError
    assert (logging.root.manager.disable, sys.unraisablehook) == before


@pytest.mark.parametrize(
    ("path", "shown"),
    [(("site", "orbax", "x.py"), False), (("home", "orbax_study", "x.py"), True), (("orbax.py",), True)],
)
def test_words_of_orbax_alone_are_left_out(path, shown):
    record = logging.LogRecord("absl", logging.ERROR, os.sep + os.sep.join(path), 1, "failed", None, None)
    assert orbax_calls._not_of_orbax(record) == shown


def test_a_task_of_orbax_that_failed_unheard_is_left_out():
    for package, shown in (("orbax", False), ("elsewhere", True)):
        words = (
            f"Task exception was never retrieved\nfuture: <Task coro=<write() done, defined at /x/{package}/y.py:1>>"
        )
        record = logging.LogRecord("asyncio", logging.ERROR, "/lib/asyncio/base_events.py", 1, words, None, None)
        assert orbax_calls._not_of_orbax(record) == shown


def test_a_function_is_replaced_for_a_while(monkeypatch):
    with pytest.raises(ZeroDivisionError), orbax_calls._replaced(os, "sep", "|"):
        assert os.sep == "|"
        raise ZeroDivisionError
    assert os.sep != "|"
