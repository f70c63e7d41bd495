"""The table of the rendered images' concepts holds all that is known of them but their pixels (data/rendering.py).

What follows from the table derives from it: classes and their words, the conditioning vector, the draws of images, the
checks of a configuration, the levels of a study and the words of figures. A table in plain numbers, so that every
command may import it.
"""

import dataclasses

Ends = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Concept:
    """Describe a concept: a number or a colour, or a choice between two kinds.

    A choice has no `ends`. The means of its classes lie at `center` + separation / 2 * `ends`. Training images are
    uniform around them, in +- `spread` * separation. Units: colours in [0, 1] as RGB; size = radius, x and y in grid
    units (the image spans [-1, 1]). Source of all numbers: reference implementation.

    Attributes:
      name: in configurations and results.
      words: of bit 0 and bit 1.
      entries: of the conditioning vector that it takes; a choice has two, one-hot.
      separation: distance of the class means: a field of `Setting`, or a number where it is not swept.
      center: between the class means.
      ends: direction of each class mean from `center`, of bit 0 and bit 1: a number, or one a channel.
      spread: half-width of a class range, relative to the separation; of a normal one the standard deviation.
      narrow_spread: the same in half of the probe's data; None = equal.
      normal: whether training images are normal around the class mean, not uniform.
      least: what no class range reaches below; None = nothing.
      neutral: range of the values where it is not an active concept; None = either class range, by a fair coin.
      neutral_in_tests: whether test images have the middle of `neutral` there, not all of it.
      title: in figures; "" = the name.
      quantity: what its number is called below a picture; "" = the title.
    """

    name: str
    words: tuple[str, str]
    entries: int = 1
    separation: str | float = 0.0
    center: float = 0.0
    ends: Ends | None = None
    spread: float = 0.0
    narrow_spread: float | None = None
    normal: bool = False
    least: float | None = None
    neutral: tuple[float, float] | None = None
    neutral_in_tests: bool = False
    title: str = ""
    quantity: str = ""


NEUTRAL_BG = (0.8, 1.0)  # range of the background, per channel, where it is not a concept


def _position(name: str, words: tuple[str, str]) -> Concept:
    """Return a concept that is a coordinate of the object."""
    return Concept(name, words, separation=0.8, ends=(-1.0, 1.0), spread=1 / 16, normal=True, neutral=(-0.5, 0.5))


_ALL = (
    Concept("shape", ("circle", "triangle"), entries=2),
    _position("x", ("left", "right")),
    _position("y", ("low", "high")),
    Concept(
        "color", ("red", "blue"), entries=3, title="colour",
        separation="sep_col", center=0.5, ends=((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0)), spread=1 / 8,
    ),
    Concept(
        "size", ("large", "small"), quantity="radius",
        separation="sep_size", center=0.45, ends=(1.0, -1.0), spread=3 / 8, narrow_spread=1 / 8, least=0.1,
    ),
    Concept(
        "bg_color", ("light", "dark"), entries=3, title="background",
        separation="sep_bg", center=0.5, ends=((1.0, 1.0, 1.0), (-1.0, -1.0, -1.0)), spread=1 / 8,
        neutral=NEUTRAL_BG, neutral_in_tests=True,
    ),
)  # fmt: skip

TABLE = {one.name: one for one in _ALL}
CONCEPTS = tuple(TABLE)  # in the order of the bits and of the conditioning vector
SEPARATION = {one.name: one.separation for one in _ALL if isinstance(one.separation, str)}  # concept -> swept number
SEPARATIONS = tuple(SEPARATION.values())  # in the order of the rows of `probe.data`
