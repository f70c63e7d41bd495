"""Reading of a command line before its flags are parsed, without any library but Python's own."""

import json
import pathlib
from collections.abc import Sequence

from cspace_jax.paths import expanded
from cspace_jax.storage.file_names import CONFIG

HELP = ("help", "h", "helpshort")
VERSION = ("version",)


def values(argv: Sequence[str], flag: str) -> list[str]:
    """Return the values given to a flag, in their order. Both "--flag=VALUE" and "--flag VALUE" count."""
    found = []
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}") and (equals or following is not None):
            found.append(value if equals else str(following))
    return found


def asks(argv: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether one of these flags stands on a command line. Arguments after "--" do not count."""
    given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    return any(argument in (f"--{name}", f"-{name}") for argument in given for name in names)


def overrides(argv: Sequence[str]) -> list[str]:
    """Return the dotted fields that a command line overrides. "--config.optim.steps=3" gives "optim.steps"."""
    return [argument.partition("=")[0].partition(".")[2] for argument in argv if is_override(argument)]


def is_override(argument: str) -> bool:
    """Return whether an argument overrides a field of the configuration."""
    return argument.startswith(("--config.", "-config."))


def config_first(argv: Sequence[str]) -> list[str]:
    """Return a command line with --config ahead of all else.

    It has to be read before the fields that it overrides.
    """
    head, tail, rest = list(argv[:1]), [], list(argv[1:])
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            tail += [argument, *rest]
            break
        flag, equals, _ = argument.partition("=")
        if flag not in ("--config", "-config"):
            tail.append(argument)
        else:
            head += [argument] if equals or not rest else [f"{argument}={rest.pop(0)}"]
    return head + tail


def is_smoke(argv: Sequence[str]) -> bool:
    """Return whether a command line names a study at smoke scale.

    Without a study the workdir decides, by the configuration that it holds.
    """
    configs, folders = values(argv, "config"), values(argv, "workdir")
    if configs or not folders:
        return any(value.endswith(":smoke") for value in configs)
    try:
        folder = pathlib.Path(expanded(folders[-1]))
        return json.loads((folder / CONFIG).read_text())["scale"] == "smoke"
    except (OSError, ValueError, KeyError, TypeError):  # said later, in one line
        return False
