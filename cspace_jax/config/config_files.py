"""Loading of config files by their path, from whatever folder the command was started in."""

import hashlib
import importlib.util
import pathlib
import sys
import traceback
import types

from cspace_jax.errors import UserError
from cspace_jax.text import one_line


def reason(error: BaseException, file: str | pathlib.Path | None = None) -> str:
    """Return in one line the error that a user's Python file raised, and its place.

    With `file` the place is the last line of that file on the way to the error.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if file is not None and one.filename == str(pathlib.Path(file).resolve())]
    last = (own or frames)[-1]
    where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
    return f"{type(error).__name__}: {one_line(error, 300)}{where}"


def load(path: str | pathlib.Path) -> types.ModuleType:
    """Run a Python config file and return it as a module.

    An error that the file raises goes on to the caller.

    Raises:
      UserError: there is no such file.
    """
    file = pathlib.Path(path).resolve()
    name = f"cspace_config_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise UserError(f"config = {str(path)!r}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses of the file look up what their annotations name
    spec.loader.exec_module(module)
    return module
