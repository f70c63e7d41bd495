"""Small JSON files that results depend on carry a checksum.

So a flipped bit is not taken for another value.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from cspace_jax.storage.files import write_atomic

_CHECKSUM = "crc32"


def write(path: epath.Path, fields: Mapping[str, Any]) -> None:
    """Write fields as JSON with their checksum, atomically.

    Raises:
      UserError: the file cannot be written.
    """
    write_atomic(path, text_of(fields))


def text_of(fields: Mapping[str, Any]) -> str:
    """Return fields as JSON text that holds their checksum."""
    return json.dumps({**fields, _CHECKSUM: _crc32(fields)}, indent=2) + "\n"


def read(path: epath.Path) -> dict[str, Any]:
    """Return the fields of a file. Older versions wrote no checksum.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    return parse(path.read_text())


def parse(text: str | bytes) -> dict[str, Any]:
    """Return the fields of a text that `text_of` made. Older versions wrote no checksum.

    Raises:
      ValueError: it is damaged.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("it holds no fields")
    if (found := fields.pop(_CHECKSUM, None)) is not None and found != _crc32(fields):
        raise ValueError("its checksum differs")
    return fields


def _crc32(fields: Mapping[str, Any]) -> str:
    """Return the CRC-32 of fields in any order, 8 hex digits."""
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
