"""Damage of a checkpoint, told from errors of the disk or of this process."""

from collections.abc import Callable
from typing import TypeVar

from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import orbax_calls
from cspace_jax.storage.files import not_its_fault

T = TypeVar("T")


class Damaged(UserError):
    """A checkpoint cannot be read, or its content is not what was written."""


def damaged(directory: epath.Path, reason: str) -> Damaged:
    """Return the error, of one line, that names the damage of a checkpoint and the remedy."""
    return Damaged(
        f"checkpoint {directory}: is damaged ({reason}); remove it: training then goes on from an earlier state, or "
        "from step 0 if there is none"
    )


def reading(directory: epath.Path, read: Callable[[], T]) -> T:
    """Return `read()`, and turn its failures into an error that names the checkpoint.

    Raises:
      Damaged: the checkpoint cannot be read.
      UserError: the disk or this process is at fault.
    """
    with orbax_calls.quiet(), orbax_calls.alone():
        try:
            return read()
        except Exception as e:
            why, elsewhere = orbax_calls.line(e), not_its_fault(e)
        orbax_calls.settle()
    if elsewhere:
        raise UserError(f"checkpoint {directory}: cannot be read ({elsewhere}); it may be whole: try again")
    raise damaged(directory, why)
