"""The one screen of `--help` and the line of `--version`.

The screen is made of the first lines of the studies' files and of the table of modes.
"""

import platform

from cspace_jax.pipeline.modes import MODES
from cspace_jax.storage.environment import version as version_of
from cspace_jax.studies import loading

_TOP = """\
Train a grid of diffusion models (concept signals x seeds) as one JAX program, and follow each in
concept space: when it learns its concepts, in what order, and what it can draw that it never saw.

  cspace --config=STUDY[:SCALE] --workdir=FOLDER [--mode=MODE] [--config.FIELD=VALUE ...]
"""
_SCALES = """\
SCALE: smoke (seconds, shows nothing), quick (2 CPU cores, minutes), paper (one GPU or TPU).
  Without one a CPU takes quick and an accelerator paper.
"""
_OVERRIDES = (
    ('--config.grid.seeds="(0, 1, 2, 3)"', "seeds; all numbers of the grid are combined"),
    ('--config.grid.sep_col="(0.2, 0.8)"', "colour signals; --config.grid.sep_size for size"),
    ("--config.optim.steps=4000", "training steps of each run"),
    ("--config.evaluate.samples_per_class=64", "samples of each class at each checkpoint"),
    ("--config.figures=\"('fig4', 'gif')\"", "which figures are drawn"),
)
_END = """\
The same command goes on after an interruption. cspace is short for python -m cspace_jax.main.
All flags and fields: cspace --helpfull; what is allowed: docs/config.md; cspace --version"""


def screen() -> str:
    """Return one screen with the command's purpose, studies, scales, modes and common overrides."""
    studies = [(name, loading.question(name)) for name in loading.STUDIES]
    parts = [
        _TOP,
        _table("STUDY, one of these or a Python file of your own:", studies),
        _SCALES,
        _table("MODE:", [(name, mode.does) for name, mode in MODES.items()]),
        _table("Overrides, for example:", _OVERRIDES),
        _END,
    ]
    return "\n".join(parts)


def version() -> str:
    """Return the versions of the package, of JAX and of Python."""
    return f"cspace_jax {version_of('cspace_jax')} (jax {version_of('jax')}, python {platform.python_version()})"


def _table(title: str, rows: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    """Return a title and rows of two columns as text."""
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in rows), ""])
