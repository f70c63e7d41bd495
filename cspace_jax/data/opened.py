"""The source of a configuration: the renderer, or a source that was opened before (`sources.open_source`).

A source other than the renderer reads files, which the pure core may not do. The front door opens it once, and all
that has the configuration finds it here.
"""

from cspace_jax.config import DataConfig
from cspace_jax.config.schema import DGP
from cspace_jax.data.renderer import Renderer
from cspace_jax.data.source import Source
from cspace_jax.errors import UserError

_opened: dict[DataConfig, Source] = {}


def source_of(data: DataConfig) -> Source:
    """Return the source of a configuration.

    Raises:
      UserError: it is neither the renderer nor opened yet.
    """
    if data.source == DGP:
        return Renderer(data)
    if data not in _opened:
        raise UserError(f"data.source = {data.source!r}: not opened yet; start with cspace_jax.run or open_study")
    return _opened[data]


def remember(source: Source) -> None:
    """Make an opened source that of its configuration; it replaces one that was opened before."""
    _opened[source.data] = source
