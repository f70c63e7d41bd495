"""Errors of the disk as they are raised, and as they are told."""

import os

import pytest


def one_line(error: pytest.ExceptionInfo) -> str:
    """The message of an error, which has one line."""
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


def fail_with(number: int):
    """A function that fails with an error number of the system."""

    def raise_it(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return raise_it
