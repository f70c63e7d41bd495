"""Files of an earlier training are moved out of the way of a new one and never removed."""

import json
import os
import zlib
from collections.abc import Iterable

from etils import epath

from cspace_jax.config import fingerprint
from cspace_jax.errors import UserError
from cspace_jax.storage.files import quoted, write_atomic, writing
from cspace_jax.storage.workdir import Workdir


def set_aside(workdir: Workdir, label: str, files: Iterable[epath.Path]) -> list[epath.Path]:
    """Move files of a workdir to the same places in a folder of `aside/`.

    A checksum of their content names the folder. The list of files is written first, so that after a kill between two
    moves the next call goes on with them.

    Args:
      workdir: that holds the files.
      label: tells apart what several processes move at once, such as the name of a wave.
      files: to be moved, perhaps none.

    Returns:
      The folders that files were moved to, those of an interrupted call included; empty if nothing was moved.

    Raises:
      UserError: a file cannot be read or moved.
    """
    files = sorted(files)
    folders = [_move(workdir, listing) for listing in sorted(workdir.aside.glob(f"*/{_listing(label)}"))]
    with writing(workdir.aside):
        contents = {str(file.relative_to(workdir.root)): file.read_bytes() for file in files if file.exists()}
    if contents:
        checksum = fingerprint("\n".join(f"{name} {zlib.crc32(data)}" for name, data in contents.items()), 12)
        listing = workdir.aside / checksum / _listing(label)
        write_atomic(listing, json.dumps(list(contents)))
        folders.append(_move(workdir, listing))
    return folders


def _listing(label: str) -> str:
    """Return the name of the file that lists what is being moved."""
    return f"moving_{label}.json"


def _move(workdir: Workdir, listing: epath.Path) -> epath.Path:
    """Move the files of a listing, remove the listing and return its folder."""
    folder = listing.parent
    with writing(folder):
        try:
            names = list(map(str, json.loads(listing.read_text())))
        except (ValueError, TypeError) as error:
            raise UserError(f"{quoted(listing)} is damaged: move what is in {folder} back, and remove it") from error
        root = os.path.realpath(workdir.root)
        if out := [name for name in names if not os.path.realpath(os.path.join(root, name)).startswith(f"{root}/")]:
            raise UserError(f"{quoted(listing)} names {out[0]!r}, which leads out of the workdir; remove it")
        for name in names:
            if (workdir.root / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (workdir.root / name).replace(folder / name)
        listing.unlink()
    return folder
