"""The damages that `experiments.torture` does to files and checkpoints."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from cspace_jax.storage.file_names import CONFIG


def _flip(path: pathlib.Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(content))


def _swap(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Take the content of another file of the same kind in the workdir, such as that of the next step."""
    root = path.parent if (path.parent / CONFIG).exists() else path.parent.parent
    others = [p for p in sorted(root.rglob(f"*{path.suffix}")) if p.is_file() and p != path]
    path.write_bytes(others[int(rng.integers(len(others)))].read_bytes() if others else b"")


def _folder(path: pathlib.Path, _: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def _add(path: pathlib.Path, _: np.random.Generator) -> None:
    """Add a field, as a newer version may, or a byte."""
    with contextlib.suppress(ValueError):
        if isinstance(found := json.loads(path.read_bytes()), dict):
            path.write_text(json.dumps({**found, "of_a_newer_version": 1}))
            return
    path.write_bytes(path.read_bytes() + b"x")


def _empty(path: pathlib.Path, _: np.random.Generator) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _swap_folder(path: pathlib.Path, rng: np.random.Generator) -> None:
    """Take the content of another of its kind: the checkpoint of another step, or of another wave."""
    others = sorted(p for p in path.parents[2].glob(f"*/{path.parent.name}/[0-9]*") if p != path)
    _empty(path, rng)
    if others:
        shutil.copytree(others[int(rng.integers(len(others)))], path, dirs_exist_ok=True)


FOLDER_DAMAGES: dict[str, Callable[[pathlib.Path, np.random.Generator], Any]] = {
    "emptied": _empty,
    "with the content of a neighbour": _swap_folder,
    "removed": lambda path, _: shutil.rmtree(path),
}
DAMAGES: dict[str, Callable[[pathlib.Path, np.random.Generator], Any]] = {
    "emptied": lambda path, _: path.write_bytes(b""),
    "cut in half": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "with a flipped bit": _flip,
    "with the content of a neighbour": _swap,
    "with something more": _add,
    "replaced by a folder": _folder,
    "removed": lambda path, _: path.unlink(),
}
