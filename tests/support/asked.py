"""Studies of known truth that claims are asked of: seeds that turn, protocols that follow given curves."""

import numpy as np
import synthetic
from scipy import special

from cspace_jax.analysis import claims

SEEDS = tuple(range(0, 600, 100))


THREE = ("color", "size", "bg_color")


def swept(active=("color", "size")):
    """A study of four levels in which every claim about learning holds."""
    return synthetic.dataset(levels=(0.1, 0.2, 0.4, 0.8), seeds=SEEDS, active=active)


def rows(ds):
    return {row["claim"]: row for row in claims.verdicts(ds)}


def turning_study(seeds, slope, late_rate=False):
    """Class 11 falls to 01 and turns at a step of its own in every seed; `late_rate`: fastest long after the turn."""
    ds = synthetic.dataset(levels=(0.2,), seeds=seeds)
    steps = ds["step"].values.astype(float)
    for run, seed in enumerate(seeds):
        turn = 5000 + 8 * seed
        rise = special.expit((steps - turn - (8000 if late_rate else 300)) / slope)
        creep = np.clip((steps - turn) / 30000, 0, 0.25) if late_rate else 0
        ds["prob"].values[run, :, 0, 3, 0] = np.clip(0.1 + 0.3 * np.exp(-steps / 900) + 0.8 * rise + creep, 0, 1)
    return ds


PROTOCOLS = ("naive", "naive_repeats", "latent", "latent_random", "latent_shuffled", "overprompt", "overprompt_random")
PROTOCOLS = (*PROTOCOLS, "patch")


def battery(curves, seeds=SEEDS, turns=True):
    """A study of one level whose protocols follow given curves (steps, seed) -> P(class 11), the rest naive prompting.

    Every seed turns at a step of its own unless told otherwise.
    """
    ds = turning_study(seeds, 120) if turns else synthetic.dataset(levels=(0.8,), seeds=seeds)
    steps = ds["step"].values.astype(float)
    ds = ds.reindex(protocol=list(PROTOCOLS))
    values = np.full((len(seeds), len(steps), len(PROTOCOLS), 4), np.nan)
    for place, name in enumerate(PROTOCOLS):
        curve = curves.get(name, curves["naive"])
        values[:, :, place, 3] = np.stack([curve(steps, seed) for seed in seeds])
    axes = ("run", "step", "protocol", "klass")
    for name in ("capability", "capability_split", "capability_product"):
        ds[name] = (axes, values)
    ds["naive_split"] = (axes, np.repeat(values[:, :, :1], len(PROTOCOLS), axis=2))
    ds["capability_init"] = (("run", "protocol", "klass"), values[:, 0])
    return ds


def emerges(at, spread=0.0, width=300):
    """P(class) rises at a step, later by `spread` times the seed (and a little by its parity)."""
    return lambda steps, seed: 0.9 * special.expit((steps - at - spread * seed - 20 * (seed // 100 % 2)) / width)


HIDDEN = {
    "naive": emerges(9000, 14),
    "latent": emerges(3000, 6),
    "overprompt": emerges(3050, 6),
    "patch": emerges(4000),
}
