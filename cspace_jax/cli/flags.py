"""The flags of the command line, and how they are read: a mistake is one UserError instead of a traceback."""

import json
import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from cspace_jax import processes
from cspace_jax.config import reference
from cspace_jax.errors import UserError
from cspace_jax.studies import loading

FLAGS = flags.FLAGS
MODES = ("plan", "train", "eval", "elicit", "replay", "figures", "report", "all")
OF_A_WORKDIR = ("eval", "elicit", "replay", "figures", "report")  # modes that need no --config

flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and figures; an existing one is resumed.")
flags.DEFINE_string(
    "mode",
    "all",
    "plan: only say what computation, time, disk and memory the study takes. "
    "train: only train. eval: read concept space at the checkpoints. elicit: ask the checkpoints with the protocols of "
    "elicit.protocols. replay: train steps between the saves again, bit for bit, and evaluate them (--steps or "
    "--around). figures: draw again from stored results. report: write the page WORKDIR/report.html from them. all: "
    "everything that is not done yet.",
)
flags.DEFINE_string("steps", None, 'With --mode=replay: the steps, such as "(1200, 1210)".')
flags.DEFINE_string("around", None, "With --mode=replay: turn, for --count steps around each run's own turning step.")
flags.DEFINE_integer("width", 200, "With --around: steps from the first to the last.")
flags.DEFINE_integer("count", 20, "With --around: number of steps.")
config_flags.DEFINE_config_file(
    "config",
    None,
    "Study and scale, such as configs/signal.py:quick (scales: smoke, quick, paper; none: quick on a CPU, paper on an "
    "accelerator). Any field can be overridden: --config.optim.steps=4000. Not needed for an existing workdir with "
    "--mode=eval, elicit, replay, figures or report. Its fields, with their defaults at paper scale:\n"
    + reference.help_text(72),
)
flags.DEFINE_bool(
    "compile",
    False,
    "With --mode=plan: ask the compiler how much memory training needs, instead of predicting it from shapes; minutes "
    "at paper scale on a CPU.",
)
flags.DEFINE_bool(
    "distributed",
    False,
    "Divide the study among many processes, all started with the same command line. SLURM, Open MPI, Kubernetes and "
    "Cloud TPU are detected; anything else needs --coordinator, --num_processes and --process_id.",
)
flags.DEFINE_string("coordinator", None, "With --distributed: HOST:PORT that process 0 listens on.")
flags.DEFINE_integer("num_processes", None, "With --distributed: number of processes.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "With --distributed: number of this process, from 0.", lower_bound=0)

_BY_HAND = ("coordinator", "num_processes", "process_id")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse the command line; every mistake is one UserError instead of a traceback."""
    _join_processes(argv)
    argv = _with_study_file(_with_stored_config(argv))
    _check_config_arguments(argv)
    try:
        return FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"command line: {text}") from error


def step_list(text: str | None) -> tuple[int, ...]:
    """Return the steps of --steps, "(1200, 1210)" or "1200,1210".

    Raises:
      UserError: the text is no list of whole numbers.
    """
    parts = [part.strip() for part in (text or "").strip("()[] ").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f'steps = {text!r}: must be whole numbers, for example --steps="(1200, 1210)"')
    return tuple(map(int, parts))


def _with_stored_config(argv: Sequence[str]) -> list[str]:
    """Let overrides without a --config change the configuration that the workdir holds."""
    overridden = any(argument.startswith(("--config.", "-config.")) for argument in argv)
    modes, folders = (_values(argv, name) for name in ("mode", "workdir"))
    if not overridden or config_values(argv) or not folders or not set(modes) & set(OF_A_WORKDIR):
        return list(argv)
    stored = pathlib.Path(__file__).with_name("stored_config.py")
    return [argv[0], f"--config={stored}:{folders[-1]}", *argv[1:]]


def _with_study_file(argv: Sequence[str]) -> list[str]:
    """Replace the name of a study, --config=signal:quick, by the path of its file."""
    replaced = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        name, colon, scale = value.partition(":")
        if flag in ("--config", "-config") and name in loading.STUDIES:
            argument = f"{flag}={loading.file_of(name)}{colon}{scale}"
        replaced.append(argument)
    return replaced


def config_values(argv: Sequence[str]) -> list[str]:
    """Return the values given to --config on a command line."""
    return _values(argv, "config")


def is_smoke(argv: Sequence[str]) -> bool:
    """Return whether a command line names a study at smoke scale, or no study and a workdir that holds such a one."""
    configs, folders = config_values(argv), _values(argv, "workdir")
    if configs or not folders:
        return any(value.endswith(":smoke") for value in configs)
    try:
        return json.loads((pathlib.Path(folders[-1]).expanduser() / "config.json").read_text())["scale"] == "smoke"
    except (OSError, ValueError, KeyError, TypeError):  # said later, in one line
        return False


def _values(argv: Sequence[str], flag: str) -> list[str]:
    """Return the values given to a flag, "--flag=VALUE" or "--flag VALUE"."""
    values = []
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in (f"--{flag}", f"-{flag}") and (equals or following is not None):
            values.append(value if equals else str(following))
    return values


def _check_config_arguments(argv: Sequence[str]) -> None:
    # config_flags wraps what goes wrong inside a config file in a traceback, and names only the last part of an
    # unknown field; here both go wrong with their own message.
    for value in config_values(argv):
        source = loading.fields(value)
        for argument in argv:
            if argument.startswith(("--config.", "-config.")):
                loading.require_field(argument.partition("=")[0].partition(".")[2], source)


def _join_processes(argv: Sequence[str]) -> None:
    """Join the other processes if the command line says --distributed."""
    # Ahead of all other flags, because reading a config may already start the backend.
    early = flags.FlagValues()
    for name in ("distributed", *_BY_HAND):
        early[name] = flags.FLAGS[name]
    early.set_gnu_getopt(True)
    try:
        early(list(argv), known_only=True)
    except flags.Error as error:
        raise UserError(f"command line: {' '.join(str(error).split())}") from error
    given = {name: early[name].value for name in _BY_HAND if early[name].value is not None}
    if not early["distributed"].value:
        if given:
            raise UserError(f"{next(iter(given))} = {next(iter(given.values()))!r}: only goes with --distributed")
        return
    processes.join(**given)
