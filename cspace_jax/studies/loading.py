"""Finding a study by its name or its file, and reading it at a scale."""

import ast
import importlib
import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any, NoReturn

from cspace_jax.config import SCALES, Config, config_files, differences, from_config_dict
from cspace_jax.config.fields import declared
from cspace_jax.config.reading import fail
from cspace_jax.config.schema import AXES
from cspace_jax.errors import UserError
from cspace_jax.text import closest

_OF_THE_PAPER = ("signal", "signal_size", "signal_grid", "hidden", "guidance", "underspec", "three")  # named first
_FILES = {file.stem for file in pathlib.Path(__file__).parent.glob("*.py")} - {"__init__", "base", "loading"}
STUDIES = (*_OF_THE_PAPER, *sorted(_FILES.difference(_OF_THE_PAPER)))


def fields(name: str | os.PathLike[str]) -> Any:
    """Return the ConfigDict of a study.

    `name` is "NAME", "NAME:SCALE", "FILE.py" or "FILE.py:SCALE". Without a scale it takes `quick` on a CPU and `paper`
    on an accelerator; asking starts JAX's backend.

    Raises:
      UserError: there is no such study, or its file cannot be used.
    """
    if not isinstance(name, str | os.PathLike):
        fail("config", name, "must be the name of a study or the path of a Python file")
    name = os.fspath(name)
    path, scale = split(name)
    try:
        module = _module(path)
        if not hasattr(module, "get_config"):
            raise UserError(f"config = {path!r}: defines no function get_config")
        return module.get_config(scale) if scale else module.get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the file does
        raise UserError(f"config = {path!r}: cannot be used, {config_files.reason(error, path)}") from error


def split(name: str) -> tuple[str, str]:
    """Return the study or file of "NAME:SCALE", and the scale. Without a colon the scale is "".

    Raises:
      UserError: nothing follows the colon.
    """
    path, colon, scale = name.rpartition(":")
    if colon and not scale:
        fail("config", name, f"the scale must be one of {', '.join(SCALES)}, or leave the colon out")
    return (path, scale) if colon else (name, "")


def _module(path: str) -> Any:
    """Return the module of a study or config file."""
    if path in STUDIES:
        return importlib.import_module(f"cspace_jax.studies.{path}")
    if path.endswith(".py"):
        return config_files.load(path)
    known = ", ".join(STUDIES)
    raise UserError(f"config = {path!r}: must be a study ({known}) or a Python file{closest(path, STUDIES)}")


def file_of(name: str) -> pathlib.Path:
    """Return the file of a study of `STUDIES`."""
    return pathlib.Path(__file__).with_name(f"{name}.py")


def question(name: str) -> str:
    """Return the question of a study in one line.

    It is the first line of the study's file. A study that is not of `STUDIES` gives "".
    """
    if name not in STUDIES:
        return ""
    text = ast.get_docstring(ast.parse(file_of(name).read_text())) or ""  # imports nothing
    return text.partition("\n")[0]


def configure(name: str | os.PathLike[str], overrides: Mapping[str, Any]) -> Config:
    """Return the checked configuration of a study with fields overridden.

    Args:
      name: as in `fields`.
      overrides: field -> value; a field is named in full ("optim.steps"), or by its last part if that is an axis of the
        grid ("sep_col") or stands for one field only ("sampling_steps").

    Raises:
      UserError: there is no such study or field, a value is not allowed, or `scale` is among the overrides.
    """
    source = fields(name)
    if "scale" in overrides:
        refuse_scale("scale", overrides["scale"], os.fspath(name))
    known = [path for path, _, _ in declared(Config)]
    for given, value in overrides.items():
        path = _full_name(given, value, known)
        group = source
        *groups, last = path.split(".")
        for one in groups:
            group = group[one]
        with group.unlocked(), group.ignore_type():
            group[last] = value
    return from_config_dict(source)


def refuse_scale(field: str, value: Any, name: str) -> NoReturn:
    """Raise UserError for an override of the scale, which would change the label alone and no setting."""
    study, scale = name.partition(":")[0] or "signal", value if value in SCALES else "SCALE"
    fail(
        field, value, f"would only change the label; choose it by {'--config=' if '.' in field else ''}{study}:{scale}"
    )


def _full_name(given: str, value: Any, known: list[str]) -> str:
    """Return the dotted name of a field.

    Raises:
      UserError: no field is named so, or several are.
    """
    if given in known:
        return given
    if given in AXES:
        return f"grid.{given}"
    found = [path for path in known if path.rpartition(".")[2] == given]
    if len(found) == 1:
        return found[0]
    if found:
        fail(given, value, f"stands for several fields, name one in full: {', '.join(found)}")
    last = [path.rpartition(".")[2] for path in known]
    fail(given, value, f"unknown field{closest(given, [*known, *last])}; docs/config.md lists them")


def command_of(config: Config, made: Config | None = None) -> str:
    """Return the command that carries out a configuration in a new workdir, one line.

    Of a study that the package does not have, the file stays open, and its overrides are those against `made`; without
    `made` the command needs no such file: all fields are overrides of the first study of the package.
    """
    shipped = config.study in STUDIES
    if shipped or made is None:
        name = config.study if shipped else STUDIES[0]
        base = configure(f"{name}:{config.scale}", {})
    else:
        name, base = "YOUR_FILE.py", made
    words = [f"--config={name}:{config.scale}", "--workdir=NEW"]
    for one in differences(base, config):
        value = tuple(one.second) if isinstance(one.second, list) else one.second
        words.append(shlex.quote(f"--config.{one.field}={value}"))
    return " ".join(("python -m cspace_jax.main", *words))


def require_field(path: str, source: Any) -> None:
    """Raise UserError unless the dotted `path` names a field of a ConfigDict, and not an entry of a tuple."""
    group = source
    whole, entry, _ = path.partition("[")
    for name in whole.split("."):
        found = list(group.keys()) if hasattr(group, "keys") else []
        if name not in found:
            raise UserError(f"config.{path}: unknown field {name!r}{_nearest(path, closest(name, found))}")
        group = group[name]
    if entry:
        raise UserError(f'config.{path}: an entry cannot be set alone, give the whole value: --config.{whole}="(...)"')


def _nearest(path: str, beside: str) -> str:
    """Return a hint at the field that is probably meant.

    It names one of that name in another group, else it is `beside`, the hint within the group, or a similar name.
    """
    known = [field for field, _, _ in declared(Config)]
    last = path.partition("[")[0].rpartition(".")[2]
    namesakes = [field for field in known if field.rpartition(".")[2] == last]
    if namesakes:
        return closest(path, namesakes) or f", did you mean {' or '.join(map(repr, namesakes))}?"
    return beside or closest(path, known)
