"""The source of a configuration: the renderer, or what was opened for just that configuration."""

import dataclasses

import pytest

from cspace_jax.config import DataConfig
from cspace_jax.data import opened
from cspace_jax.data.renderer import Renderer
from cspace_jax.errors import UserError


def test_drawn_images_need_no_opening():
    data = DataConfig(image_size=8)
    assert opened.source_of(data) == Renderer(data)


def test_another_source_is_found_once_it_is_opened_and_the_latest_one_counts(monkeypatch):
    monkeypatch.setattr(opened, "_opened", {})
    data = DataConfig(source="folder", path="here")
    with pytest.raises(UserError, match="^data.source = 'folder': not opened yet; start with cspace_jax.run"):
        opened.source_of(data)
    first, second = Renderer(data), Renderer(data)
    opened.remember(first)
    assert opened.source_of(dataclasses.replace(data)) is first
    opened.remember(second)
    assert opened.source_of(data) is second
    with pytest.raises(UserError, match="not opened yet"):
        opened.source_of(dataclasses.replace(data, path="elsewhere"))
