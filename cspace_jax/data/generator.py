"""A generator of one's own: images with known concepts that a study trains on like on the paper's.

    class Bars(cs.Generator):
        concepts = {"tilt": ("flat", "upright"), "tone": ("dark", "bright")}

        def sample(self, setting, bits, key, at_mean): ...  # the values that one image is made of
        def render(self, values): ...  # the image

It is named by `data.source = "FILE.py:Bars"`.
"""

import abc
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from cspace_jax.config import DataConfig
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import Setting
from cspace_jax.data.classes import Classes, Words, check_concepts
from cspace_jax.data.generated import Generated
from cspace_jax.data.source import Items, Layout


@struct.dataclass(kw_only=True)
class GeneratedItems(Items):
    """Hold images as the values they are rendered from, of any structure."""

    values: Any


class Generator(Generated):
    """Images of one's own, each from a few values; subclasses say how ONE image is sampled and rendered.

    Attributes:
      concepts: of each of 2 to 6 concepts, in the order of the bits, the two different words of bit 0 and bit 1.
    """

    concepts: ClassVar[Mapping[str, Words]]

    def __init__(self, data: DataConfig, fingerprint: str = ""):
        self.data, self.fingerprint = data, fingerprint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Generator) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Any, ...]:
        return type(self), self.data, self.fingerprint

    @abc.abstractmethod
    def sample(self, setting: Setting, bits: Int[Array, "concept"], key: Key[Array, ""], at_mean: bool) -> Any:
        """Draw the values that one image is made of, a tree of arrays.

        Args:
          setting: the run's numbers, such as `setting.sep_col`; may be traced.
          bits: of the concepts, in the order of `concepts`; may be traced.
          key: of this image. The same key gives images that differ in their bits alone.
          at_mean: whether the concepts are at their exact class means (static).
        """

    @abc.abstractmethod
    def render(self, values: Any) -> Float[Array, "h w 3"]:
        """Return the image of values, [data.image_size, data.image_size, 3] in [0, 1]; the first axis is x.

        Numbers outside of [0, 1] are clipped.
        """

    def condition(self, values: Any, bits: Int[Array, "concept"]) -> Mapping[str, Array]:
        """Return the entries of the conditioning vector by concept; here a one-hot pair of each bit."""
        return {name: jax.nn.one_hot(bits[i], 2) for i, name in enumerate(self.concepts)}

    @functools.cached_property
    def _description(self) -> tuple[Classes, Layout]:
        if not isinstance(self.concepts, Mapping):
            fail("data.source", self.data.source, f"concepts must be a dict of names and words, not {self.concepts!r}")
        words: Any = tuple(tuple(one) if isinstance(one, list) else one for one in self.concepts.values())
        classes = Classes(tuple(self.concepts), words, self.data.held_out)
        check_concepts(classes, self.data.source)

        def one() -> list[Array]:
            bits = jnp.zeros(len(self.concepts), jnp.int32)
            entries = self.condition(self.sample(Setting(), bits, jax.random.key(0), False), bits)
            names[:] = entries
            return list(entries.values())  # a dict would come back in the order of the alphabet

        names: list[str] = []
        entries = jax.eval_shape(one)
        if names != list(self.concepts):
            fail("data.source", self.data.source, f"condition returns {names}, must be {list(self.concepts)}")
        return classes, Layout.of({name: max(leaf.size, 1) for name, leaf in zip(names, entries, strict=True)})

    @property
    def classes(self) -> Classes:
        return self._description[0]

    @property
    def layout(self) -> Layout:
        return self._description[1]

    def draw(self, setting: Setting, klass: Int[Array, "n"], key: Key[Array, ""], *, at_mean: bool) -> GeneratedItems:
        bits = jnp.asarray(self.classes.bits)[klass]
        keys = jax.random.split(key, len(klass))
        values = jax.vmap(lambda one, k: self.sample(setting, one, k, at_mean))(bits, keys)
        return GeneratedItems(klass=klass, values=values)

    def images(self, pool: Any, items: GeneratedItems, keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w 3"]:
        rendered = jax.vmap(self.render)(items.values)
        if not jnp.issubdtype(rendered.dtype, jnp.floating):
            fail("data.source", self.data.source, f"render gives {rendered.dtype}, must be floating point in [0, 1]")
        return jnp.clip(rendered, 0.0, 1.0)

    def conditionings(self, items: GeneratedItems) -> Float[Array, "b d"]:
        bits = jnp.asarray(self.classes.bits)[items.klass]

        def one(values: Any, bits: Array) -> Array:
            return jnp.concatenate([jnp.ravel(entries) for entries in self.condition(values, bits).values()])

        return jax.vmap(one)(items.values, bits).astype(jnp.float32)

    def means(self, setting: Setting) -> Float[Array, "k d"]:
        klass = jnp.arange(self.classes.num)
        return self.conditionings(self.draw(setting, klass, jax.random.key(0), at_mean=True))
