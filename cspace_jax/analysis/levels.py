"""Levels of concept signal: the runs that differ in nothing but their seed."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from cspace_jax.config.setting import SWEPT


@dataclasses.dataclass(frozen=True)
class Level:
    """All runs that differ in nothing but their seed."""

    label: str  # "sep_col=0.2", only the settings that vary over the study
    setting: dict[str, float]
    varying: dict[str, float]
    runs: tuple[int, ...]  # positions of the runs that did not diverge
    diverged: tuple[int, ...]
    signal: tuple[float, ...]  # pixel signal of each concept, mean over the runs
    normalised: tuple[float, ...]  # signal divided by its length over concepts


def ok_runs(ds: xr.Dataset) -> Bool[np.ndarray, " r"]:
    """Return a mask [r] of the runs that neither were marked diverged nor hold a NaN coordinate."""
    prob = ds["prob"].isel(protocol=0)  # of all classes; further protocols ask for held-out ones only
    finite = np.isfinite(prob.transpose("run", ...).values).reshape(ds.sizes["run"], -1).all(axis=1)
    return finite & (ds["status"].values == "ok")


def held_out(ds: xr.Dataset) -> int:
    """Return the last held-out class, without `data.held_out` the one with every bit set."""
    return unseen(ds)[-1]


def unseen(ds: xr.Dataset) -> list[int]:
    """Return all held-out classes, in the order of the classes."""
    return np.flatnonzero(~ds["trained"].values).tolist()


def levels(ds: xr.Dataset) -> list[Level]:
    """Return the signal levels of a study in the order of their settings (first varying setting slowest).

    Their labels differ: they have more than three digits where three do not tell the levels apart.
    """
    table = np.stack([ds[name].values for name in SWEPT], axis=1)
    rows, member = np.unique(table, axis=0, return_inverse=True)
    varying = [name for name, column in zip(SWEPT, rows.T, strict=True) if len(set(column)) > 1]
    alive = ok_runs(ds)
    found = []
    for number, row in enumerate(rows):
        setting: dict[str, float] = dict(zip(SWEPT, map(float, row), strict=True))
        found.append(_level(ds, setting, varying, np.flatnonzero(member.ravel() == number), alive))
    return _labelled(found)


def _labelled(found: list[Level]) -> list[Level]:
    """Return levels with labels of as few digits as tell them apart, three at least; 17 tell any numbers apart."""
    if len(found) < 2:
        return found
    labels: list[str] = []
    for digits in range(3, 18):
        labels = [setting_label(level.varying, digits) for level in found]
        if len(set(labels)) == len(labels):
            break
    return [dataclasses.replace(level, label=label) for level, label in zip(found, labels, strict=True)]


def _level(
    ds: xr.Dataset,
    setting: dict[str, float],
    varying: list[str],
    runs: Int[np.ndarray, " member"],
    alive: Bool[np.ndarray, " r"],
) -> Level:
    signal = ds["signal"].values[runs].mean(axis=0)
    ranged = ds["signal_range"].values[runs].mean(axis=0)
    return Level(
        label="the one setting",
        setting=setting,
        varying={name: setting[name] for name in varying},
        runs=tuple(int(run) for run in runs if alive[run]),
        diverged=tuple(int(run) for run in runs if not alive[run]),
        signal=tuple(map(float, signal)),
        normalised=tuple(map(float, normalise(ranged if np.isfinite(ranged).all() else signal))),
    )


def setting_label(varying: Mapping[str, float], digits: int = 3) -> str:
    """Return settings as printed in labels, such as "sep_col=0.2, mask=0.5"; "" for none."""
    return ", ".join(f"{name}={value:.{digits}g}" for name, value in varying.items())


def normalise(signal: Float[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b c"]:
    """Divide a signal vector [..., c] by its length over concepts (the "normalised concept signal"); 0 stays 0."""
    length = np.linalg.norm(signal, axis=-1, keepdims=True)
    return np.divide(signal, length, out=np.zeros_like(signal), where=length != 0)


ROUNDING = 1e-6  # of float32 signals, that of single operations is 1e-7


def told_apart(signal: Float[np.ndarray, "*b"], scale: float | None = None) -> Float[np.ndarray, "*b"]:
    """Return numbers [...] of which those that differ by rounding alone are made equal.

    Those that differ from 0 by rounding alone are 0.

    Args:
      signal: the numbers; NaN stays NaN.
      scale: what rounding and the numbers returned are relative to, 1 for logarithms of ratios; None = the largest.
    """
    numbers = np.asarray(signal, float)
    numbers = numbers / ((np.nanmax(np.abs(numbers), initial=0.0) if scale is None else scale) or 1.0)
    distinct, place = np.unique(np.append(numbers, 0.0), return_inverse=True)
    apart = np.cumsum(~(np.diff(distinct, prepend=distinct[:1]) <= ROUNDING))  # the group of each; NaN has its own
    merged = distinct[np.searchsorted(apart, apart)]
    merged[apart == apart[place[-1]]] = 0.0
    return np.asarray(merged[place[:-1]].reshape(numbers.shape))


def swept_concept(found: Iterable[Level]) -> int:
    """Return the index of the concept whose signal changes most over the levels (largest ratio).

    Only concepts whose signal is known at every level are asked, so in tinted pictures the tint; 0 where none is.
    """
    signals = np.array([level.signal for level in found])
    if not len(signals):
        return 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = signals.max(axis=0) / signals.min(axis=0)  # infinite where it is 0 at some level alone
    ratio[np.isfinite(signals).all(axis=0) & np.isnan(ratio)] = 1.0  # 0 at every level
    return int(np.argmax(np.where(np.isnan(ratio), 0.0, ratio)))


def by_signal(found: Sequence[Level], concept: int, *, strongest_first: bool = False) -> list[int]:
    """Return the positions of levels with a live run in the order of a concept's signal.

    A signal that is not known counts as 0; equal ones stay in the given order.
    """
    alive = [i for i, level in enumerate(found) if level.runs]
    return sorted(alive, key=lambda i: np.nan_to_num(found[i].signal[concept]), reverse=strongest_first)


def signal_varies(found: Iterable[Level], concept: int) -> bool:
    """Return whether levels differ in the known signal of a concept; a signal that is not known does not vary."""
    signal = np.array([level.signal[concept] for level in found])
    return bool(np.isfinite(signal).all()) and len(set(told_apart(signal).tolist())) > 1
