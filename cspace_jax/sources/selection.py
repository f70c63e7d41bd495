"""The choice of a study's concepts among the labels of its pictures."""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np

from cspace_jax.config.reading import fail
from cspace_jax.data.classes import FEWEST, MOST
from cspace_jax.sources.listing import Listing, fingerprinted, repeated, require_presentable, some
from cspace_jax.text import closest

SHOWN = 10  # names of concepts in an error


def select(listing: Listing, concepts: tuple[str, ...], least: int = FEWEST) -> Listing:
    """Return the listing with the named concepts, in this order, and with a new fingerprint.

    Args:
      listing: labelled pictures.
      concepts: 2 to 6 names; a leading minus exchanges the two values. () = all that hold two values.
      least: fewest concepts, where something else adds to them.

    Raises:
      UserError: a concept is unknown, does not hold two values or stands twice, or there are too few or too many.
    """
    asked = concepts or listing.concepts
    chosen = [_column(listing, concepts, name) for name in asked]
    if twice := repeated([listing.concepts[column] for column, _ in chosen]):
        _refuse(concepts, f"holds {twice[0]!r} twice")
    if not least <= len(chosen) <= MOST:
        have = f"{listing.path!r} has {len(listing.concepts)}: {some(listing.concepts, SHOWN)}" + _reasons(listing)
        text = f"must hold {least} to {MOST} concepts"
        _refuse(concepts, f"{text}, not {len(chosen)}" if concepts else f"{text}, choose them by name; {have}")
    columns = [column for column, _ in chosen]
    flipped = np.array([flip for _, flip in chosen], np.uint8)
    words = [listing.words[column] for column in columns]
    require_presentable(listing.path, [listing.concepts[column] for column in columns], words)
    return fingerprinted(
        dataclasses.replace(
            listing,
            concepts=tuple(listing.concepts[column] for column in columns),
            words=tuple(pair[::-1] if flip else pair for pair, flip in zip(words, flipped, strict=True)),
            bits=np.ascontiguousarray(listing.bits[:, columns] ^ flipped),
        )
    )


def _column(listing: Listing, concepts: Sequence[str], name: str) -> tuple[int, bool]:
    """Return the column of a concept and whether its values are exchanged.

    A concept whose name begins with a minus is found by its full name first.
    """
    flip = name not in listing.concepts and name.startswith("-")
    bare = name[1:] if flip else name
    if bare in listing.concepts:
        return listing.concepts.index(bare), flip
    if bare in listing.unusable:
        _refuse(concepts, f"{bare!r} does not hold two values: {listing.unusable[bare]}")
    known = some(listing.concepts, SHOWN) or "none"
    _refuse(concepts, f"unknown concept {bare!r}{closest(bare, listing.concepts)}; known concepts: {known}")


def _reasons(listing: Listing) -> str:
    """Return why other columns cannot be used, as the end of a sentence."""
    reasons = [f"{name!r} does not hold two values ({why})" for name, why in listing.unusable.items()]
    return "".join(f"; {reason}" for reason in reasons[:FEWEST])


def _refuse(concepts: Sequence[str], text: str) -> typing.NoReturn:
    """Raise the UserError of `data.concepts`."""
    fail("data.concepts", tuple(concepts), text)
