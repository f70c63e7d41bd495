"""Definition 2 of the paper: the capability to alter a concept of the classes that were seen in training. NumPy only.

"The model possesses the capability to alter the i-th concept if for any class C whose samples were seen during
training, the model can produce samples from class C' that differs from C in the i-th concept" (paper section 3, symbols
restored). Asked for is the class with that one bit flipped; "for any" is read as for all: the weakest seen class tells.

Reconstructions, as the definition gives no measure: "can produce" is 80 % of the samples at every save from some save
to the last (the paper's threshold of learning); the samples of C' are judged twice, by all concepts of C' and by the
altered one alone, since a concept class may fix a subset of the concepts; seen and unseen C' both count, as the
definition leaves it open, and each pair of classes says which it is.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from cspace_jax.analysis import capability
from cspace_jax.analysis.learning import describe_times, whole
from cspace_jax.analysis.levels import Level, levels
from cspace_jax.analysis.summary_blocks import summary_block

Pairs = list[tuple[int, int]]  # (class seen in training, class asked for)


def neighbours(bits: Int[np.ndarray, "k c"], trained: Bool[np.ndarray, " k"], concept: int) -> Pairs:
    """Return a pair (seen class, class asked for) for every trained class whose neighbour exists.

    The neighbour differs from it in `concept` alone. bits [k, c], trained [k].
    """
    index = {tuple(map(int, row)): klass for klass, row in enumerate(bits)}
    pairs = []
    for seen in np.flatnonzero(trained).tolist():
        other = [int(bit) for bit in bits[seen]]
        other[concept] = 1 - other[concept]
        if tuple(other) in index:
            pairs.append((seen, index[tuple(other)]))
    return pairs


def weakest(
    ds: xr.Dataset, level: Level, pairs: Pairs, concept: int, protocol: str, names: tuple[str, str]
) -> dict[str, Float[np.ndarray, "r t"]]:
    """Return what a protocol reaches in the weakest of the classes asked for, as curves [r, t].

    "class" counts all concepts, "concept" counts `concept` alone. names: the variables of the two, [run, step,
    protocol, klass] and the same with a concept, in 0..1.
    """
    chosen = ds[list(names)].sel(protocol=protocol).isel(run=list(level.runs), klass=[asked for _, asked in pairs])
    single = chosen[names[1]].isel(concept=concept)
    both = {"class": chosen[names[0]], "concept": single}
    return {name: one.transpose("klass", "run", "step").values.min(axis=0) for name, one in both.items()}


@summary_block("capability_of_concept")
def summarise(ds: xr.Dataset) -> dict[str, Any]:
    """Return the capability to alter each concept (Definition 2) by level and concept, as plain dicts and lists.

    `pairs`: seen class, class asked for, whether it is held out, and steps at which naive prompting alters the concept.
    `naive`: over all pairs, by accuracy. `protocols`: over the pairs whose class asked for is held out, by the split
    estimate of P(class), which does not gain from taking the best query; naive prompting among them, measured alike; {}
    without a battery and for a concept that makes no seen class a held-out one. Each has `class` (all concepts of the
    class asked for) and `concept` (the altered one alone): emergence over seeds, whose `fraction` is that of the seeds
    with the capability at the last save, and the mean over seeds at every save.
    """
    alive = [level for level in levels(ds) if level.runs]
    names = ds["concept"].values.tolist()
    return {
        "steps": ds["step"].values.tolist(),
        "levels": [
            {
                "label": level.label, "setting": level.setting,
                "concepts": {name: _concept_block(ds, level, i) for i, name in enumerate(names)},
            }
            for level in alive
        ],
    }  # fmt: skip


def _concept_block(ds: xr.Dataset, level: Level, concept: int) -> dict[str, Any]:
    pairs = neighbours(ds["bit"].values, ds["trained"].values, concept)
    if not pairs:  # e.g. one trained class alone among the classes
        return {"pairs": [], "naive": {}, "protocols": {}}
    held_out = [(seen, asked) for seen, asked in pairs if not ds["trained"].values[asked]]
    by_accuracy, by_split = ("joint_accuracy", "accuracy"), ("capability_split", capability.CONCEPT)
    naive = str(ds["protocol"].values[0])
    asked_more = ds["protocol"].values.tolist() if held_out and all(name in ds for name in by_split) else []
    return {
        "pairs": [_pair_block(ds, level, pair, weakest(ds, level, [pair], concept, naive, by_accuracy))
                  for pair in pairs],
        "naive": _describe(ds, weakest(ds, level, pairs, concept, naive, by_accuracy)),
        "protocols": {
            name: _describe(ds, weakest(ds, level, held_out, concept, name, by_split)) for name in asked_more
        },
    }  # fmt: skip


def _pair_block(
    ds: xr.Dataset, level: Level, pair: tuple[int, int], scores: dict[str, Float[np.ndarray, "r t"]]
) -> dict[str, Any]:
    seen, asked = (str(ds["klass"].values[klass]) for klass in pair)
    emergence = {name: _emergence(ds, one) for name, one in scores.items()}
    return {"seen": seen, "asked": asked, "held_out": not bool(ds["trained"].values[pair[1]]), "emergence": emergence}


def _emergence(ds: xr.Dataset, scores: Float[np.ndarray, "r t"]) -> dict[str, Any]:
    """Describe when curves [r, t] emerge, those left out that a broken query leaves unknown."""
    steps = ds["step"].values
    return describe_times(capability.emergence(steps, scores[whole(scores)]), steps)


def _describe(ds: xr.Dataset, scores: dict[str, Float[np.ndarray, "r t"]]) -> dict[str, Any]:
    known = {name: one[whole(one)] for name, one in scores.items()}
    return {
        name: {
            "emergence": _emergence(ds, one),
            "mean": one.mean(axis=0).tolist() if len(one) else [float("nan")] * one.shape[1],
        }
        for name, one in known.items()
    }
