"""Opening of the source of a configuration, once, before a study starts.

Opening reads the source's labels or its Python file. What is opened is remembered, and all that has the configuration
finds it (`data.opened.source_of`). Pixels are decoded later, when the first program needs them.
"""

import dataclasses
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cspace_jax import processes, startup
from cspace_jax.config import DataConfig, config_files
from cspace_jax.config.concepts import SEPARATIONS
from cspace_jax.config.reading import fail
from cspace_jax.config.schema import DGP
from cspace_jax.data.classes import FEWEST, Classes, check_concepts, check_held_out
from cspace_jax.data.generated import Generated
from cspace_jax.data.opened import remember
from cspace_jax.data.pictures import TINT, Pictures
from cspace_jax.data.renderer import Renderer
from cspace_jax.data.source import Source
from cspace_jax.errors import UserError
from cspace_jax.paths import expanded
from cspace_jax.sources import arrays, celeba, decoding, folder
from cspace_jax.sources.listing import Listing, refuse, repeated, require_presentable
from cspace_jax.sources.selection import select
from cspace_jax.text import closest, unpresentable

IMAGES, CELEBA = "images", "celeba"
MAX_CACHE_BYTES = 16 * 2**30  # of decoded pictures in the user's cache; the pools used longest ago are removed
_HEADER_BYTES = 4096  # at most, of a file of decoded pictures
PIXELS = "pixels"  # in what a workdir keeps: the digest of decoded pictures; older versions left it out
_DESCRIBED = ("concepts", "words", "counts", "held", "fingerprint")
_OF_PICTURES = ("path", "concepts", "crop", "jitter", "flip", "tint")
_OF_DRAWING = ("active", "blur", "train_ratio")
_modules: dict[tuple[str, str], Any] = {}  # by path and content, so that a class stays the same


def open_source(data: DataConfig) -> Source:
    """Open the source of a configuration, remember it (`data.opened`) and return it.

    Raises:
      UserError: one line; the source, its pictures, labels or classes are not what they must be.
    """
    if data.source == DGP:
        source: Source = Renderer(data)
    elif data.source in (IMAGES, CELEBA):
        source = _pictures(data)
    elif ".py:" in data.source:
        source = _own(data)
    else:
        known = (DGP, IMAGES, CELEBA)
        fail("data.source", data.source, f"must be {', '.join(known)} or FILE.py:NAME{closest(data.source, known)}")
    check_held_out(source.classes)
    if isinstance(source, Pictures):
        _tell(source.classes)
    remember(source)
    return source


def refuse_ignored(data: DataConfig, shipped: DataConfig) -> None:
    """Raise UserError for fields of a new study that its source would ignore.

    Drawn images ignore the fields of pictures, and pictures those of drawing. A generator of the user's may look at any
    of them.

    Args:
      data: of the study.
      shipped: of the package at the study's scale, whose values no user asked for.
    """
    if data.source not in (DGP, IMAGES, CELEBA):
        return
    drawn = data.source == DGP
    for name in _OF_PICTURES if drawn else _OF_DRAWING:
        value = getattr(data, name)
        if value in (getattr(DataConfig(), name), getattr(shipped, name)):
            continue
        if drawn:
            fail(f"data.{name}", value, f"only pictures have it; data.source = {data.source!r} draws (set {IMAGES!r})")
        fail(
            f"data.{name}", value, f"only drawn images have it; data.source = {data.source!r} ignores it (leave it out)"
        )


def describe(source: Source) -> dict[str, Any]:
    """Return the facts that a workdir keeps of a source, for JSON.

    The renderer gives {}: the configuration describes it. A user's generator gives its fingerprint. Pictures give their
    labels and the digest of their pixels, for which they are decoded; those of older workdirs have no digest.
    """
    if isinstance(source, Pictures):
        pixels = {PIXELS: source.digest} if source.digest else {}
        return {name: getattr(source, name) for name in _DESCRIBED} | pixels
    return {"fingerprint": source.fingerprint} if source.fingerprint else {}


def without_digest(source: Source) -> Source:
    """Return and remember a source as workdirs of older versions know it, without its pixels' digest."""
    if isinstance(source, Pictures):
        source = dataclasses.replace(source, pixels="")
        remember(source)
    return source


