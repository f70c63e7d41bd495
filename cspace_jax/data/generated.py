"""Sources that draw their images: everything that follows from one function, `draw`."""

import abc
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import ProbeConfig
from cspace_jax.config.concepts import SEPARATIONS
from cspace_jax.config.setting import Setting
from cspace_jax.data import signal
from cspace_jax.data.source import Source, repeat


class Generated(Source):
    """A source whose images are drawn anew for every run."""

    @abc.abstractmethod
    def draw(self, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool) -> Any:
        """Draw one image for every entry of `klass`, as `Items` in the same order.

        `at_mean` places them at the exact class means, otherwise in the training ranges. Images drawn from the same key
        differ between classes in the class alone.
        """

    @property
    def pool_images(self) -> int:
        """The number of images of the training and the validation set, of this source's own training classes."""
        return len(self.classes.train_ids) * self.data.images_per_class

    @property
    def train_images(self) -> int:
        return math.floor(self.data.train_ratio * self.pool_images)

    @property
    def validation_images(self) -> int:
        return self.pool_images - self.train_images

    @property
    def test_images(self) -> int:
        return len(self.classes.held_out_ids) * self.data.test_images_per_class

    def split(self, setting: Setting, key: Key[Array, ""]) -> tuple[Any, Any]:
        """Draw the images of the training classes and split them at random into (training set, validation set).

        `key` is the run's "data" stream. Sizes are static: floor(train_ratio * n) and the rest of the n = training
        classes x images_per_class images. The set is fixed: the same concepts and noise each time an image comes round.
        """
        pool_key, split_key = jax.random.split(jax.random.fold_in(key, 0))
        klass = repeat(self.classes.train_ids, self.data.images_per_class)
        pool = self.draw(setting, klass, pool_key, at_mean=False)
        order = jax.random.permutation(split_key, self.pool_images)
        return pool.take(order[: self.train_images]), pool.take(order[self.train_images :])

    def training(self, setting: Setting, key: Key[Array, ""]) -> Any:
        return self.split(setting, key)[0]

    def validation(self, setting: Setting, key: Key[Array, ""]) -> Any:
        return self.split(setting, key)[1]

    def test(self, setting: Setting, key: Key[Array, ""]) -> Any:
        """Draw the images of the held-out classes, at their exact class means."""
        klass = repeat(self.classes.held_out_ids, self.data.test_images_per_class)
        return self.draw(setting, klass, jax.random.fold_in(key, 2), at_mean=True)

    def prompts(self, setting: Setting, per_class: int, key: Key[Array, ""]) -> Float[Array, "k per_class d"]:
        """Training classes are fresh draws from their ranges, held-out classes repeat their exact class means.

        Source: reference implementation. The draws are split apart from the training and test sets.
        """
        klass = repeat(range(self.classes.num), per_class)
        drawn = self._fresh(setting, klass, jax.random.fold_in(key, 1)).reshape(self.classes.num, per_class, -1)
        return jnp.where(self.classes.trained[:, None, None], drawn, self.means(setting)[:, None])

    def _fresh(self, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""]) -> Float[Array, "n d"]:
        return self.conditionings(self.draw(setting, klass, key, at_mean=False))

    def signals(self, setting: Setting, key: Key[Array, ""]) -> dict[str, Float[Array, "concept"]]:
        return {"means": signal.pixel_signal(self, setting, key), "ranges": signal.range_signal(self, setting, key)}

    def examples(self, setting: Setting, per_class: int, key: Key[Array, ""], *, at_mean: bool = True) -> Any:
        return self.draw(setting, repeat(range(self.classes.num), per_class), key, at_mean=at_mean)

    def probe_items(self, probe: ProbeConfig, key: Key[Array, ""], *, held: bool) -> Any:
        """Draw images of every class for every row of the probe's data; those held lie at the class means."""
        klass = repeat(range(self.classes.num), probe.test_images_per_class if held else probe.images_per_class)
        parts = []
        for i, row in enumerate(probe.data):
            # One small program for all rows: with the rows together in one, XLA compiles for minutes on a CPU.
            parts.append(self._draw_row(row, klass, jax.random.fold_in(key, i), at_mean=held))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def _draw_row(
        self, row: tuple[float, float, float, bool], klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool
    ) -> Any:
        swept = {name: jnp.float32(value) for name, value in zip(SEPARATIONS, row[:-1], strict=True)}
        return _draw(self, Setting(**swept), klass, key, at_mean=at_mean)


def _plain_draw(
    source: Generated, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool
) -> Any:
    return source.draw(setting, klass, key, at_mean=at_mean)


_draw = jax.jit(_plain_draw, static_argnames=("source", "at_mean"))
