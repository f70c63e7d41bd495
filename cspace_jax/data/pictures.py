"""Pictures that a researcher brings, as a source of images.

All pictures lie in one pool of uint8 that every run of a grid shares; a run owns the rows of the pictures it sees.
With `data.tint` the brightness of a picture mixes a background and a colour, so that the concept "color" of the paper,
with its graded signal, stands on real shapes.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import DataConfig, ProbeConfig
from cspace_jax.config.concepts import NEUTRAL_BG, TABLE
from cspace_jax.config.setting import Setting
from cspace_jax.data import augmentation
from cspace_jax.data.classes import Classes, Words
from cspace_jax.data.concepts import Ranges, class_ranges, ranges_of
from cspace_jax.data.source import Items, Layout, Source, repeat

TINT = "color"  # the concept that tinting adds
_CHUNK = 4096  # pictures whose brightness is averaged at once


@struct.dataclass(kw_only=True)
class PictureItems(Items):
    """Hold pictures as rows of the pool; with a tint also their colours, RGB in [0, 1]."""

    index: Int[Array, "n"]
    color: Float[Array, "n 3"] | None = None
    background: Float[Array, "n 3"] | None = None


@dataclasses.dataclass(frozen=True)
class Pictures(Source):
    """Labelled pictures; the pool's rows hold the training part, then the part never trained on, each by class.

    Attributes:
      data: configuration of the images.
      concepts: of the labels.
      words: of each of them, for bit 0 and bit 1.
      counts: pictures of the training part, by class of the labels.
      held: pictures that are never trained on, by class of the labels.
      fingerprint: of the pictures' names and sizes, and of the labels.
      pixels: the digest of the decoded pictures, 16 hex digits; None = it is computed when it is asked for, "" = it is
        not known and counts nowhere (workdirs of older versions).
      load: returns the pool: "pictures", uint8 [n, h, w, 3] in any order, axis h is x and w is upwards, and "rows",
        int32 [n], the picture of every row; called once, when it is needed.
    """

    data: DataConfig
    concepts: tuple[str, ...]
    words: tuple[Words, ...]
    counts: tuple[int, ...]
    held: tuple[int, ...]
    fingerprint: str = ""
    pixels: str | None = None
    real = True
    load: Callable[[], dict[str, np.ndarray]] = dataclasses.field(compare=False, repr=False, kw_only=True)

    @property
    def classes(self) -> Classes:
        return self._classes

    @functools.cached_property
    def _classes(self) -> Classes:
        tint = ((TINT,), (TABLE[TINT].words,)) if self.data.tint else ((), ())
        return Classes(self.concepts + tint[0], self.words + tint[1], self.data.held_out)

    @property
    def layout(self) -> Layout:
        """Return a pair of entries for every concept of the labels, and three for the colour."""
        return Layout.of(dict.fromkeys(self.concepts, 2) | ({TINT: 3} if self.data.tint else {}))

    @property
    def pool(self) -> dict[str, np.ndarray]:
        return self._pool

    @functools.cached_property
    def _pool(self) -> dict[str, np.ndarray]:
        return self.load()

    @property
    def digest(self) -> str:
        """Return `pixels`, computed from the pool where they are None."""
        return self._digest if self.pixels is None else self.pixels

    @functools.cached_property
    def _digest(self) -> str:
        pictures, found = self.pool["pictures"], hashlib.sha256()
        for start in range(0, len(pictures), _CHUNK):
            found.update(np.ascontiguousarray(pictures[start : start + _CHUNK]).data)
        return found.hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that decides what the probe sees, for JSON; decodes the pictures where `pixels` are None."""
        return {**super().identity, **({"pixels": self.digest} if self.digest else {})}

    @property
    def pool_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        size = self.data.image_size
        n = sum(self.counts) + sum(self.held)
        pictures = jax.ShapeDtypeStruct((n, size, size, 3), jnp.uint8)
        return {"pictures": pictures, "rows": jax.ShapeDtypeStruct((n,), jnp.int32)}

    def _rows(self, klass: int, *, held: bool) -> range:
        """Return the rows of the pool that hold a class."""
        label = klass >> 1 if self.data.tint else klass  # the colour is the last bit
        counts, start = (self.held, sum(self.counts)) if held else (self.counts, 0)
        start += sum(counts[:label])
        return range(start, start + counts[label])

    def _seen(self, klass: int) -> int:
        """Return how many pictures of a class a run is trained on."""
        available = len(self._rows(klass, held=False))
        return min(self.data.images_per_class or available, available)

    @property
    def train_images(self) -> int:
        return sum(map(self._seen, self.classes.train_ids))

    @property
    def validation_images(self) -> int:
        return sum(len(self._rows(klass, held=True)) for klass in self.classes.train_ids)

    @property
    def test_images(self) -> int:
        return sum(map(self._tested, self.classes.held_out_ids))

    def _tested(self, klass: int) -> int:
        return min(len(self._rows(klass, held=True)), self.data.test_images_per_class)

    def training(self, setting: Setting, key: Key[Array, ""]) -> PictureItems:
        """Return `images_per_class` pictures of every training class, chosen by the seed; all of them if it is 0."""
        parts, klass = [], []
        for k in self.classes.train_ids:
            rows, count = self._rows(k, held=False), self._seen(k)
            order = jax.random.permutation(jax.random.fold_in(key, k), len(rows))
            parts.append(rows.start + order[:count])
            klass.append(repeat(k, count))
        return self._items(setting, parts, klass, jax.random.fold_in(key, 2**16), at_mean=False)

    def validation(self, setting: Setting, key: Key[Array, ""]) -> PictureItems:
        """Return all pictures of the training classes that no run is trained on, in an order of the seed."""
        rows = [self._rows(k, held=True) for k in self.classes.train_ids]
        klass = [repeat(k, len(one)) for k, one in zip(self.classes.train_ids, rows, strict=True)]
        items = self._items(setting, [jnp.arange(r.start, r.stop) for r in rows], klass, key, at_mean=False)
        return items.take(jax.random.permutation(jax.random.fold_in(key, 2**16 + 1), self.validation_images))

    def test(self, setting: Setting, key: Key[Array, ""]) -> PictureItems:
        counts = [(k, self._rows(k, held=True).start, self._tested(k)) for k in self.classes.held_out_ids]
        rows = [jnp.arange(start, start + count) for _, start, count in counts]
        return self._items(setting, rows, [repeat(k, count) for k, _, count in counts], key, at_mean=True)

    def _items(
        self, setting: Setting | Ranges, rows: list[Array], klass: list[Array], key: Key[Array, ""], *, at_mean: bool
    ) -> PictureItems:
        index, klasses = jnp.concatenate(rows).astype(jnp.int32), jnp.concatenate(klass)
        if not self.data.tint:
            return PictureItems(klass=klasses, index=index)
        ranges = setting if isinstance(setting, Ranges) else ranges_of(setting)
        color_key, background_key = jax.random.split(jax.random.fold_in(key, 2**16 + 2))
        color = self._colors(ranges, klasses, color_key, at_mean=at_mean)
        low, high = NEUTRAL_BG
        background = jax.random.uniform(background_key, color.shape, minval=low, maxval=high)
        return PictureItems(klass=klasses, index=index, color=color, background=background)

    def _colors(self, ranges: Ranges, klass: Array, key: Key[Array, ""], *, at_mean: bool) -> Float[Array, "n 3"]:
        mean = ranges.mean[TINT][klass & 1]
        if at_mean:
            return mean
        return mean + ranges.spread[TINT] * jax.random.uniform(key, mean.shape, minval=-1.0, maxval=1.0)

    def images(self, pool: Any, items: PictureItems, keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w 3"]:
        """Return pictures; where `keys` are given, augmented and then tinted."""
        pictures = pool["pictures"][pool["rows"][items.index]].astype(jnp.float32) / 255
        jitter, flip = self.data.jitter, self.data.flip
        if keys is not None and (flip or any(jitter)):
            pictures = jax.vmap(lambda image, key: augmentation.augment(image, key, jitter, flip))(pictures, keys)
        if items.color is None or items.background is None:
            return pictures
        back, front = (one[:, None, None, :] for one in (items.background, items.color))
        return back + augmentation.grey(pictures)[..., None] * (front - back)

    def conditionings(self, items: PictureItems) -> Float[Array, "b d"]:
        return self._vectors(items.klass, items.color)

    def _vectors(self, klass: Int[Array, "b"], color: Float[Array, "b 3"] | None) -> Float[Array, "b d"]:
        bits = jnp.asarray(self.classes.bits)[klass]
        pairs = [jax.nn.one_hot(bits[:, i], 2) for i in range(len(self.concepts))]
        return jnp.concatenate(pairs + ([] if color is None else [color]), axis=-1)

    def means(self, setting: Setting) -> Float[Array, "k d"]:
        klass = jnp.arange(self.classes.num)
        color = ranges_of(setting).mean[TINT][klass & 1] if self.data.tint else None
        return self._vectors(klass, color)

    def prompts(self, setting: Setting, per_class: int, key: Key[Array, ""]) -> Float[Array, "k per_class d"]:
        """Ask for every class by its exact entries; only a tint of training classes is drawn in its range."""
        klass = repeat(range(self.classes.num), per_class)
        exact = self.means(setting)[klass]
        if self.data.tint:
            drawn = self._colors(ranges_of(setting), klass, jax.random.fold_in(key, 2**16 + 3), at_mean=False)
            trained = jnp.asarray(self.classes.trained)[klass]
            exact = jnp.where(trained[:, None], self._vectors(klass, drawn), exact)
        return exact.reshape(self.classes.num, per_class, -1)

    def signals(self, setting: Setting, key: Key[Array, ""]) -> dict[str, Float[Array, "concept"]]:
        """Return the signal of a tint in closed form, [concept]; NaN for concepts of labels, of which no pairs exist.

        Two pictures that differ in the colour alone differ by g (c1 - c0) with brightness g, so the mean squared pixel
        difference is mean(g^2) 2 sep_col^2 / 3.
        """
        found = jnp.full(len(self.classes.active), jnp.nan)
        if self.data.tint:
            found = found.at[-1].set(self.ink * 2 / 3 * jnp.asarray(setting.sep_col) ** 2)
        return {"means": found, "ranges": found}

    @functools.cached_property
    def ink(self) -> float:
        """Mean squared brightness of the training classes' pictures; of a tint alone."""
        rows = sorted({row for k in self.classes.train_ids for row in self._rows(k, held=False)})
        pictures, order = self.pool["pictures"], self.pool["rows"]
        weights = np.array(augmentation.GREY) / 255
        sums = [float((((pictures[order[rows[i : i + _CHUNK]]] @ weights) ** 2).mean(axis=(1, 2))).sum())
                for i in range(0, len(rows), _CHUNK)]  # fmt: skip
        return sum(sums) / len(rows)

    def mean_distances(self) -> np.ndarray:
        """Return the squared distance of class-mean pictures that differ in one concept of the labels [c].

        It is a mean over pixels and channels, in squared brightness. A stand-in for the concept signal, which needs
        pairs of pictures that differ in nothing else. Averaged over the pairs of training classes, or of all where none
        differ in that concept alone. Each class is cut in halves and the differences of both are multiplied, so that
        what single pictures add is zero on average. NaN for a tint.
        """
        labels = Classes(self.concepts, self.words)
        halves = np.array([self._half_means(label) for label in range(labels.num)])  # [label, 2, h, w, 3]
        trained = {k >> 1 if self.data.tint else k for k in self.classes.train_ids}
        found = []
        for column in range(len(self.concepts)):
            pairs = [
                (a, b)
                for a, b in itertools.combinations(range(labels.num), 2)
                if np.flatnonzero(labels.bits[a] != labels.bits[b]).tolist() == [column]
            ]
            seen = [pair for pair in pairs if set(pair) <= trained] or pairs
            found.append(np.mean([((halves[a] - halves[b]).prod(axis=0)).mean() for a, b in seen]))
        return np.array(found + [np.nan] * self.data.tint)

    def _half_means(self, label: int) -> Float[np.ndarray, "2 h w 3"]:
        """Return the mean pictures of both halves of a class of the labels, in [0, 1].

        An only picture stands for both halves.
        """
        start = sum(self.counts[:label])
        rows = np.arange(start, start + self.counts[label])
        pictures, order = self.pool["pictures"], self.pool["rows"]
        means = []
        for half in (rows[::2], rows[1::2] if len(rows) > 1 else rows):
            parts = [half[i : i + _CHUNK] for i in range(0, len(half), _CHUNK)]
            means.append(sum(pictures[order[part]].sum(axis=0, dtype=np.float64) for part in parts) / (255 * len(half)))
        return np.array(means)

    def examples(self, setting: Setting, per_class: int, key: Key[Array, ""], *, at_mean: bool = True) -> PictureItems:
        rows = [self._rows(k, held=True) for k in range(self.classes.num)]
        count = min(per_class, *map(len, rows))
        index = [jnp.arange(one.start, one.start + count) for one in rows]
        return self._items(setting, index, [repeat(k, count) for k in range(self.classes.num)], key, at_mean=at_mean)

    def probe_items(self, probe: ProbeConfig, key: Key[Array, ""], *, held: bool) -> PictureItems:
        """Return all pictures of all classes of a part; with a tint once for every row of `probe.data`."""
        rows = [self._rows(k, held=held) for k in range(self.classes.num)]
        index = [jnp.arange(r.start, r.stop) for r in rows]
        klass = [repeat(k, len(one)) for k, one in enumerate(rows)]
        ranges = [class_ranges(*row[:-1], narrow=row[-1]) for row in (probe.data if self.data.tint else probe.data[:1])]
        parts = [
            self._items(one, index, klass, jax.random.fold_in(key, i), at_mean=held) for i, one in enumerate(ranges)
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
