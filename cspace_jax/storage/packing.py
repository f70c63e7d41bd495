"""Which arrays hold the leaves of a checkpoint: small leaves lie together, byte after byte, large ones by themselves.

Orbax takes about 0.6 ms of a CPU to write a leaf and as long to read it, whatever its size; a state has hundreds.
An index, an array of its own, says which leaves a pack holds. Versions before 2026-11-30 wrote every leaf by itself.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

SMALL_BYTES = 2**18  # most bytes of a run in a leaf that is packed: a pack is a copy
PACK_BYTES = 2**28  # of all runs in a pack of several leaves
_NAME = "pack {}"


class Member(NamedTuple):
    """A leaf of a pack: its name, its type and its shape without the axis of the runs."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of one run."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Contents:
    """What a checkpoint holds.

    Attributes:
      forms: shape [r, ...] and type of every leaf, by name.
      packs: the members of each pack, by the name of its array.
      stored: shape and type of every array that is stored, by name: a leaf by itself, or a pack, uint8 [r, bytes].
      index: the packs in JSON, uint8; None where every leaf was written by itself without one.
    """

    def __init__(self, forms: Mapping[str, Any], packs: Mapping[str, Sequence[Member]], index: bool = True):
        self.forms = dict(forms)
        self.packs = {name: list(members) for name, members in packs.items()}
        packed = {member.name for members in self.packs.values() for member in members}
        self.stored = {name: form for name, form in self.forms.items() if name not in packed}
        for name, members in self.packs.items():
            runs = self.forms[members[0].name].shape[0]
            size = sum(member.nbytes for member in members)
            self.stored[name] = jax.ShapeDtypeStruct((runs, size), np.uint8)
        text = json.dumps(self.packs).encode()
        self.index = np.frombuffer(text, np.uint8) if index else None

    @classmethod
    def of(cls, forms: Mapping[str, Any]) -> "Contents":
        """Return the contents that leaves of these forms are written as."""
        return cls(forms, {_NAME.format(i): members for i, members in enumerate(_packs(forms))})

    @classmethod
    def found(cls, stored: Mapping[str, Any], index: bytes | None) -> "Contents":
        """Return the contents of a checkpoint from the forms of its arrays and its index.

        Raises:
          ValueError: the index is damaged, or does not fit.
        """
        if index is None:
            return cls(stored, {}, index=False)
        packs = {name: list(map(_member, members)) for name, members in json.loads(index).items()}
        forms = {name: form for name, form in stored.items() if name not in packs}
        for name, members in packs.items():
            runs, size = stored[name].shape
            if size != sum(member.nbytes for member in members):
                raise ValueError(f"{name} holds {size} bytes of a run, not what the index says")
            forms |= {one.name: jax.ShapeDtypeStruct((runs, *one.shape), np.dtype(one.dtype)) for one in members}
        return cls(forms, packs)

    def holding(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the arrays that hold some leaves, and which of them each holds, in the order of `names`."""
        array_of = {member.name: pack for pack, members in self.packs.items() for member in members}
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(array_of.get(name, name), []).append(name)
        return found


def pack(arrays: Mapping[str, np.ndarray], contents: Contents) -> dict[str, np.ndarray]:
    """Return the arrays that are stored for leaves [r, ...]."""
    return {
        name: np.concatenate([_bytes(arrays[one.name]) for one in contents.packs[name]], axis=1)
        if name in contents.packs
        else arrays[name]
        for name in contents.stored
    }


def unpack(stored: Mapping[str, np.ndarray], contents: Contents, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return some leaves from the arrays that hold them, in the order of `names`."""
    leaves = dict(stored)
    for name in contents.packs.keys() & stored.keys():
        leaves |= _members(stored[name], contents.packs[name])
    return {name: leaves[name] for name in names}


def _members(packed: np.ndarray, members: Sequence[Member]) -> Iterator[tuple[str, np.ndarray]]:
    ends = itertools.accumulate(member.nbytes for member in members)
    for member, end in zip(members, ends, strict=True):
        own = np.ascontiguousarray(packed[:, end - member.nbytes : end])
        yield member.name, own.view(np.dtype(member.dtype)).reshape(len(packed), *member.shape)


def _member(said: Sequence[Any]) -> Member:
    """Return a member as a file names it; ValueError or TypeError if there can be none like it."""
    name, dtype, shape = said
    if np.dtype(dtype).hasobject or not all(isinstance(length, int) and length > 0 for length in shape):
        raise ValueError(f"{name} cannot be {dtype}{shape}")
    return Member(name, dtype, tuple(shape))


def _bytes(array: np.ndarray) -> np.ndarray:
    """Return the bytes of each run, uint8 [r, bytes]."""
    return np.ascontiguousarray(array).reshape(len(array), math.prod(array.shape[1:])).view(np.uint8)


def _packs(forms: Mapping[str, Any]) -> Iterator[list[Member]]:
    """Yield the members of each pack: small leaves in their order, cut where a pack would become large."""
    members: list[Member] = []
    size = 0
    for name, form in forms.items():
        member = Member(name, np.dtype(form.dtype).name, tuple(form.shape[1:]))
        whole = form.shape[0] * member.nbytes
        if not 0 < member.nbytes <= SMALL_BYTES:
            continue
        if members and size + whole > PACK_BYTES:
            yield members
            members, size = [], 0
        members.append(member)
        size += whole
    if members:
        yield members
