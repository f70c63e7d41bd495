"""The parsing and the reporting of errors that all command lines share.

A mistake of the user is one line on standard error and exit code 2.
"""

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cspace_jax import processes, startup, stopping
from cspace_jax.cli import faults
from cspace_jax.cli.arguments import is_override, overrides
from cspace_jax.errors import UserError
from cspace_jax.text import one_line


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError for a mistake and accepts no abbreviated flags."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a UserError."""
        raise UserError(f"command line: {' '.join(message.split())}")

    def parse_with_overrides(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the flags, with an attribute `overrides`: the fields that --config.FIELD=VALUE sets, field -> value.

        Raises:
          UserError: an argument is unknown or has no value; whether there is such a field is not looked at.
        """
        given = [argument for argument in arguments if is_override(argument)]
        flags = self.parse_args([argument for argument in arguments if argument not in given])
        if unset := next((argument for argument in given if "=" not in argument), None):
            self.error(f"{unset} must have a value: {unset}=VALUE")
        texts = (argument.partition("=")[2] for argument in given)
        flags.overrides = dict(zip(overrides(given), map(_value, texts), strict=True))
        return flags


def _value(text: str) -> Any:
    """Return the Python value of a text, or the text itself if it is a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # a word, such as the path of a folder
        return text


def comma_separated(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return an argparse type that reads "a,b,c" as a tuple of `kind`. An empty text gives ()."""

    def read(text: str) -> tuple[Any, ...]:
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        try:
            if "" in parts:
                raise ValueError("empty entry")
            return tuple(map(kind, parts))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: must be {kind.__name__} values with commas between") from error

    return read


def exit_on_user_error(function: Callable[[Sequence[str]], Any], arguments: Sequence[str]) -> Any:
    """Call a function and return its result.

    Bad input, a backend that cannot start and used-up memory print one line on standard error and exit with code 2.
    Signals that ask for the end exit with 130 (SIGINT) and 143 (SIGTERM), a fault of ours with 1 and its traceback.
    """
    try:
        return function(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        processes.leave(2)
    except stopping.Stopped as stopped:
        print(stopped, file=sys.stderr)
        processes.leave(stopped.code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        processes.leave(130)
    except Exception as error:
        if reason := startup.backend_failure(error) or _out_of_memory(error):
            print(f"error: {reason}", file=sys.stderr)
            processes.leave(2)
        faults.report(error)
        processes.leave(1)


def _out_of_memory(error: Exception) -> str:
    """Return in one line that the host's or a device's memory is used up. Another error gives ""."""
    if isinstance(error, MemoryError):
        return f"out of memory ({one_line(error, 200) or 'of this machine'}); what is done is kept"
    if "jax" in sys.modules:
        from cspace_jax.cost import fit  # JAX is loaded already

        if fit.out_of_memory(error):
            return (
                "the memory of a device does not suffice for this stage; what is done is kept. Give a smaller number "
                "to elicit.images_per_call or, in another workdir, to engine.wave or evaluate.samples_per_class"
            )
    return ""


def start(function: Callable[[Sequence[str]], Any]) -> None:
    """Start a script: set JAX up as the main command does, then call `function` with the arguments."""

    def set_up_and_call(arguments: Sequence[str]) -> Any:
        startup.set_up_jax()
        stopping.listen()
        return function(arguments)

    startup.restart_with_allocator_settings()
    exit_on_user_error(set_up_and_call, sys.argv[1:])
