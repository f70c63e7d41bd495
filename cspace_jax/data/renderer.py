"""The data-generating process of the paper as a source of images."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import DataConfig
from cspace_jax.config.setting import Setting
from cspace_jax.data import concepts, datasets
from cspace_jax.data.classes import Classes
from cspace_jax.data.generated import Generated
from cspace_jax.data.source import Layout

_draw_row = jax.jit(datasets.draw_dataset, static_argnames=("active", "at_mean"))


@dataclasses.dataclass(frozen=True)
class Renderer(Generated):
    """Images of one object on a background, rendered from concept vectors (paper section 4 and appendix A.1).

    Attributes:
      data: configuration of the images.
    """

    data: DataConfig
    far_ends = True

    @property
    def classes(self) -> Classes:
        return concepts.classes(self.data.active, self.data.held_out)

    @property
    def layout(self) -> Layout:
        return concepts.LAYOUT

    @property
    def identity(self) -> dict[str, Any]:
        return {name: getattr(self.data, name) for name in ("active", "image_size", "blur")}

    def draw(self, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool) -> datasets.Dataset:
        return datasets.draw_dataset(self.data.active, concepts.ranges_of(setting), klass, key, at_mean=at_mean)

    def _draw_row(
        self, row: tuple[float, float, float, bool], klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool
    ) -> datasets.Dataset:
        return _draw_row(
            self.data.active, concepts.class_ranges(*row[:-1], narrow=row[-1]), klass, key, at_mean=at_mean
        )

    def images(
        self, pool: Any, items: datasets.Dataset, keys: Key[Array, "b"] | None = None
    ) -> Float[Array, "b h w 3"]:
        return datasets.images(self.data, items)

    def conditionings(self, items: datasets.Dataset) -> Float[Array, "b d"]:
        return datasets.conditionings(self.data, items)

    def means(self, setting: Setting) -> Float[Array, "k d"]:
        return concepts.mean_conditionings(self.data.active, concepts.ranges_of(setting))

    def _fresh(self, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        ranges, bits = concepts.ranges_of(setting), jax.numpy.asarray(self.classes.bits)[klass]
        cv = datasets.sample_concepts(self.data.active, ranges, bits, key, at_mean=False)
        return concepts.conditioning(self.data.active, cv)
