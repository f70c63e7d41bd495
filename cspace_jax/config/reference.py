"""The fields of a configuration as text, written from their declarations.

The command's help shows them, and docs/config.md is made by

    python -m cspace_jax.config.reference > docs/config.md
"""

import dataclasses
import textwrap

from cspace_jax.config.fields import Declared, declared
from cspace_jax.config.schema import Config


def markdown() -> str:
    """Return docs/config.md: one table a group, one row a field."""
    lines = [
        "# Configuration",
        "",
        "This page is generated: `python -m cspace_jax.config.reference > docs/config.md`.",
        "",
        "Every field can be overridden: `--config.optim.steps=4000`, or from Python",
        '`cs.load_config("signal:quick", **{"optim.steps": 4000})`.',
        "Defaults are the values of `paper` scale; `cspace_jax/studies/base.py` holds what `quick` and `smoke` change.",
        "A field marked * may differ when a workdir is entered again: it changes no stored result beyond rounding.",
    ]
    group = None
    for path, one, what in declared(Config):
        name = path.rpartition(".")[0]
        if name != group:
            group = name
            lines += ["", f"## {name or 'study'}", "", _doc(name), ""]
            lines += ["| field | default | allowed | meaning |", "|---|---|---|---|"]
        mark = "" if what.affects_results else " *"
        cells = (f"`{path}`{mark}", f"`{_default(one)}`", what.allowed, what.text + _reason(what))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def help_text(width: int = 100) -> str:
    """Return the fields as text of lines of at most `width` characters: name, default, meaning and what is allowed."""
    lines = []
    for path, one, what in declared(Config):
        line = f"{path} = {_default(one)}: {what.text}{f' ({what.allowed})' if what.allowed else ''}"
        lines += textwrap.wrap(line, width, subsequent_indent="    ")
    return "\n".join(lines)


def _doc(group: str) -> str:
    """Return the first line of a group's docstring."""
    kind = type(getattr(Config, group)) if group else Config
    return (kind.__doc__ or "").splitlines()[0]


def _default(one: dataclasses.Field) -> str:
    """Return the default of a field as text, long ones shortened."""
    if one.default is dataclasses.MISSING:
        return "none"
    text = repr(one.default)
    return text if len(text) <= 80 else f"{text[:30]} ... {text[-20:]}"


def _reason(what: Declared) -> str:
    """Return why a field's interval ends where it does, as the end of a sentence."""
    return f"; {what.reason}" if what.reason else ""


if __name__ == "__main__":
    print(markdown(), end="")
