"""Read weights under the authors' PyTorch names into our parameter trees (U-Net with schedule, and probe), and back.

Only names and shapes are known here; no weights are shipped. Convolution kernels go from OIHW to HWIO (transposed ones
from IOHW), linear weights from [out, in] to [in, out]. The reference networks own a few layers that they never call
(the last `down` and the last `up`); their arrays are accepted and dropped, and written as zeros.

Two things follow from what the arrays are named, not from a configuration: a model without dropout counts one module
less in its blocks, so that its second convolution is `net2.2` and not `net2.3`; and a fixed noise schedule has no
`gamma.b` and `gamma.w` (reference implementation).
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from cspace_jax import rng
from cspace_jax.errors import UserError
from cspace_jax.model import unet
from cspace_jax.model.unet import UNetSpec
from cspace_jax.npz_archives import DAMAGES, read_npz

# One row per array: the path in our tree, the name in the reference, and how the array is laid out.
Row = tuple[tuple[str, ...], str, str]

_WITH_DROPOUT, _WITHOUT = "net2.3", "net2.2"  # a block's second convolution
_SCHEDULE = ("b", "w")


def _layer(ours: tuple[str, ...], theirs: str, layout: str) -> Iterator[Row]:
    yield (*ours, "scale" if layout == "norm" else "kernel"), f"{theirs}.weight", layout
    yield (*ours, "bias"), f"{theirs}.bias", "vector"


def _mlp(ours: tuple[str, ...], theirs: str) -> Iterator[Row]:
    yield from _layer((*ours, "dense_0"), f"{theirs}.0", "linear")
    yield from _layer((*ours, "dense_1"), f"{theirs}.2", "linear")


def _block(spec: UNetSpec, name: str, theirs: str, skip: bool) -> Iterator[Row]:
    yield from _layer((name, "norm_0"), f"{theirs}.net1.0", "norm")
    yield from _layer((name, "conv_0"), f"{theirs}.net1.2", "conv")
    if spec.conditioning != "none":
        for i, source in enumerate(("time", "vector")):
            ours = (name, f"project_{source}")
            if spec.conditioning.endswith("mlp"):
                yield from _mlp((*ours, "mlp"), f"{theirs}.cond_projs.{i}")
            else:
                yield from _layer((*ours, "linear"), f"{theirs}.cond_projs.{i}", "linear")
    yield from _layer((name, "norm_1"), f"{theirs}.net2.0", "norm")
    yield from _layer((name, "conv_1"), f"{theirs}.{_WITH_DROPOUT}", "conv")
    if skip:
        yield from _layer((name, "skip"), f"{theirs}.skip_conv", "conv")


def _embeddings(spec: UNetSpec) -> Iterator[Row]:
    if spec.conditioning != "none":
        yield from _mlp(("embed_time",), "embed_t_conditioning")
    if spec.conditioning.startswith("common"):
        yield from _mlp(("embed_vector",), "embed_v_conditionings.0")


def _down_path(spec: UNetSpec) -> Iterator[Row]:
    c_in = spec.channels[0]
    for level, c_out in enumerate(spec.channels):
        for i in range(spec.blocks):
            theirs = f"downs.{level}.resnet_blocks.{i}"
            yield from _block(spec, f"down_{level}_block_{i}", theirs, skip=c_in != c_out)
            c_in = c_out
        if level < len(spec.channels) - 1:
            yield from _layer((f"down_{level}_conv",), f"downs.{level}.down", "conv")


def _up_path(spec: UNetSpec) -> Iterator[Row]:
    levels = len(spec.channels)
    c_in = spec.channels[-1]
    for j, level in enumerate(reversed(range(levels))):
        for i in range(spec.blocks):
            theirs = f"ups.{j}.resnet_blocks.{i}"
            yield from _block(spec, f"up_{level}_block_{i}", theirs, skip=c_in != spec.channels[level])
            c_in = spec.channels[level]
        if level > 0:
            yield from _layer((f"up_{level}_conv",), f"ups.{j}.up", "conv_transposed")
            c_in = 2 * spec.channels[level - 1]


def _middle(spec: UNetSpec) -> Iterator[Row]:
    yield from _block(spec, "mid_block_0", "mid1", skip=False)
    if spec.attention:
        yield from _layer(("mid_attention", "norm"), "mid_attn1.norm", "norm")
        for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "proj_out")):
            yield from _layer(("mid_attention", ours), f"mid_attn1.{theirs}", "conv")
    yield from _block(spec, "mid_block_1", "mid2", skip=False)


def _network_rows(spec: UNetSpec) -> Iterator[Row]:
    yield from _embeddings(spec)
    yield from _layer(("conv_in",), "conv_in", "conv")
    yield from _down_path(spec)
    yield from _middle(spec)
    yield from _up_path(spec)
    yield from _layer(("norm_out",), "norm_out", "norm")
    yield from _layer(("conv_out",), "conv_out", "conv")
    if spec.out_channels != spec.in_channels:
        yield from _layer(("conv_residual",), "conv_residual_out", "conv")


def _unused_names(spec: UNetSpec) -> set[str]:
    last = len(spec.channels) - 1
    layers = (f"downs.{last}.down", f"ups.{last}.up")
    return {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}


_AXES = {"conv": (2, 3, 1, 0), "conv_transposed": (2, 3, 0, 1), "linear": (1, 0)}  # of theirs, in our order


def _convert(array: np.ndarray, layout: str) -> np.ndarray:
    array = np.asarray(array, np.float32)
    fits = layout in _AXES and array.ndim == len(_AXES[layout])  # another shape is refused where shapes are compared
    return array.transpose(_AXES[layout]) if fits else array


def _convert_back(array: Any, layout: str) -> np.ndarray:
    array = np.asarray(array, np.float32)
    return np.ascontiguousarray(array.transpose(np.argsort(_AXES[layout]))) if layout in _AXES else array


def _insert(tree: dict, path: tuple[str, ...], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _build(state: dict[str, np.ndarray], rows: list[Row], ignored: set[str]) -> dict:
    wanted = {theirs for _, theirs, _ in rows}
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted - ignored)
    if missing or unknown:
        raise UserError(f"weights do not fit the network: missing {missing or 'none'}, unknown {unknown or 'none'}")
    tree: dict = {}
    for ours, theirs, layout in rows:
        _insert(tree, ours, _convert(state[theirs], layout))
    return tree


def _check_shapes(spec: UNetSpec, tree: dict) -> None:
    wanted = jax.eval_shape(lambda key: unet.init_params(spec, key), rng.run_key(0))
    shapes: dict[str, Any] = dict(flatten_dict(wanted, sep="/"))
    arrays: dict[str, Any] = dict(flatten_dict(tree, sep="/"))
    for name in set(arrays) & set(shapes):
        shape, must = arrays[name].shape, shapes[name].shape
        if shape != must:
            raise UserError(f"weights do not fit the network: {name} has the shape {shape}, must be {must}")


def _rows_of(spec: UNetSpec, state: dict[str, np.ndarray], ours: str, theirs: str) -> list[Row]:
    """Return the rows of a network that lies under `ours` and `theirs`, with or without dropout as the arrays say."""
    found = {name for name in (_WITH_DROPOUT, _WITHOUT) if any(f".{name}." in stored for stored in state)}
    if len(found) == 2:
        raise UserError(
            f"weights do not fit the network: the second convolution of some blocks is {_WITH_DROPOUT} (with dropout), "
            f"of others {_WITHOUT} (without)"
        )
    return _rows_with(spec, found != {_WITHOUT}, ours, theirs)


def _rows_with(spec: UNetSpec, dropout: bool, ours: str, theirs: str) -> list[Row]:
    second = _WITH_DROPOUT if dropout else _WITHOUT
    return [
        ((ours, *path), f"{theirs}.{name.replace(f'.{_WITH_DROPOUT}.', f'.{second}.')}", layout)
        for path, name, layout in _network_rows(spec)
    ]


def _schedule_rows(state: dict[str, np.ndarray], schedule: str) -> list[Row]:
    """Return the rows of the noise schedule's scalars; none if the arrays hold none and none are asked for."""
    names = [f"gamma.{name}" for name in _SCHEDULE]
    learned = any(name in state for name in names)
    if schedule and learned != (schedule == "learned_linear"):
        held = f"hold {' and '.join(names)}" if learned else f"hold no {' and '.join(names)}"
        raise UserError(f"weights do not fit the noise schedule: diffusion.schedule = {schedule!r}, and they {held}")
    return [(("schedule", name), f"gamma.{name}", "vector") for name in _SCHEDULE] if learned else []


