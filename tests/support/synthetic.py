"""A dataset with known truth: logistic learning curves at chosen times, put through the real merging code."""

import json
import pathlib

import numpy as np
import xarray as xr
from etils import epath
from scipy import special

from cspace_jax.analysis import capability
from cspace_jax.analysis.dataset import Measurements, build_dataset
from cspace_jax.analysis.embeddings import extend_embeddings
from cspace_jax.config import to_dict
from cspace_jax.config.setting import SWEPT
from cspace_jax.data import concepts
from cspace_jax.storage import results
from cspace_jax.storage.workdir import Workdir
from cspace_jax.studies import loading

STEPS = tuple(int(one) for one in np.unique(np.linspace(np.sqrt(500), np.sqrt(20000), 60) ** 2 // 1))


def logistic(steps, time, width):
    return special.expit((np.asarray(steps, float) - time) / width)


def logistic_crossing(time, width, value):
    """When a logistic curve reaches a value."""
    return time + width * np.log(value / (1 - value))


def blue_path(steps, time, depth, width=350.0):
    """P(bit = 1) of a concept that is held back: from .5 down to about `depth`, then up around `time`."""
    dip = 0.5 - (0.5 - depth) * logistic(steps, 1500, 300)
    rise = logistic(steps, time, width)
    return dip * (1 - rise) + rise


def samples_of(prob, number=32):
    """Single-sample probabilities [..., number] near 0 or 1 whose mean is `prob` up to 1 / number."""
    grid = (np.arange(number) + 0.5) / number
    return np.where(grid < np.asarray(prob)[..., None], 1.0, 0.0)


def grid(levels=(0.1, 0.2, 0.4, 0.8), seeds=(0, 100, 200), active=("color", "size")):
    names = dict.fromkeys(SWEPT, 0.4) | {"data_noise": 1e-3, "learning_rate": 1e-3, "mask": 0.0}
    return [names | {"sep_col": level, "seed": seed} for level in levels for seed in seeds]


def coordinates(settings, classes, steps=STEPS):
    """True P(bit = 1) [r, t, k, c]. The weaker the colour signal, the later colour is learned; the weakest never is."""
    prob = np.empty((len(settings), len(steps), classes.num, len(classes.active)))
    for r, one in enumerate(settings):
        shift = one["seed"] * 3.0
        for k, bits in enumerate(classes.bits):
            for c, bit in enumerate(bits):
                time = (1000.0 + 500 / one["sep_col"] if c == 0 else 3000.0) + shift
                path = 0.5 + (0.5 if bit else -0.5) * logistic(steps, time, 250)
                if not classes.trained[k] and c == 0 and bit:
                    late = 25000.0 if one["sep_col"] <= 0.1 else time + 1500
                    path = blue_path(steps, late, depth=min(0.5, 0.05 + one["sep_col"] / 2))
                prob[r, :, k, c] = path
    return prob


def dataset(
    levels=(0.1, 0.2, 0.4, 0.8), seeds=(0, 100, 200), active=("color", "size"), steps=STEPS, diverged=(), **more
):
    settings = grid(levels, seeds, active)
    classes = concepts.classes(active)
    prob = coordinates(settings, classes, steps)
    prob[list(diverged), len(steps) // 2 :] = np.nan
    number = len(settings)
    signal = np.array([[one["sep_col"] ** 2 / 8] + [0.05] * (len(active) - 1) for one in settings])
    evaluations = {}
    for t, step in enumerate(steps):
        clean = np.moveaxis(samples_of(prob[:, t]), -1, 2)  # [r, k, sample, c]
        clean = np.where(np.isnan(prob[:, t])[:, :, None], np.nan, clean)
        loss = np.full((number, 2, 4), -8.64 + 4000 * np.exp(-step / 1500) + 0.5)
        loss[:, 1] += 0.3
        evaluations[step] = {
            "prob_samples": clean[:, None].astype(np.float32), "mean_rgb": np.full((number, 1, classes.num, 3), 0.5),
            "loss": loss, "schedule_b": np.full(number, -5.0 - step / 1000), "schedule_w": np.full(number, 15.0),
        }  # fmt: skip
    config = more.pop("config", {"study": "signal", "scale": "quick"})
    accuracy = more.pop("probe_accuracy", None)
    measured = {"signal": signal, "signal_range": signal} | more
    return build_dataset(Measurements(evaluations, settings, classes, **measured), config, accuracy)


def sample_images(ds, size=16, number=3, every=4):
    """Discs whose colour and radius follow the coordinates: step -> uint8 [r, k, n, h, w, 3]."""
    axis = np.linspace(-1, 1, size)
    prob = ds["prob"].isel(protocol=0).transpose("run", "step", "klass", "concept").values
    made = {}
    for t in range(0, ds.sizes["step"], every):
        p = np.nan_to_num(prob[:, t], nan=0.5)[:, :, None, None, None]
        inside = np.hypot(axis[:, None] - 0.2, axis[None, :] + 0.3) < 0.7 - 0.4 * p[..., 1]
        rgb = np.where(inside[..., None], np.stack([1 - p[..., 0], 0 * p[..., 0] + 0.1, p[..., 0]], -1), 0.9)
        made[int(ds["step"].values[t])] = (255 * np.repeat(rgb, number, axis=2)).astype(np.uint8)
    return made


MASK_OF = {0.8: 0.0, 0.4: 0.25, 0.2: 0.5, 0.1: 1.0}  # the later colour is learned, the more is masked


def masked(fractions=(0.0, 0.25, 0.5, 1.0), diverged=(4,), **setting):
    """Colour is learned later at larger fractions, never at the largest, and objects turn from blue to red."""
    made = dataset(levels=tuple(level for level, mask in MASK_OF.items() if mask in fractions), diverged=diverged)
    masks = np.array([MASK_OF[level] for level in made["sep_col"].values])
    rgb = np.stack([masks, np.full(len(masks), 0.2), 1 - masks], -1) + made["seed"].values[:, None] / 10_000
    same = {name: ("run", np.full(len(masks), value)) for name, value in ({"sep_col": 0.8} | setting).items()}
    made = made.assign_coords(mask=("run", masks), **same)
    made["signal"] = made["signal_range"] = xr.full_like(made["signal"], 0.05)
    made["mean_rgb"] = xr.zeros_like(made["mean_rgb"]) + xr.DataArray(rgb, dims=("run", "channel"))
    return made


def masked_groups():
    """Two groups that differ in the separation of sizes: two fractions at .2, four at .4, where a run diverged."""
    few = masked(fractions=(0.0, 0.5), diverged=(), sep_size=0.2)
    return xr.concat([few, masked()], "run", join="override")


def elicited():
    """Two levels, two seeds; naive prompting, patching and guidance at three weights with random answers: ds, raw."""
    made = dataset(levels=(0.2, 0.6), seeds=(0, 1), steps=(500, 2000, 9000))
    draw = np.random.default_rng(0).random
    raw = {
        step: {"prob_samples": draw((4, 5, 1, 4, 2), np.float32), "mean_rgb": np.zeros((4, 5, 1, 3))}
        for step in (0, 500, 2000, 9000)
    }
    names = ["naive", "patch", "guidance", "guidance", "guidance"]
    return capability.extend(made, raw, names, ["", "", "0.0", "1.0", "7.0"]), raw


def embedded(ds):
    """Random embeddings of two blocks for a dataset of `elicited`: ds, raw."""
    draw = np.random.default_rng(1).random
    raw = {
        step: {"embedding_cosine": draw((4, 2, 4, 4)), "embedding_classes": draw((4, 1, 6))}
        for step in (500, 2000, 9000)
    }
    blocks = {"down_0_block_0": 4, "mid_block_1": 2}
    return extend_embeddings(ds, raw, blocks, ("red", "blue", "large", "small")), raw


def workdir(folder, name="signal:quick", levels=(0.1, 0.8), seeds=(0, 100, 200), overrides=None, **more):
    """Make the workdir of a finished study of known truth: config.json and the results, nothing else."""
    config = loading.configure(name, {"grid.sep_col": levels, "grid.seeds": seeds} | (overrides or {}))
    pathlib.Path(folder).mkdir(parents=True)
    (pathlib.Path(folder) / "config.json").write_text(json.dumps(to_dict(config)))
    ds = dataset(levels, seeds, config=to_dict(config), **more)
    results.write_results(ds, Workdir(epath.Path(folder)))
    return ds


def masked_answers(ds):
    """Two protocols: overprompting draws the masked colour from the third save on, naive prompting and shape never."""
    both = xr.concat([ds, ds.assign_coords(protocol=["overprompt"])], "protocol", data_vars="minimal", join="override")
    elicited = np.zeros((*(both.sizes[name] for name in ("run", "step", "protocol", "klass", "concept")),))
    elicited[:, 2:, 1, 3, 0] = 1.0
    dims = ("run", "step", "protocol", "klass", "concept")
    return both.assign(capability_concept=(dims, elicited), capability_split=(dims[:-1], elicited[..., 1]))


def answers_of_groups(ds):
    """Two protocols, of which overprompting alone draws the masked colour; it draws it in the group at .2 alone."""
    both = xr.concat([ds, ds.assign_coords(protocol=["overprompt"])], "protocol", data_vars="minimal", join="override")
    dims = ("run", "step", "protocol", "klass", "concept")
    elicited = np.zeros(tuple(both.sizes[name] for name in dims))
    elicited[both["sep_size"].values == 0.2, :, 1, 3, 0] = 1.0
    return both.assign(capability_concept=(dims, elicited), capability_split=(dims[:-1], elicited[..., 0]))
