"""The versions, devices and settings that a result may depend on."""

import datetime
import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from cspace_jax import startup
from cspace_jax.errors import UserError
from cspace_jax.storage.files import PathLike, quoted

PACKAGES = (
    "cspace_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "xarray",
    "ml-collections",
)
VARIABLES = "variables"  # in env.json: of the environment, that JAX and XLA read


def environment(command_line: str | Sequence[str] = "") -> dict[str, Any]:
    """Return the versions, devices, settings and commit of this process, ready for JSON. It starts JAX's backend."""
    import jax  # here, so that asking for a version needs no JAX

    devices = jax.devices()
    return {
        "command_line": command_line if isinstance(command_line, str) else shlex.join(command_line),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "xla_flags": startup.xla_flags(),
        VARIABLES: startup.variables(),
        "numerics": startup.numerics(),
    }


def require_same(stored: Mapping[str, Any], here: dict[str, str], workdir: PathLike) -> None:
    """Raise UserError if a workdir was made under other settings that change numbers (`startup.numerics`).

    Args:
      stored: what env.json holds, perhaps of an older version, which recorded none.
      here: the settings of this process.
      workdir: named in the message.
    """
    before = stored.get("numerics")
    if isinstance(before, dict) and VARIABLES not in stored:  # of a version that knew fewer flags
        before = startup.recorded_flags(str(stored.get("xla_flags", ""))) | before
    if not isinstance(before, dict) or before == here:
        return
    names = [name for name in {**before, **here} if before.get(name) != here.get(name)]
    words = ", ".join(f"{name} was {before.get(name, 'not set')}, is {here.get(name, 'not set')}" for name in names)
    raise UserError(
        f"workdir = {quoted(workdir)}: its numbers were made under other settings of JAX ({words}); set them as they "
        "were, or use another workdir"
    )


def version(package: str) -> str | None:
    """Return the version of an installed package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the source tree, with "+changes" if it is modified.

    None is returned for a package that is installed without a source tree.
    """
    root = pathlib.Path(__file__).resolve().parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or pathlib.Path(top).resolve() != root:  # an enclosing, unrelated repository
        return None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    return commit and commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    """Return the output of a git command in a folder. None is returned if it fails."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
