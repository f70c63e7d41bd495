"""Configurations at their defaults with some fields changed, checked or not."""

import pathlib

import ml_collections

from cspace_jax.config import Config, config_files, from_config_dict, to_dict

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "base")


def study(name: str):
    """The config file of a study, as a module."""
    return config_files.load(ROOT / "configs" / f"{name}.py")


def make(overrides: dict | None = None) -> ml_collections.ConfigDict:
    """Return a full ConfigDict at the defaults with dotted overrides, types unchecked as in a user's config file."""
    tree = to_dict(Config(study="signal", scale="paper"))
    for name, value in (overrides or {}).items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node[group]
        node[leaf] = value
    return ml_collections.ConfigDict(tree)


def changed(**overrides: object) -> Config:
    """Return the checked configuration; `optim__steps=3` stands for optim.steps."""
    return from_config_dict(make({name.replace("__", "."): value for name, value in overrides.items()}))
