"""Packing decides which arrays hold the leaves of a checkpoint.

Small leaves lie together, byte after byte. Large ones lie by themselves. Orbax takes 0.6 to 0.8 ms of a CPU to write or
to read a leaf, whatever its size; a state has hundreds. An index, an array of its own, says which leaves a pack holds.
Versions before 2026-11-30 wrote every leaf by itself.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

SMALL_BYTES = 2**16  # most bytes of a run in a leaf that is packed; packing copies, which costs nothing this small
PACK_BYTES = 2**28  # of all runs in a pack of several leaves
INDEX_BYTES = 2**24  # most that are read of an index
_AXES, _LENGTH = 32, 2**40  # most of a leaf that a file names
_NAME = "pack {}"
_PACK = re.compile(r"pack \d+")
_TYPE = re.compile(r"[a-z][a-z0-9_]*")  # what a name of a type may be; NumPy reads others as Python


class Member(NamedTuple):
    """A leaf of a pack has a name, a type and a shape without the axis of the runs."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of one run."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Contents:
    """The leaves and arrays of a checkpoint.

    Attributes:
      forms: shape [r, ...] and type of every leaf, by name.
      packs: the members of each pack, by the name of its array.
      stored: shape and type of every array that is stored, by name: a leaf by itself, or a pack, uint8 [r, bytes].
      index: the packs in JSON; None where every leaf was written by itself without one.
    """

    def __init__(self, forms: Mapping[str, Any], packs: Mapping[str, Sequence[Member]], index: bool = True):
        self.forms = dict(forms)
        self.packs = {name: list(members) for name, members in packs.items()}
        packed = {member.name for members in self.packs.values() for member in members}
        self.stored = {name: form for name, form in self.forms.items() if name not in packed}
        assert not self.packs.keys() & self.stored.keys(), "a leaf has the name of a pack"
        for name, members in self.packs.items():
            runs = self.forms[members[0].name].shape[0]
            size = sum(member.nbytes for member in members)
            self.stored[name] = jax.ShapeDtypeStruct((runs, size), np.uint8)
        self.index = json.dumps(self.packs) if index else None

    @property
    def index_bytes(self) -> np.ndarray:
        """The index as it is stored, uint8."""
        return np.frombuffer((self.index or "").encode(), np.uint8)

    @classmethod
    def of(cls, forms: Mapping[str, Any]) -> "Contents":
        """Return the contents under which leaves of these forms are written."""
        return cls(forms, {_NAME.format(i): members for i, members in enumerate(_packs(forms))})

    @classmethod
    def apart(cls, forms: Mapping[str, Any]) -> "Contents":
        """Return the contents of a checkpoint in which every leaf lies by itself, without an index."""
        return cls(forms, {}, index=False)

    @classmethod
    def found(cls, stored: Mapping[str, Any], index: str | None) -> "Contents":
        """Return the contents of a checkpoint from the forms of its arrays and its index.

        Raises:
          ValueError: the index is damaged, is missing, or does not fit.
        """
        packs = {name: list(map(_member, members)) for name, members in json.loads(index or "{}").items()}
        forms = {name: form for name, form in stored.items() if name not in packs}
        for name, members in packs.items():
            runs, size = stored[name].shape
            if not members or size != sum(member.nbytes for member in members):
                raise ValueError(f"{name} holds {size} bytes of a run, not what the index says")
            forms |= {one.name: jax.ShapeDtypeStruct((runs, *one.shape), np.dtype(one.dtype)) for one in members}
        if not packs.keys() >= set(filter(_PACK.fullmatch, stored)):
            raise ValueError("the index does not name all packs")
        if len({tuple(form.shape[:1]) for form in forms.values()} - {()}) != 1:
            raise ValueError("leaves of several numbers of runs")
        return cls(forms, packs, index is not None)

    def holding(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the arrays that hold some leaves, array -> those of `names` in it, in their order."""
        array_of = {member.name: pack for pack, members in self.packs.items() for member in members}
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(array_of.get(name, name), []).append(name)
        return found


def pack(arrays: Mapping[str, np.ndarray], contents: Contents) -> dict[str, np.ndarray]:
    """Return the stored arrays for leaves [r, ...], by name."""
    return {
        name: np.concatenate([_bytes(arrays[one.name]) for one in contents.packs[name]], axis=1)
        if name in contents.packs
        else arrays[name]
        for name in contents.stored
    }


def unpack(stored: dict[str, np.ndarray], contents: Contents, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return some leaves from the arrays that hold them, in the order of `names`.

    Packs are taken out of `stored` one after another, so that no more than one is held beside its leaves.
    """
    names = list(names)
    leaves: dict[str, np.ndarray] = {}
    for array, held in contents.holding(names).items():
        whole = stored.pop(array)
        leaves |= _members(whole, contents.packs[array], set(held)) if array in contents.packs else {array: whole}
    return {name: leaves[name] for name in names}


def _members(packed: np.ndarray, members: Sequence[Member], wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the array [r, ...] of each wanted leaf of a pack."""
    ends = itertools.accumulate(member.nbytes for member in members)
    for member, end in zip(members, ends, strict=True):
        if member.name in wanted:
            own = packed[:, end - member.nbytes : end].copy()
            yield member.name, own.view(np.dtype(member.dtype)).reshape(len(packed), *member.shape)


def _member(said: Sequence[Any]) -> Member:
    """Return a member as a file names it.

    Raises:
      ValueError: there can be none like it.
      TypeError: the same.
    """
    name, dtype, shape = said
    if not (isinstance(name, str) and isinstance(dtype, str) and _TYPE.fullmatch(dtype)):
        raise ValueError(f"{name} cannot be {dtype}")
    kind = np.dtype(dtype)
    lengths = len(shape) <= _AXES and all(type(length) is int and 0 <= length <= _LENGTH for length in shape)
    if kind.name != dtype or kind.hasobject or not kind.itemsize or not lengths:
        raise ValueError(f"{name} cannot be {dtype}{shape}")
    return Member(name, dtype, tuple(shape))


def _bytes(array: np.ndarray) -> np.ndarray:
    """Return the bytes of each run, uint8 [r, bytes]."""
    return np.ascontiguousarray(array).reshape(len(array), math.prod(array.shape[1:])).view(np.uint8)


def _packs(forms: Mapping[str, Any]) -> Iterator[list[Member]]:
    """Yield the members of each pack.

    Small leaves stay in their order, and are cut where a pack would become large.
    """
    members: list[Member] = []
    size = 0
    for name, form in forms.items():
        kind = np.dtype(form.dtype)
        member = Member(name, kind.name, tuple(form.shape[1:]))
        if member.nbytes > SMALL_BYTES or not kind.isnative:  # a name does not tell the order of bytes
            continue
        whole = form.shape[0] * member.nbytes
        if members and size + whole > PACK_BYTES:
            yield members
            members, size = [], 0
        members.append(member)
        size += whole
    if members:
        yield members
