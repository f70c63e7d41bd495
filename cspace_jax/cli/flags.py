"""The flags of the command line and their parsing.

A mistake becomes one UserError instead of a traceback.
"""

import contextlib
import functools
import pathlib
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Sequence

from absl import flags
from ml_collections import config_flags

from cspace_jax import processes, startup
from cspace_jax.cli import arguments
from cspace_jax.config import Config, reading, reference, to_dict
from cspace_jax.errors import UserError
from cspace_jax.pipeline.modes import COUNT, MODES, SHOWS, WIDTH
from cspace_jax.studies import loading
from cspace_jax.text import one_line

FLAGS = flags.FLAGS


class _WholeNumber(flags.ArgumentParser):
    """This parser reads a whole number, also one that is written 1e3."""

    def parse(self, argument: str | int) -> int:
        """Return the number of an argument.

        Raises:
          ValueError: the argument is no whole number; the user sees one line.
        """
        try:
            return int(argument)
        except ValueError:
            return reading.whole_number(float(argument))

    def flag_type(self) -> str:
        """Return the name of the type in messages."""
        return "whole number"


config_flags.register_flag_parser_for_type(int, _WholeNumber())

flags.DEFINE_string("workdir", None, "Folder of checkpoints, results and figures; an existing one is resumed.")
flags.DEFINE_string("mode", "all", " ".join(f"{name}: {mode.does}." for name, mode in MODES.items()))
flags.DEFINE_string(
    "workdirs",
    None,
    "With --mode=compare: two workdirs, or one and published:signal or published:signal_grid, such as "
    "\"('runs/a', 'runs/b')\".",
)
flags.DEFINE_string("steps", None, 'With --mode=replay: the steps, such as "(1200, 1210)".')
flags.DEFINE_string("around", None, "With --mode=replay: turn, for --count steps around each run's own turning step.")
flags.DEFINE_integer("width", WIDTH, "With --around: steps from the first to the last.")
flags.DEFINE_integer("count", COUNT, "With --around: number of steps.")
flags.DEFINE_string(
    "outdir",
    None,
    f"With --mode={' or '.join(SHOWS)}: folder that is written to instead of the workdir, which may be read-only. With "
    "--mode=compare: for figures and comparison.json; none: comparison_A_B.",
)
flags.DEFINE_string(
    "to", None, "With --mode=export: the new folder of the dataset, or with --weights the .safetensors file."
)
flags.DEFINE_string(
    "weights",
    None,
    "With --mode=export: RUN or RUN:STEP, whose weights are written under the names of the reference implementation.",
)
flags.DEFINE_string(
    "log",
    None,
    "tensorboard or wandb (an extra of the package): also log losses while it trains, and concept space, learning "
    "times and samples of each save as soon as it is evaluated (while it trains with --config.save.keep=last), in "
    "WORKDIR/tensorboard or WORKDIR/wandb.",
)
flags.DEFINE_bool("verbose", False, "Name each figure that does not apply to the study, and say why.")
config_flags.DEFINE_config_file(
    "config",
    None,
    "Study and scale, such as configs/signal.py:quick (scales: smoke, quick, paper; none: quick on a CPU, paper on an "
    "accelerator). Any field can be overridden: --config.optim.steps=4000. Not needed for an existing workdir with "
    f"--mode={' or '.join(name for name, mode in MODES.items() if mode.of_a_workdir)}. Its fields, with their defaults "
    "at paper scale:\n" + reference.help_text(72),
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
NO_CONFIG = "config is not given: for example --config=signal; --help lists the studies"
NO_WORKDIR = "workdir is not given: must be the path of a folder, for example --workdir=runs/signal"


def parse_flags(argv: Sequence[str], say: Callable[[str], None] | None = None) -> list[str]:
    """Parse the command line, and return the program's name and the arguments that are no flags.

    Mistakes that can be told without the study (unknown flags, fields and modes) are told first. `say` is then given
    one line of what will be done, before anything is imported that takes long; with --distributed it is not called.

    Raises:
      UserError: the command line has a mistake, in one line instead of a traceback.
    """
    with _in_one_line():
        argv = arguments.config_first(expanded(argv))
        early = _flags_alone(argv)
    mode = str(early["mode"].value)
    reading.one_of("mode", mode, MODES)
    _check_fields(argv)
    if say is not None and not early["distributed"].value:
        say(_first_words(early))
    _join_processes(early, argv)
    argv = _with_study_file(_with_stored_config(argv, mode))
    _check_config_arguments(argv)
    with _in_one_line(), _as_arguments(argv):
        return FLAGS(argv)


def expanded(argv: Sequence[str]) -> list[str]:
    """Return a command line with the flags of each --flagfile in its place.

    Raises:
      absl.flags.Error: a file cannot be read, or --flagfile has no path.
      UnicodeDecodeError: a file is not text in UTF-8.
    """
    return FLAGS.read_flags_from_files(list(argv), force_gnu=False)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn an error of reading flags into a UserError of one line."""
    try:
        yield
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"command line: {one_line(error)}") from error


@contextlib.contextmanager
def _as_arguments(argv: list[str]) -> Iterator[None]:
    """Put the arguments into sys.argv while the body lasts.

    ml_collections looks there for the fields to be overridden.
    """
    before, sys.argv = sys.argv, argv
    try:
        yield
    finally:
        sys.argv = before


def _flags_alone(argv: Sequence[str]) -> flags.FlagValues:
    """Parse all flags but --config, which stays the text that was given."""
    early = flags.FlagValues()
    for name in FLAGS:
        if name not in ("config", FLAGS[name].short_name):
            early[name] = FLAGS[name]
    flags.DEFINE_string("config", None, "Only its text.", flag_values=early)
    early([argument for argument in argv if not arguments.is_override(argument)])
    return early


def _first_words(early: flags.FlagValues) -> str:
    """Return the first line of output: mode, study and workdir."""
    mode, study, folder = (early[name].value for name in ("mode", "config", "workdir"))
    parts = [f"mode {mode}", *([study] if study else []), *([f"workdir {folder}"] if folder else [])]
    return f"cspace_jax: {', '.join(parts)}; loading JAX"


def step_list(text: str | None) -> tuple[int, ...]:
    """Return the steps of --steps, which reads "(1200, 1210)" or "1200,1210". None gives ().

    Raises:
      UserError: the text is no list of whole numbers.
    """
    parts = [part.strip() for part in (text or "").strip("()[] ").split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f'steps = {text!r}: must be whole numbers, for example --steps="(1200, 1210)"')
    return tuple(map(int, parts))


def two_workdirs(text: str | None) -> tuple[str, str]:
    """Return the two paths of --workdirs, which reads "('runs/a', 'runs/b')" or "runs/a,runs/b".

    Raises:
      UserError: the text is not two paths.
    """
    parts = [part.strip().strip("'\"") for part in (text or "").strip().strip("()[]").split(",")]
    parts = [part for part in parts if part]
    if len(parts) != 2:
        raise UserError(f"workdirs = {text!r}: must be two paths, for example --workdirs=\"('runs/a', 'runs/b')\"")
    return parts[0], parts[1]


def _with_stored_config(argv: Sequence[str], mode: str) -> list[str]:
    """Let overrides without --config change the configuration that the workdir holds."""
    folders = arguments.values(argv, "workdir")
    if not arguments.overrides(argv) or arguments.values(argv, "config"):
        return list(argv)
    if mode == "compare":
        raise UserError(f"config.{arguments.overrides(argv)[0]}: --mode=compare knows no fields, only --workdirs")
    if not MODES[mode].of_a_workdir:
        raise UserError(NO_CONFIG)
    if not folders or not folders[-1]:
        raise UserError(NO_WORKDIR)
    name = "extended_config.py" if mode == "extend" else "stored_config.py"
    stored = pathlib.Path(__file__).with_name(name)
    folder = urllib.parse.quote(folders[-1], safe="/", errors="surrogateescape")  # a colon would end the file's name
    return [argv[0], f"--config={stored}:{folder}", *argv[1:]]


def _with_study_file(argv: Sequence[str]) -> list[str]:
    """Replace the name of a study, as in --config=signal:quick, by the path of its file."""
    replaced = []
    for argument in argv:
        flag, equals, value = argument.partition("=")
        name, colon, scale = value.partition(":")
        if flag in ("--config", "-config") and name in loading.STUDIES:
            argument = f"{flag}={loading.file_of(name)}{colon}{scale}"
        replaced.append(argument)
    return replaced


@functools.cache
def _known_fields() -> dict:
    """Return the fields of a configuration as nested dicts."""
    return to_dict(Config(study="", scale=""))


def _check_fields(argv: Sequence[str]) -> None:
    """Raise UserError for an overridden field that does not exist or is the scale.

    So does a --config with an empty scale, or with a colon in the path of its file.
    """
    configs = arguments.values(argv, "config")
    for value in configs:
        loading.split(value)
        if ".py" in value.partition(":")[2]:
            reading.fail(
                "config", value, "the path of a config file cannot hold a colon; start the command in its folder"
            )
    for path in arguments.overrides(argv):
        loading.require_field(path, _known_fields())
        if path == "scale":
            scale = (arguments.values(argv, "config.scale") or [""])[-1]
            loading.refuse_scale("config.scale", scale, configs[-1] if configs else "")


def _check_config_arguments(argv: Sequence[str]) -> None:
    """Raise UserError for a config file that cannot be used, or that lacks an overridden field."""
    # config_flags wraps what goes wrong inside a config file in a traceback, and names only the last part of an
    # unknown field; here both go wrong with their own message.
    for value in arguments.values(argv, "config"):
        source = loading.fields(value)
        for path in arguments.overrides(argv):
            loading.require_field(path, source)


def _join_processes(early: flags.FlagValues, argv: Sequence[str]) -> None:
    """Join the other processes if the command line says --distributed."""
    given = {name: early[name].value for name in _BY_HAND if early[name].value is not None}
    if not early["distributed"].value:
        if given:
            raise UserError(f"{next(iter(given))} = {next(iter(given.values()))!r}: only goes with --distributed")
        return
    startup.set_up_jax(arguments.is_smoke(argv))
    processes.join(**given)
