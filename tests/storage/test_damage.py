"""Failures to read a checkpoint: damage of its own, or the fault of the disk or of this process."""

import errno
import logging
import os

import pytest
from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import damage, orbax_calls

FOLDER = epath.Path("w/7")


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(orbax_calls, "_SETTLE_SECONDS", 0.0)


def failing(error):
    def read():
        raise error

    return read


def test_what_is_read_is_given_back_in_silence():
    assert damage.reading(FOLDER, lambda: logging.root.manager.disable) == logging.CRITICAL
    assert logging.root.manager.disable < logging.CRITICAL


@pytest.mark.parametrize("error", [ValueError("bad\n  chunk"), KeyError("w"), FileNotFoundError(errno.ENOENT, "gone")])
def test_any_other_failure_is_damage_in_one_line(error):
    with pytest.raises(damage.Damaged) as raised:
        damage.reading(FOLDER, failing(error))
    message = str(raised.value)
    assert message.startswith(f"checkpoint {FOLDER}: is damaged ({type(error).__name__}: ") and "\n" not in message
    assert "remove it: training then goes on" in message


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_the_fault_of_the_disk_or_of_this_process_is_no_damage(number):
    with pytest.raises(UserError, match="cannot be read .* it may be whole: try again") as raised:
        damage.reading(FOLDER, failing(OSError(number, os.strerror(number))))
    assert not isinstance(raised.value, damage.Damaged)


def test_an_interrupt_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        damage.reading(FOLDER, failing(KeyboardInterrupt()))