def vdm_params(spec: UNetSpec, state: dict[str, np.ndarray], schedule: str = "") -> dict:
    """Convert a diffusion model's `state_dict` into the tree of `vdm.init_params`, of a model with dropout or without.

    Args:
      spec: the network.
      state: arrays by name.
      schedule: `diffusion.schedule` of the model they are for; "" = learned or fixed, as the arrays say.

    Returns:
      {"network": ..., "schedule": {"b", "w"}}, of a fixed schedule {"network": ..., "schedule": {}}.

    Raises:
      UserError: names are missing or unknown (both are listed), a shape does not fit, or the schedule is another.
    """
    rows = _rows_of(spec, state, "network", "score_model") + _schedule_rows(state, schedule)
    params = _build(state, rows, {f"score_model.{name}" for name in _unused_names(spec)})
    _check_shapes(spec, params["network"])
    return {"schedule": {}} | params


def vdm_state(spec: UNetSpec, params: dict) -> dict[str, np.ndarray]:
    """Return a diffusion model's tree as the reference implementation's `state_dict`: the way back of `vdm_params`.

    It has every parameter of the reference's own; the layers that are never called are zeros.

    Args:
      spec: the network; without dropout its blocks count one module less.
      params: {"network": ..., "schedule": ...}, as `vdm.init_params` makes them.
    """
    rows = _rows_with(spec, spec.dropout > 0, "network", "score_model")
    rows += [(("schedule", name), f"gamma.{name}", "vector") for name in params["schedule"]]
    flat: dict[tuple[str, ...], Any] = dict(flatten_dict(params))
    state = {theirs: _convert_back(flat[ours], layout) for ours, theirs, layout in rows}
    return state | {f"score_model.{name}": array for name, array in _unused_arrays(spec).items()}


