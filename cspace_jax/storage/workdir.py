"""The workdir of a study: its paths, its creation or refusal, and the small files beside the results."""

import contextlib
import dataclasses
import functools
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from cspace_jax import processes, startup
from cspace_jax.config import Config, differing_fields, fingerprint, from_config_dict, to_dict
from cspace_jax.errors import UserError
from cspace_jax.storage import file_names, lock
from cspace_jax.storage.environment import environment, require_same
from cspace_jax.storage.file_names import KEPT_STATES, PARAMS, PARTS_OF_LOG, STATE
from cspace_jax.storage.files import PathLike, is_rest, located, quoted, write_atomic, writing

CONFIG_DIGEST = "config_digest"  # in env.json: of config.json as it was written
LOG_EVERY = "log_every"  # in env.json: steps between lines of the log
MAX_EARLIER = 20  # invocations kept in env.json
DESCRIPTION = "battery.json"  # in the folder of a battery: what it asked
# In the folder of a wave's checkpoints.
UNSAVED = "no_state_yet"  # there from the first save to the first state
MICROBATCH, PLAN = "microbatch.json", "plan.json"  # that memory, and measurement (engine.plan=auto), decided


@dataclasses.dataclass(frozen=True)
class Workdir:
    """Name the files of one study. Naming creates nothing."""

    root: epath.Path

    @property
    def config(self) -> epath.Path:
        """Return the file of the resolved configuration, JSON."""
        return self.root / file_names.CONFIG

    @property
    def env(self) -> epath.Path:
        """Return the file of versions, devices, commit and command line, JSON."""
        return self.root / "env.json"

    @property
    def source(self) -> epath.Path:
        """Return the file that describes a source, such as pictures, where the configuration does not, JSON."""
        return self.root / "source.json"

    @property
    def examples(self) -> epath.Path:
        """Return the file of some pictures of each class, .npz."""
        return self.root / "examples.npz"

    @property
    def metrics(self) -> epath.Path:
        """Return the training log, one JSON line per run and logging step."""
        return self.root / file_names.METRICS

    @property
    def own_metrics(self) -> epath.Path:
        """Return the training log that this process may write. Each of many processes has a part of its own."""
        if jax.process_count() == 1:
            return self.metrics
        return self.root / PARTS_OF_LOG.replace("*", f"{jax.process_index():03d}")

    @property
    def waves(self) -> epath.Path:
        """Return the rows of the grid in each wave, JSON. It exists only where the configuration does not say them."""
        return self.root / "waves.json"

    @property
    def checkpoints(self) -> epath.Path:
        """Return the folder of checkpoints, stacked over runs."""
        return self.root / file_names.CHECKPOINTS

    @property
    def probe(self) -> epath.Path:
        """Return the folder of the trained probe."""
        return self.root / file_names.PROBE

    @property
    def eval(self) -> epath.Path:
        """Return the folder of raw evaluations, one file a checkpoint."""
        return self.root / file_names.EVAL

    @property
    def elicit(self) -> epath.Path:
        """Return the folder of batteries of protocols, each in a folder of its own."""
        return self.root / file_names.ELICIT

    @property
    def replay(self) -> epath.Path:
        """Return the folder of steps that were trained again, each run in a folder of its own."""
        return self.root / file_names.REPLAY

    @property
    def aside(self) -> epath.Path:
        """Return the folder of what superseded trainings had measured, each in a folder of its own."""
        return self.root / "aside"

    @property
    def added_dataset(self) -> epath.Path:
        """Return the labelled dataset of added steps, netCDF."""
        return self.root / file_names.ADDED_DATASET

    @property
    def added_table(self) -> epath.Path:
        """Return the tidy table of added steps, CSV."""
        return self.root / file_names.ADDED_TABLE

    @property
    def times(self) -> epath.Path:
        """Return the file of the wall time spent in each stage, JSON."""
        return self.root / "times.json"

    @property
    def dataset(self) -> epath.Path:
        """Return the labelled dataset, netCDF."""
        return self.root / file_names.DATASET

    @property
    def table(self) -> epath.Path:
        """Return the tidy table of the dataset, CSV."""
        return self.root / file_names.TABLE

    @property
    def summary(self) -> epath.Path:
        """Return the file of learning times, final accuracies, turning points and wall times, JSON."""
        return self.root / file_names.SUMMARY

    @property
    def report(self) -> epath.Path:
        """Return the page that shows the study, HTML."""
        return self.root / file_names.REPORT

    @property
    def extensions(self) -> epath.Path:
        """Return the file of the extensions (`storage.extensions`): grids of further runs, and more steps, JSON."""
        return self.root / file_names.EXTENSIONS

    def extension(self, number: int) -> "Workdir":
        """Return the folder of the runs of one added grid, laid out as a workdir without a configuration."""
        return Workdir(self.root / file_names.ADDED_RUNS / f"{number:03d}")

    @property
    def figures(self) -> epath.Path:
        """Return the folder of figures and sample images."""
        return self.root / file_names.FIGURES

    @property
    def tensorboard(self) -> epath.Path:
        """Return the folder that `--log=tensorboard` writes."""
        return self.root / "tensorboard"

    @property
    def wandb(self) -> epath.Path:
        """Return the folder that `--log=wandb` writes."""
        return self.root / "wandb"

    def replay_of(self, run: int) -> epath.Path:
        """Return the folder of the added steps of a run."""
        return self.replay / f"run_{run:05d}"

    def probe_levels(self, digits: str) -> epath.Path:
        """Return the file of the probe's accuracy at the study's levels, JSON. `digits` identify both."""
        return self.probe / f"levels_{digits}.json"

    def batteries(self) -> list[epath.Path]:
        """Return the folders of all batteries that say what they asked."""
        return sorted(file.parent for file in self.elicit.glob(f"*/{DESCRIPTION}"))


