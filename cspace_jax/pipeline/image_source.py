"""Opening and checking of the source of a study's images.

The source must be the same as when the workdir was made.
"""

import json
from typing import Any

import jax

from cspace_jax import processes
from cspace_jax.config import Config, from_config_dict
from cspace_jax.config.checks import check_source
from cspace_jax.config.schema import DGP
from cspace_jax.data.source import Source
from cspace_jax.errors import UserError
from cspace_jax.sources import opening
from cspace_jax.storage.files import quoted, write_atomic
from cspace_jax.storage.workdir import Workdir
from cspace_jax.studies import base


def open_and_check(config: Config) -> Source:
    """Open the source of a study, check the study against it, and return it.

    Raises:
      UserError: the source cannot be used, or something of the study does not fit it.
    """
    return _checked(config, opening.open_source(config.data))


def open_for_plan(config: Config) -> Source:
    """Open the source of a study for a forecast, check the study against it, and return it.

    CelebA need not be there: its official numbers will do.

    Raises:
      UserError: as `open_and_check`.
    """
    return _checked(config, opening.foresee(config.data) or opening.open_source(config.data))


def _checked(config: Config, source: Source) -> Source:
    """Return a source after the study is checked against it."""
    if config.data.source == DGP:
        return source  # the configuration alone was enough to check it
    classes = source.classes
    trained = [classes.names[k] for k in classes.train_ids]
    opening.check_axes(source, config.grid)
    rows = jax.eval_shape(lambda: source.probe_items(config.probe, jax.random.key(0), held=False).klass)
    check_source(config, classes.active, trained, source.train_images, len(rows))
    return source


def refuse_ignored(config: Config) -> None:
    """Raise UserError for fields of a new study that its source would ignore."""
    opening.refuse_ignored(config.data, from_config_dict(base.get_config(config.study, config.scale)).data)


def require_same(workdir: Workdir, source: Source) -> None:
    """Raise UserError if a workdir was made with other pictures, other labels or another generator.

    A workdir of an older version does not tell the pixels: its pictures are the same where names and sizes are.
    """
    kept = _kept(workdir)
    if kept and opening.PIXELS not in kept:
        source = opening.without_digest(source)
    found = _plain(processes.first_then_others(lambda: opening.describe(source))) if kept else {}
    differing = [name for name in found if name in kept and kept[name] != found[name]]
    if differing:
        what = f"{differing[0]} was {kept[differing[0]]}, is {found[differing[0]]}"
        raise UserError(
            f"workdir = {quoted(workdir.root)}: its images have changed since it was made ({what}); restore them or "
            f"use another workdir; where only the decoder of pictures is another, remove {workdir.source}"
        )


def keep(workdir: Workdir, source: Source) -> None:
    """Write the description of a source into the workdir, unless it is there or empty.

    Raises:
      UserError: the file cannot be written.
    """
    if not workdir.source.exists() and (described := opening.describe(source)):
        write_atomic(workdir.source, json.dumps(described, indent=2) + "\n")


def reopen(workdir: Workdir, config: Config, needs_images: bool) -> None:
    """Open the source of an existing workdir.

    Where no image is needed, the description that the workdir kept is enough.

    Raises:
      UserError: images are needed and cannot be opened, or have changed.
    """
    if not needs_images and opening.reopen_closed(config.data, _kept(workdir)):
        return
    require_same(workdir, open_and_check(config))


def _kept(workdir: Workdir) -> dict[str, Any]:
    """Return the description of the source that a workdir keeps, {} if there is none.

    Raises:
      UserError: it is damaged.
    """
    try:
        return dict(json.loads(workdir.source.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{quoted(workdir.source)} is damaged ({error}): remove it to use the images as they are"
        ) from error


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return a value as JSON would give it back."""
    return json.loads(json.dumps(value))
