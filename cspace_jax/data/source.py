"""A source of images: the one interface that training, evaluation and the probe know.

A source is a frozen, hashable value, so it can be static in compiled programs. What it holds of pixels is its `pool`:
arrays that ALL runs share, handed to compiled programs as an argument. A run owns `Items` only: for the data-generating
process concept values of each image, for pictures their row in the pool.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from cspace_jax.config import DataConfig, ProbeConfig
from cspace_jax.config.reading import fail
from cspace_jax.config.schema import masked_of
from cspace_jax.config.setting import Setting
from cspace_jax.data.classes import Classes
from cspace_jax.text import closest
from cspace_jax.tree import take


@struct.dataclass(kw_only=True)
class Items:
    """Hold a run's own data of its images, without pixels.

    Sources add fields, each with the images [n] as its first axis.

    Attributes:
      klass: class of each image.
      masked: images that hide a concept in training (data/masking.py).
    """

    klass: Int[Array, "n"]
    masked: Bool[Array, "n"] | None = None

    def take(self, index: Int[Array, "b"]) -> Any:
        """Return the images at `index` [b] as a set of b images."""
        return take(self, index)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the concepts stand in a conditioning vector.

    Attributes:
      entries: name, first entry and end of every concept, in the order of the vector.
    """

    entries: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, widths: dict[str, int]) -> "Layout":
        """Lay out concepts one after another."""
        ends = np.cumsum([0, *widths.values()]).tolist()
        return cls(tuple(zip(widths, ends[:-1], ends[1:], strict=True)))

    @property
    def dim(self) -> int:
        """Return the length d of a conditioning vector."""
        return self.entries[-1][2]

    @property
    def slices(self) -> dict[str, slice]:
        """Return the entries of each concept."""
        return {name: slice(start, stop) for name, start, stop in self.entries}


