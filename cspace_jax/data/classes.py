"""Classes: the combinations of the values of a study's concepts, and which of them are trained on."""

import dataclasses
import functools
import itertools

import numpy as np

from cspace_jax.config.reading import fail
from cspace_jax.config.schema import trained_of

Words = tuple[str, str]  # of bit 0 and bit 1
FEWEST, MOST = 2, 6  # concepts of a study


@dataclasses.dataclass(frozen=True)
class Classes:
    """Describe the classes spanned by concepts; hashable.

    Class index = the bits read row-major in the order of the concepts (with colour and size: 2 * color + size, so "01"
    is red and small, "10" blue and large: the reference implementation's order; the paper's section 3.1 prose has them
    swapped).

    Attributes:
      active: names of the concepts, in the order of the bits.
      words: of each concept, the words of bit 0 and bit 1.
      held_out: codes of the classes that are never trained on; () = those with two or more bits set (paper section 4).
    """

    active: tuple[str, ...]
    words: tuple[Words, ...]
    held_out: tuple[str, ...] = ()

    @property
    def num(self) -> int:
        """Return the number of classes k."""
        return 2 ** len(self.active)

    @functools.cached_property
    def bits(self) -> np.ndarray:
        """Return the bits of every class, int32 [k, concept]; not writeable."""
        bits = np.array(list(itertools.product((0, 1), repeat=len(self.active))), np.int32)
        bits.setflags(write=False)
        return bits

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Return the codes of all classes, such as "01"."""
        return tuple("".join(map(str, row)) for row in self.bits.tolist())

    @functools.cached_property
    def trained(self) -> np.ndarray:
        """Return which classes are trained on, bool [k]; not writeable."""
        trained = np.isin(self.names, trained_of(len(self.active), self.held_out))
        trained.setflags(write=False)
        return trained

    @property
    def train_ids(self) -> tuple[int, ...]:
        """Return the indices of the classes that are trained on."""
        return tuple(int(k) for k in np.flatnonzero(self.trained))

    @property
    def held_out_ids(self) -> tuple[int, ...]:
        """Return the indices of the classes that are never trained on."""
        return tuple(int(k) for k in np.flatnonzero(~self.trained))

    def describe(self, klass: int) -> str:
        """Return the class in words, such as "blue small"; `klass` is a class index."""
        return " ".join(words[bit] for words, bit in zip(self.words, self.bits[klass], strict=True))


def check_concepts(found: Classes, source: str) -> None:
    """Check the concepts of a generator.

    Args:
      found: its concepts and classes.
      source: the value of `data.source`, for the message.

    Raises:
      UserError: it has fewer than 2 or more than 6 concepts, or a concept lacks a name or two different words.
    """
    if not FEWEST <= len(found.active) <= MOST:
        names = ", ".join(map(str, found.active)) or "none"
        fail("data.source", source, f"must have {FEWEST} to {MOST} concepts, not {len(found.active)} ({names})")
    for name, words in zip(found.active, found.words, strict=True):
        if not isinstance(name, str) or not name.strip():
            fail("data.source", source, f"concept {name!r} must have a name in text")
        if not isinstance(words, tuple):  # a set has no order
            fail("data.source", source, f"concept {name!r} must have two different words, not {words!r}")
        texts = {word.strip() for word in words if isinstance(word, str)} - {""}
        if len(words) != 2 or len(texts) != 2:
            fail("data.source", source, f"concept {name!r} must have two different words, not {words!r}")


def check_held_out(found: Classes) -> None:
    """Check the held-out classes: every concept must take both values among the classes that are trained on.

    Raises:
      UserError: a code is no class or stands twice, no class is held out, or what is left cannot teach every concept.
    """
    for name in found.held_out:
        if name not in found.names:
            fail("data.held_out", name, f"must be one of {', '.join(found.names)} (bits of {', '.join(found.active)})")
    if len(set(found.held_out)) < len(found.held_out):
        fail("data.held_out", found.held_out, "holds a class twice")
    if not found.held_out_ids:
        fail("data.held_out", found.held_out, f"leaves no class of {', '.join(found.names)} that is never trained on")
    if len(found.train_ids) < 2:
        fail("data.held_out", found.held_out, "leaves fewer than 2 classes to train on")
    for name, column in zip(found.active, found.bits[found.trained].T, strict=True):
        if len(np.unique(column)) < 2:
            fail("data.held_out", found.held_out, f"leaves one value of {name} only in the classes that are trained on")
