"""Reports of errors that are our own fault.

The traceback goes to standard error and, with the facts that a report needs, into a file.
"""

import datetime
import os
import platform
import sys
import traceback

from cspace_jax import startup
from cspace_jax.storage import environment

_KEPT = 20  # files; older ones are removed


def report(error: BaseException) -> None:
    """Print the traceback of an error, and ask for a report.

    The last line names the file that belongs to the report, if one could be written.
    """
    shown = "".join(traceback.format_exception(error))
    print(shown, end="", file=sys.stderr)
    log = _write(shown)
    with_what = f"with {log}" if log else "with the lines above"
    print(f"error: this is a fault of cspace_jax; please report it {with_what}", file=sys.stderr)


def _write(shown: str) -> str:
    """Write the file of a report and return its path. Where nothing can be written the path is ""."""
    folder = startup.usable_cache("faults")
    if folder is None:
        return ""
    path = folder / f"{datetime.datetime.now():%Y-%m-%d_%H%M%S}_{os.getpid()}.txt"
    try:
        for old in sorted(folder.glob("*.txt"))[: 1 - _KEPT]:
            old.unlink(missing_ok=True)
        path.write_text("\n".join([*_circumstances(), "", shown]), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
    return str(path)


def _circumstances() -> list[str]:
    """Return the lines of a report: command line, Python, package versions, and variables of JAX and XLA."""
    versions = [f"{name} {environment.version(name)}" for name in environment.PACKAGES]
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(("JAX", "XLA"))]
    return [
        f"command line: {' '.join(sys.argv)}",
        f"Python {platform.python_version()} on {platform.platform()}",
        ", ".join(versions),
        *variables,
    ]