def reopen_closed(data: DataConfig, described: Mapping[str, Any]) -> Source | None:
    """Return and remember pictures without their pixels, by the description that a workdir kept.

    Other sources give None. Results are collected and drawn from such pictures. A part that needs a pixel raises
    UserError.

    Raises:
      UserError: a kept concept or word cannot be shown as a name.
    """
    if not set(_DESCRIBED) <= described.keys():
        return None
    values = {name: _tuples(described[name]) for name in _DESCRIBED}
    require_presentable(data.path, values["concepts"], values["words"])
    source = Pictures(data, **values, pixels=str(described.get(PIXELS, "")), load=_closed(data))
    remember(source)
    return source


def foresee(data: DataConfig) -> Source | None:
    """Return and remember CelebA as it will be, from its official numbers alone.

    None is returned for other sources, without named concepts, and if CelebA is there to be opened. The numbers by
    class are not known without the labels: pictures are divided evenly, and a line says so.

    Raises:
      UserError: a concept is named twice, the concepts are too few or too many, or the held-out classes do not fit
        them.
    """
    if data.source != CELEBA or not all(data.concepts) or not data.concepts:
        return None
    if data.path and pathlib.Path(expanded(data.path)).exists():
        return None
    if twice := repeated([name.removeprefix("-") for name in data.concepts]):
        fail("data.concepts", data.concepts, f"{twice[0]} is named twice")
    pairs = [(celeba.words_of(name.removeprefix("-")), name.startswith("-")) for name in data.concepts]
    words = tuple((one, zero) if exchanged else (zero, one) for (zero, one), exchanged in pairs)
    names, num = tuple(name.removeprefix("-") for name in data.concepts), 2 ** len(data.concepts)
    counts, held = (tuple((total + k) // num for k in range(num)) for total in (celeba.TRAINING, celeba.OTHERS))
    source = Pictures(data, names, words, counts, held, pixels="", load=_closed(data))
    check_concepts(source.classes, data.source)
    check_held_out(source.classes)
    numbers = f"{celeba.TRAINING:,} pictures to train on and {celeba.OTHERS:,} others"
    print(f"pictures: data.path = {data.path!r} is no folder: planned with the official {numbers}, divided evenly")
    remember(source)
    return source


def _closed(data: DataConfig) -> Callable[[], dict[str, np.ndarray]]:
    """Return a loader for pictures that were not opened. It raises UserError."""

    def load() -> dict[str, np.ndarray]:
        raise UserError(f"data.path = {data.path!r}: the pictures of this study are needed and were not opened")

    return load


def _tuples(value: Any) -> Any:
    """Return nested lists as nested tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


# pictures


def _pictures(data: DataConfig) -> Pictures:
    """Return the source of labelled pictures, with their labels read."""
    reader = celeba if data.source == CELEBA else arrays if data.path.endswith(".npz") else folder
    listing = select(reader.read(data.path), data.concepts, FEWEST - 1 if data.tint else FEWEST)
    if data.tint and TINT in listing.concepts:
        fail("data.tint", True, f"the labels have a concept {TINT!r} already")
    if processes.is_first():
        for note in listing.notes:
            print(f"pictures: {note}")
    labels = Classes(listing.concepts, listing.words)
    klass = listing.bits @ (2 ** np.arange(len(labels.active))[::-1])
    counts, held = (np.bincount(klass[part], minlength=labels.num) for part in (~listing.held, listing.held))
    _require_pictures(data, listing, labels, counts, held)
    order = np.lexsort((klass, listing.held)).astype(np.int32)
    cache = data.cache_dir or str(startup.cache_folder() / "pictures")

    def load() -> dict[str, np.ndarray]:
        pictures = decoding.pixels(listing, data.image_size, data.crop, cache)
        if not data.cache_dir:  # a folder of the user's own may hold other things
            startup.bound(pathlib.Path(cache), max(MAX_CACHE_BYTES, pictures.nbytes + _HEADER_BYTES))
        return {"pictures": pictures, "rows": order}

    made = (tuple(map(int, counts)), tuple(map(int, held)), listing.fingerprint)
    return Pictures(data, listing.concepts, listing.words, *made, load=load)


def _tell(classes: Classes) -> None:
    """Print which words the bits of a class stand for, and which classes are held out."""
    if processes.is_first():
        ones = [f"of {name} = {words[1]}" for name, words in zip(classes.active, classes.words, strict=True)]
        held = [f"{classes.names[k]} ({classes.describe(k)})" for k in classes.held_out_ids]
        print(f"pictures: bit 1 {', '.join(ones)}; held out: {', '.join(held)}")


def _require_pictures(
    data: DataConfig, listing: Listing, labels: Classes, counts: np.ndarray, held: np.ndarray
) -> None:
    """Raise UserError for a class without pictures in a part, or with fewer than are asked for."""
    for part, numbers in (("to train on", counts), ("that are never trained on", held)):
        if not numbers.all():
            found = ", ".join(f"{name} {number}" for name, number in zip(labels.names, numbers, strict=True))
            empty = int(np.flatnonzero(numbers == 0)[0])
            words = f"class {labels.names[empty]} ({labels.describe(empty)})"
            refuse(listing.path, f"{words} has no pictures {part}; by class: {found}")
    trained = [k for k in range(labels.num) if _is_trained(data, labels, k)]
    fewest = min(trained, key=lambda k: counts[k], default=0)  # without any, `check_held_out` says so
    if data.images_per_class > counts[fewest]:
        found = ", ".join(f"{labels.names[k]} {counts[k]}" for k in trained)
        fail("data.images_per_class", data.images_per_class, f"must be at most {counts[fewest]}; there are {found}")


def _is_trained(data: DataConfig, labels: Classes, label: int) -> bool:
    """Return whether the pictures of a class of labels are trained on, in any colour."""
    bits = (*labels.active, TINT) if data.tint else labels.active
    classes = Classes(bits, labels.words + (("", ""),) * (len(bits) - len(labels.active)), data.held_out)
    return any(classes.trained[k] for k in ((2 * label, 2 * label + 1) if data.tint else (label,)))


# generators of the user's own


def _own(data: DataConfig) -> Source:
    """Return the source that a user's Python file makes.

    Raises:
      UserError: the file or the source cannot be used.
    """
    path, _, name = data.source.rpartition(":")
    try:
        text = pathlib.Path(expanded(path)).read_bytes()
    except OSError as error:
        fail("data.source", data.source, f"cannot read {path!r}: {error.strerror or error}")
    digest = hashlib.sha256(text).hexdigest()[:16]
    try:
        source = getattr(_module(path, digest), name)(data)
        if isinstance(source, Generated) and source.train_images in (0, source.pool_images):
            field = "train_ratio" if data.images_per_class else "images_per_class"
            fail(f"data.{field}", getattr(data, field), f"must leave images on both sides of {source.pool_images}")
        _try(source, data)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever the file does
        fail("data.source", data.source, f"cannot be used, {config_files.reason(error, expanded(path))}")
    if not source.fingerprint:
        object.__setattr__(source, "fingerprint", digest)  # it may be frozen
    return source


def _module(path: str, digest: str) -> Any:
    """Return the module of a user's file, loaded once for each content."""
    if (path, digest) not in _modules:
        _modules[path, digest] = config_files.load(pathlib.Path(expanded(path)))
    return _modules[path, digest]


def _try(source: Any, data: DataConfig) -> None:
    """Raise UserError unless a user's object is a `Source` with usable concepts, images and conditioning vectors."""
    from cspace_jax.config.setting import Setting

    if not isinstance(source, Source):
        fail("data.source", data.source, f"must return a cspace_jax.Source, not {type(source).__name__}")
    check_concepts(source.classes, data.source)
    names = (*source.classes.active, *itertools.chain.from_iterable(source.classes.words))
    if why := next(filter(None, map(unpresentable, map(str, names))), ""):
        fail("data.source", data.source, why)
    image, asked = jax.eval_shape(lambda: _one_image(source, Setting()))
    wanted = (1, data.image_size, data.image_size, 3)
    if image.shape != wanted:
        fail("data.source", data.source, f"makes images of the shape {image.shape[1:]}, must be {wanted[1:]}")
    if asked.shape != (1, source.layout.dim):
        fail("data.source", data.source, f"conditions by {asked.shape[1:]} entries, must be {source.layout.dim}")


def _one_image(source: Source, setting: Any) -> tuple[jax.Array, jax.Array]:
    """Return one image [1, x, y, 3] and its conditioning vector [1, entries]."""
    items = source.training(setting, jax.random.key(0)).take(jnp.zeros(1, jnp.int32))
    return source.images(source.pool_shapes, items), source.conditionings(items)


def check_axes(source: Source, grid: Any, axes: Sequence[str] = SEPARATIONS) -> None:
    """Raise UserError where several values of an axis would give equal runs.

    Pictures depend on `sep_col` alone, and only with `data.tint`. Other sources are not checked.
    """
    if not isinstance(source, Pictures):
        return
    for axis in axes:
        values = getattr(grid, axis)
        if len(values) > 1 and not (axis == "sep_col" and source.data.tint):
            tinted = ", or set data.tint=True" if axis == "sep_col" else ""
            fail(f"grid.{axis}", values, f"pictures do not depend on it, runs would be equal: give one value{tinted}")