class Source(abc.ABC):
    """Images with known concepts, as pure functions of ONE run.

    Attributes:
      data: configuration of the images.
      classes: concepts and classes.
      layout: of the conditioning vector.
      real: whether the images are pictures, of which some are never trained on: the probe reads these as well.
      far_ends: whether the published far ends of colour and size are directions of latent interventions.
      fingerprint: of all that decides the images besides `data`; "" = nothing.
    """

    data: DataConfig
    real: bool = False
    far_ends: bool = False
    fingerprint: str = ""

    @property
    @abc.abstractmethod
    def classes(self) -> Classes:
        """Return the concepts, their words and the classes that they span."""

    @property
    @abc.abstractmethod
    def layout(self) -> Layout:
        """Return which entries of a conditioning vector [d] belong to each concept."""

    @property
    def pool(self) -> Any:
        """Return the arrays that all runs share, on the host; () where images are drawn."""
        return ()

    @property
    def pool_shapes(self) -> Any:
        """Return shapes and types of `pool`, without reading it."""
        return ()

    @property
    @abc.abstractmethod
    def train_images(self) -> int:
        """Return the number of images that a run is trained on."""

    @property
    @abc.abstractmethod
    def validation_images(self) -> int:
        """Return the number of images of trained classes that a run is not trained on."""

    @property
    @abc.abstractmethod
    def test_images(self) -> int:
        """Return the number of images of held-out classes for the test loss."""

    @abc.abstractmethod
    def training(self, setting: Setting, key: Key[Array, ""]) -> Any:
        """Return the `Items` that a run is trained on; `key` is the run's "data" stream."""

    @abc.abstractmethod
    def validation(self, setting: Setting, key: Key[Array, ""]) -> Any:
        """Return the `Items` of the validation loss."""

    @abc.abstractmethod
    def test(self, setting: Setting, key: Key[Array, ""]) -> Any:
        """Return the `Items` of the test loss, all of held-out classes."""

    @abc.abstractmethod
    def images(self, pool: Any, items: Any, keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w 3"]:
        """Return the images [b, h, w, 3] of items [b], in [0, 1]; axis h is x.

        `keys`, one an image [b], augment them (training only).
        """

    @abc.abstractmethod
    def conditionings(self, items: Any) -> Float[Array, "b d"]:
        """Return the conditioning vectors [b, d] of items [b]."""

    @abc.abstractmethod
    def means(self, setting: Setting) -> Float[Array, "k d"]:
        """Return the conditioning vector of every class at its exact mean [k, d]; no randomness is left in them."""

    @abc.abstractmethod
    def prompts(self, setting: Setting, per_class: int, key: Key[Array, ""]) -> Float[Array, "k per_class d"]:
        """Return the conditioning vectors that a run is sampled with at every evaluation, [k, per_class, d].

        `key` is the run's "data" stream.
        """

    @abc.abstractmethod
    def signals(self, setting: Setting, key: Key[Array, ""]) -> dict[str, Float[Array, "concept"]]:
        """Return the concept signal at the class "means" and on the training "ranges", [concept] each.

        Units are squared brightness, a mean over pixels and channels; NaN where none can be told. `key` is a "signal"
        stream, in studies that of seed 0 for all runs.
        """

    @abc.abstractmethod
    def probe_items(self, probe: ProbeConfig, key: Key[Array, ""], *, held: bool) -> Any:
        """Return the `Items` of all classes that the probe is trained on, or, `held`, those it is checked on."""

    def mean_distances(self) -> np.ndarray | None:
        """Return a stand-in for the concept signal of pictures, by concept [c]; None where the signal is known."""
        return None

    @abc.abstractmethod
    def examples(self, setting: Setting, per_class: int, key: Key[Array, ""], *, at_mean: bool = True) -> Any:
        """Return the `Items` of some images of every class, equally many of each, that no run is trained on.

        They lie at the class means of a run's setting, or with `at_mean` false in its training ranges.
        """

    @property
    def masked(self) -> tuple[str, str]:
        """Return the concept that `grid.mask` hides and the code of the class whose images it is hidden in."""
        return masked_of(self.classes.active, self.data.mask_concept, self.data.mask_class)

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that decides what the probe sees, for JSON."""
        names = ("source", "concepts", "image_size", "crop", "jitter", "flip", "tint")
        return {**{name: getattr(self.data, name) for name in names}, "fingerprint": self.fingerprint}

    def prompt(self, words: str, setting: Setting) -> Float[Array, "d"]:
        """Return the conditioning vector of a class in words, such as "blue small", at its exact means.

        Args:
          words: the word, or words, of one value of each concept, in any order of the concepts, such as "smiling not
            hat"; or the class's bits, such as "11".
          setting: of the run that is asked.

        Raises:
          UserError: a word is unknown, or the words do not name one value of every concept, or name several classes.
        """
        return self.means(setting)[self.class_of(words)]

    def class_of(self, words: str) -> int:
        """Return the index of a class in words or bits, 0 to k - 1.

        Raises:
          UserError: as `prompt`.
        """
        found = self.classes
        if not isinstance(words, str):
            fail("prompt", words, "must be text, such as 'blue small'")
        if words in found.names:
            return found.names.index(words)
        known = [word for pair in found.words for value in pair for word in value.split()]
        for word in words.split():
            if word not in (*known, *found.names):
                fail("prompt", words, f"{word!r} is none of {', '.join((*known, *found.names))}{closest(word, known)}")
        named = sorted(_named(tuple(words.split()), found.words))
        if not named:
            fail("prompt", words, f"must hold one word for each of {', '.join(found.active)}")
        if len(named) > 1:
            codes = " and ".join(found.names[k] for k in named)
            fail("prompt", words, f"may mean the classes {codes}: give the bits of one of them")
        return named[0]


def _named(words: tuple[str | None, ...], pairs: Sequence[Sequence[str]]) -> set[int]:
    """Return the classes that words name: one value of each concept, its words together, in any order of concepts.

    None stands where words were taken already.
    """
    if not pairs:
        return set() if any(words) else {0}
    found = set()
    for bit, value in enumerate(pairs[0]):
        phrase = tuple(value.split())
        for start in range(len(words) - len(phrase) + 1):
            end = start + len(phrase)
            if words[start:end] == phrase:
                rest = _named((*words[:start], None, *words[end:]), pairs[1:])
                found |= {bit << (len(pairs) - 1) | klass for klass in rest}
    return found


def repeat(ids: Any, times: int) -> Int[Array, "n"]:
    """Return every class index of `ids` [m] `times` times, in order: int32 [m x times]."""
    return jnp.asarray(np.repeat(np.asarray(ids, np.int32), times))