def wave_name(index: int) -> str:
    """Return the name of a wave's folders, below checkpoints/, eval/ and those of batteries."""
    return f"wave_{index:03d}"


def step_file(folder: epath.Path, step: int) -> epath.Path:
    """Return the file of a step's measurements, .npz, in the folder of a wave or of a run's added steps."""
    return folder / f"step_{step:08d}.npz"


def step_files(folder: epath.Path) -> dict[int, epath.Path]:
    """Return the existing files of `step_file` in a folder, step -> file."""
    return {int(path.stem.split("_")[1]): path for path in folder.glob("step_*.npz")}


def added(folder: PathLike) -> str:
    """Return "extensions/NNN/" for the folder of an added grid, and "" for any other.

    A user's own folder may have such a name: the study that the grid was added to must be around it.
    """
    place = epath.Path(folder)
    study = Workdir(place.parent.parent)
    is_named_so = place.parent.name == "extensions" and re.fullmatch(r"\d{3}", place.name)
    return f"extensions/{place.name}/" if is_named_so and (study.config.exists() or study.extensions.exists()) else ""


def place_of(path: PathLike, below: re.Pattern[str]) -> str:
    """Return the place of a file in its workdir, such as eval/wave_000/step_00000500.npz. Elsewhere it is "".

    `below` finds it, from the slash before it, in its group 1. That of added runs begins with `extensions/NNN/`.
    """
    text = os.fspath(path)
    if "://" not in text:
        text = os.path.abspath(text)
    found = below.search(text)
    return added(text[: found.start()]) + found[1] if found else ""


def find(path: PathLike, config: Config) -> Workdir:
    """Return the workdir of a configuration. It need not exist yet, and nothing is written.

    Raises:
      UserError: as `prepare`, but for what only writing tells.
    """
    workdir = Workdir(_root(path))
    _refuse_foreign(workdir, config)
    return workdir


def prepare(path: PathLike, config: Config, command_line: str | Sequence[str] = "") -> Workdir:
    """Create a configuration's workdir, or enter it again, and write config.json and env.json.

    Fields that never change a stored result (see `differing_fields`) may differ when it is entered again.

    Raises:
      UserError: the path cannot be written or is no folder, the disk is full, the folder holds other files or a damaged
        config.json, or it belongs to another configuration (the differing fields are named).
    """
    workdir = find(path, config)
    with writing(workdir.root):
        workdir.root.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
        lock.acquire(workdir.root)
        _remove_rests(workdir)
        _refuse_foreign(workdir, config)  # another command may have made it meanwhile
        written = _json(to_dict(config))
        write_atomic(workdir.config, written)
        kept = {CONFIG_DIGEST: fingerprint(written, 16), LOG_EVERY: config.optim.log_every}
        env = {**environment(command_line), **kept}
        write_atomic(workdir.env, _json(_with_earlier(workdir.env, env)))
    return workdir


def hold(workdir: Workdir) -> None:
    """Hold an existing workdir for this command. Of many processes the first does so for all (`lock.acquire`).

    Raises:
      UserError: another command works in it.
    """
    if processes.is_first():
        lock.acquire(workdir.root)
        _remove_rests(workdir)


def _remove_rests(workdir: Workdir) -> None:
    """Remove the unfinished files of commands that were killed while they wrote.

    Only who holds a workdir does so, of many processes the first while the others wait for it to prepare the workdir.
    Checkpoints are Orbax's business, and figures may be drawn by another command meanwhile.
    """
    if not lock.holds(workdir.root):
        return
    ours = {one.name for one in (workdir.checkpoints, workdir.probe, workdir.eval, workdir.elicit, workdir.replay)}
    ours |= {workdir.aside.name, workdir.extension(0).root.parent.name}
    others = tuple(f".{name}." for name in (workdir.report.name, lock.NAME))  # another command may be writing it
    for folder, folders, files in os.walk(workdir.root):
        at_top = folder == os.fspath(workdir.root)
        folders[:] = [n for n in folders if (n in ours if at_top else n not in (PARAMS, STATE, KEPT_STATES))]
        for name in files:
            if is_rest(name) and not name.startswith(others):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))


