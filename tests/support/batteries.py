"""A small study whose battery of protocols is written out, and queries by protocol."""

import jax
import numpy as np
import tiny

from cspace_jax.config.schema import DataConfig, ElicitConfig
from cspace_jax.data.concepts import class_ranges, mean_conditionings
from cspace_jax.data.renderer import Renderer
from cspace_jax.evaluation import protocols

ACTIVE = ("color", "size")


KEY = jax.random.key(5)


CONFIG = tiny.study(
    network={"channels": (4,), "dropout": 0.0},
    diffusion={"schedule": "fixed_linear", "p_uncond": 0.1},
    elicit={"samples": 2},
)


SETTING = jax.tree.map(lambda leaf: leaf[0], tiny.settings(CONFIG))


def with_protocols(*names, **values):
    return ElicitConfig(protocols=names, **values)


def rows_of(config, name, active=ACTIVE):
    """The queries of one protocol on the last held-out class, leaves [q, ...]."""
    queries = protocols.queries(config, Renderer(DataConfig(active=tuple(active))), SETTING, KEY)
    rows = np.array([i for i, (one, _) in enumerate(protocols.layout(config)) if one == name])
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows, -1], queries)


def means(active=ACTIVE):
    return np.asarray(mean_conditionings(active, class_ranges(SETTING.sep_col, SETTING.sep_size, SETTING.sep_bg)))
