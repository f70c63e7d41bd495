"""Folders of pictures with labels, and what is said of bad ones."""

import pathlib

import pytest
from PIL import Image

from cspace_jax.errors import UserError


def fails(words: str, call, *args, field: str = "data.path") -> None:
    with pytest.raises(UserError) as caught:
        call(*args)
    message = str(caught.value)
    assert message.startswith(f"{field} = ") and "\n" not in message
    assert words in message, message


def pictures(root: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def labelled(root: pathlib.Path, text: str | bytes, *names: str) -> pathlib.Path:
    pictures(root, *(names or ("a.png", "b.png", "c.png")))
    (root / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return root