def require_same_numerics(workdir: Workdir) -> None:
    """Raise UserError if a workdir's last command ran under settings of JAX that give other numbers."""
    require_same(stored_json(workdir.env), startup.numerics(), workdir.root)


def is_workdir(path: PathLike) -> bool:
    """Return whether a path is a folder with a configuration."""
    return not (isinstance(path, str) and not path.strip()) and Workdir(_root(path)).config.exists()


def load(path: PathLike) -> tuple[Workdir, Config]:
    """Return an existing workdir and its configuration. A line says if the last command wrote another one.

    Raises:
      UserError: there is no such folder, or its config.json is missing, damaged or not valid.
    """
    workdir = Workdir(_root(path))
    if not workdir.root.exists():
        raise UserError(f"workdir = {quoted(workdir.root)}: no such folder")
    if not workdir.root.is_dir():
        raise UserError(f"workdir = {quoted(workdir.root)}: is a file, must be a folder")
    if not workdir.config.exists():
        raise UserError(f"workdir = {quoted(workdir.root)}: has no config.json, so it is not a workdir of cspace_jax")
    text = _config_text(workdir)
    config = _read_config(workdir, text)
    if stored_json(workdir.env).get(CONFIG_DIGEST, now := fingerprint(text, 16)) != now:
        _tell_changed(workdir.config, now)
    return workdir, config


@functools.cache
def _tell_changed(config: epath.Path, _: str) -> None:
    """Say that a configuration was changed, once for each change."""
    if processes.is_first():
        why = "changed by hand, damaged, or that command was ended as it began"
        print(f"{config} is not what the last command wrote: {why}", flush=True)


def _root(path: PathLike) -> epath.Path:
    if not isinstance(path, str | os.PathLike) or not os.fspath(path).strip():
        raise UserError(f"workdir = {path!r}: must be the path of a folder")
    return located(path, "workdir")


def _refuse_foreign(workdir: Workdir, config: Config) -> None:
    """Raise UserError unless the workdir is new, empty, or of an equivalent configuration."""
    with writing(workdir.root):
        if not workdir.root.exists():
            return
        if not workdir.root.is_dir():
            raise UserError(f"workdir = {quoted(workdir.root)}: is a file, must be a folder")
        if not workdir.config.exists():
            _refuse_other_files(workdir)
            return
    differing = differing_fields(_read_config(workdir, _config_text(workdir)), config)
    if differing:
        names = ", ".join(differing)
        more = all(name.startswith("grid.") or name == "optim.steps" for name in differing)
        hint = "; --mode=extend adds runs and steps to it" if more else ""
        raise UserError(f"workdir = {quoted(workdir.root)}: belongs to another config, differing in {names}{hint}")


def _refuse_other_files(workdir: Workdir) -> None:
    """Raise UserError if a folder without a configuration holds something under a name that a workdir uses."""
    parts = [name for name, one in vars(Workdir).items() if isinstance(one, property) and name != "own_metrics"]
    used = {getattr(workdir, name).name for name in parts} | {workdir.extension(0).root.parent.name}
    found = sorted(
        p.name for p in workdir.root.iterdir() if p.name in used or lock.is_foreign(p) or p.match(PARTS_OF_LOG)
    )
    if found:
        raise UserError(
            f"workdir = {quoted(workdir.root)}: holds {found[0]!r} and no config.json, so it is not a workdir of "
            "cspace_jax, and that file would be overwritten"
        )


def _config_text(workdir: Workdir) -> str:
    try:
        return workdir.config.read_text()
    except UnicodeDecodeError as error:
        raise _damaged_config(workdir, error) from error
    except OSError as error:
        raise UserError(f"cannot read {quoted(workdir.config)}: {error.strerror or error}") from error


def _damaged_config(workdir: Workdir, error: Exception) -> UserError:
    return UserError(f"{quoted(workdir.config)} is damaged ({error}): restore it or use another workdir")


def _read_config(workdir: Workdir, text: str) -> Config:
    try:
        return from_config_dict(json.loads(text))
    except UserError as error:
        raise UserError(f"{quoted(workdir.config)} does not fit this version of cspace_jax: {error}") from error
    except ValueError as error:  # not JSON
        raise _damaged_config(workdir, error) from error


def _with_earlier(path: epath.Path, env: dict[str, Any]) -> dict[str, Any]:
    """Return `env` with those recorded at `path` as "earlier": the first and the latest, at most `MAX_EARLIER`."""
    last = stored_json(path)
    before = last.pop("earlier", [])
    earlier = [*before, last] if last and isinstance(before, list) else []
    return {**env, "earlier": [*earlier[:1], *earlier[1:][1 - MAX_EARLIER :]]}  # the first is that of the training


def stored_json(path: epath.Path) -> dict[str, Any]:
    """Return the content of a workdir's small JSON file. A missing or damaged file gives {}."""
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
