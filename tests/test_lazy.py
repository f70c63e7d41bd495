"""Every module of a namespace is its attribute, and is loaded when it is first used."""

import importlib
import pathlib

import pytest

import cspace_jax as cs


@pytest.mark.parametrize("name", ["analysis", "data", "evaluation", "model", "plots", "training"])
def test_a_namespace_has_all_its_modules(name):
    package = getattr(cs, name)
    files = {file.stem for file in pathlib.Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert files <= set(dir(package))
    for file in files:
        assert getattr(package, file) is importlib.import_module(f"cspace_jax.{name}.{file}")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_the_prompt_of_data_is_its_function():
    assert "prompt" in dir(cs.data) and cs.data.prompt.__module__ == "cspace_jax.data.prompting"
