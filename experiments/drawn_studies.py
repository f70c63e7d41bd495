"""Drawn studies with several unseen classes, which `experiments/false_alarms.py` rearranges with --several.

Ten seeds and three concepts, so four unseen classes: one study varies the signal of a concept over three levels, one
has protocols and their controls at one level. Every run, class and protocol has steps of its own, log-normal around
those of its seed, so that numbers of a seed are more alike than those of two. Nothing in them is a result of training.
"""

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy import special

from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.config.setting import SWEPT
from cspace_jax.data import concepts
from cspace_jax.data.classes import Classes

ACTIVE = ("color", "size", "bg_color")
SEEDS = tuple(range(0, 1000, 100))
STEPS = tuple(int(one) for one in np.unique(np.geomspace(150, 20_000, 40).round()))
SIGNALS = (0.01, 0.03, 0.09)  # of color, one a level
OTHERS = (0.04, 0.02)  # of size and bg_color
PROTOCOLS = ("naive", "latent", "latent_random", "overprompt", "overprompt_random", "patch")
SAMPLES = 32
SPREAD = 0.3  # standard deviation of log(step) over seeds, and within one


def studies() -> list[xr.Dataset]:
    """Return the study of levels and that of protocols; every call returns the same ones."""
    return [_study("drawn levels", SIGNALS, 1), with_protocols(_study("drawn protocols", SIGNALS[:1], 2))]


def _study(name: str, signals: tuple[float, ...], stream: int) -> xr.Dataset:
    rng, classes = np.random.default_rng([0, stream]), concepts.classes(ACTIVE)
    fixed = dict.fromkeys(SWEPT, 0.4) | {"data_noise": 1e-3, "learning_rate": 1e-3, "mask": 0.0}
    settings = [fixed | {"sep_col": 10 * signal, "seed": seed} for signal in signals for seed in SEEDS]
    of_seed = dict(zip(SEEDS, rng.normal(0.0, SPREAD, len(SEEDS)), strict=True))
    prob = np.stack([_coordinates(classes, of_seed[int(one["seed"])], rng) for one in settings])  # [r, t, k, c]
    runs, pixel = len(settings), np.repeat([(one, *OTHERS) for one in signals], len(SEEDS), axis=0)
    evaluations = {step: _evaluation(prob[:, t], runs, classes.num) for t, step in enumerate(STEPS)}
    measured = Measurements(evaluations, settings, classes, signal=pixel, signal_range=pixel)
    return build_dataset(measured, {"study": name, "scale": "drawn"}, None)


def _evaluation(prob: Float[np.ndarray, "r k c"], runs: int, classes: int) -> dict[str, np.ndarray]:
    places = (np.arange(SAMPLES) + 0.5) / SAMPLES
    samples = np.where(places[:, None] < prob[:, :, None], 1.0, 0.0)  # [r, k, sample, c]
    return {
        "prob_samples": samples[:, None].astype(np.float32), "mean_rgb": np.full((runs, 1, classes, 3), 0.5),
        "loss": np.zeros((runs, 2, 4)), "schedule_b": np.zeros(runs), "schedule_w": np.zeros(runs),
    }  # fmt: skip


def _coordinates(classes: Classes, of_seed: float, rng: np.random.Generator) -> Float[np.ndarray, "t k c"]:
    """Return P(bit = 1) of a run [t, k, c].

    An unseen class is first drawn as a training class that it shares a bit with.
    """
    steps, found = np.array(STEPS, float), np.empty((len(STEPS), classes.num, len(ACTIVE)))
    learned = 1500 * np.exp(of_seed + rng.normal(0.0, SPREAD, len(ACTIVE)))
    for klass, bits in enumerate(classes.bits):
        kept = rng.choice(np.flatnonzero(bits)) if klass in classes.held_out_ids else None
        turn = 5000 * np.exp(of_seed + rng.normal(0.0, SPREAD))
        for concept, bit in enumerate(bits):
            path = 0.5 + (bit - 0.5) * special.expit((steps - learned[concept]) / 250)
            if bit and kept is not None and concept != kept:
                rise = special.expit((steps - turn) / 400)
                path = 0.5 * np.exp(-steps / 600) * (1 - rise) + rise
            found[:, klass, concept] = path
    return found


def with_protocols(ds: xr.Dataset) -> xr.Dataset:
    """Return a study with scores of protocols, each with steps of its own at which it draws a class."""
    rng, seeds = np.random.default_rng([0, 3]), ds["seed"].values
    ds = ds.reindex(protocol=list(PROTOCOLS))
    of_seed: Int[np.ndarray, " r"] = np.unique(seeds, return_inverse=True)[1]
    shape = (ds.sizes["run"], len(PROTOCOLS), ds.sizes["klass"])
    shared = rng.normal(0.0, SPREAD, len(set(seeds.tolist())))[of_seed]
    at = 3000 * np.exp(shared[:, None, None] + rng.normal(0.0, SPREAD, shape))
    scores = 0.9 * special.expit((np.array(STEPS, float)[:, None, None] - at[:, None]) / 400)  # [r, t, p, k]
    axes = ("run", "step", "protocol", "klass")
    naive = np.repeat(scores[:, :, :1], len(PROTOCOLS), axis=2)
    more = {name: (axes, scores) for name in ("capability", "capability_split", "capability_product")}
    return ds.assign(more | {"naive_split": (axes, naive)})