def _unused_arrays(spec: UNetSpec) -> dict[str, np.ndarray]:
    """Return zeros for the layers that the reference never calls: 2 x 2 convolutions that keep the channels."""
    channels = (spec.channels[-1], spec.channels[0])  # of the last `down` and of the last `up`
    names = sorted(_unused_names(spec))  # downs before ups, bias before weight
    shapes = [shape for c in channels for shape in ((c,), (c, c, 2, 2))]
    return {name: np.zeros(shape, np.float32) for name, shape in zip(names, shapes, strict=True)}


def write_safetensors(state: dict[str, np.ndarray], facts: dict[str, str]) -> bytes:
    """Return arrays by name as the bytes of a .safetensors file; `facts` stand in its header.

    Raises:
      UserError: the package safetensors is not installed.
    """
    return _safetensors("a .safetensors file").save(state, {"format": "pt", **facts})


def _safetensors(what: str) -> Any:
    try:
        from safetensors import numpy
    except ImportError as error:
        raise UserError(f"{what} needs the package safetensors: pip install 'cspace_jax[export]'") from error
    return numpy


def probe_params(spec: UNetSpec, state: dict[str, np.ndarray]) -> dict:
    """Convert a probe's `state_dict`, of a probe with dropout or without, into {"backbone": ..., "head": ...}.

    Raises:
      UserError: names are missing or unknown (both are listed). Shapes are checked by `evaluation.probe.check_fit`.
    """
    rows = _rows_of(spec, state, "backbone", "net")
    head = (("norm_0", "0", "norm"), ("dense_0", "1", "linear"), ("norm_1", "3", "norm"), ("dense_1", "4", "linear"))
    for ours, theirs, layout in head:
        rows += _layer(("head", ours), f"head.{theirs}", layout)
    return _build(state, rows, {f"net.{name}" for name in _unused_names(spec)})


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """Read arrays by name from an .npz or .safetensors file, or from a .pth file with PyTorch (nothing is executed).

    Raises:
      UserError: the file is missing, damaged, of another kind, or needs a package that is not installed.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"weights file {path!r} does not exist")
    if file.suffix == ".npz":
        try:
            return read_npz(file)
        except DAMAGES as error:
            raise UserError(f"weights file {path!r} cannot be read ({error})") from error
    if file.suffix == ".safetensors":
        return _read_safetensors(path)
    if file.suffix not in (".pth", ".pt"):
        raise UserError(f"weights file {path!r}: allowed are .npz, .safetensors, .pth and .pt")
    try:
        import torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(f"weights file {path!r} needs PyTorch: pip install torch, or convert it to .npz") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor.numpy() for name, tensor in state.items()}
    except Exception as error:  # of a file: whatever is raised, it holds no weights
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"weights file {path!r} cannot be read ({said})") from error


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    reader = _safetensors(f"weights file {path!r}")
    from safetensors import SafetensorError

    try:
        return dict(reader.load_file(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"weights file {path!r} cannot be read ({error})") from error
