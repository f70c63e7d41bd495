"""A study as a plain dataset: the rows of its tables, and the card that explains them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cspace_jax.config.setting import SWEPT
from cspace_jax.data.classes import Classes
from cspace_jax.data.source import Layout
from cspace_jax.storage.results import shortest


@dataclasses.dataclass(frozen=True)
class Images:
    """What is known of images, one entry an image [n].

    Attributes:
      names: paths of their files.
      klass: class asked for.
      vectors: conditioning vectors.
      prob: probe reading P(bit = 1); None where they were not read.
    """

    names: Sequence[str]
    klass: Int[np.ndarray, " n"]
    vectors: Float[np.ndarray, "n d"]
    prob: Float[np.ndarray, "n c"] | None = None


def rows(images: Images, classes: Classes, layout: Layout, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table with one row an image, its file first; a reading of NaN is empty.

    Args:
      images: the images.
      classes: their classes.
      layout: of the conditioning vectors.
      facts: columns after the first: values for all images, or [n].
    """
    bits = classes.bits[images.klass]
    words = np.array([classes.describe(k) for k in range(classes.num)])
    columns: dict[str, Any] = {"file_name": images.names, **facts}
    columns |= {
        "klass": np.array(classes.names)[images.klass], "words": words[images.klass],
        "trained": classes.trained[images.klass].astype(int),
    }  # fmt: skip
    columns |= {f"bit_{name}": bits[:, c] for c, name in enumerate(classes.active)}
    columns |= {name: shortest(images.vectors[:, i]) for i, name in enumerate(_entries(layout))}
    if images.prob is not None:
        columns |= {f"prob_{name}": shortest(images.prob[:, c]) for c, name in enumerate(classes.active)}
        known = ~np.isnan(images.prob).any(axis=1)
        columns["read_as"] = np.where(known, words[_class_index(images.prob > 0.5)], "")
    return pd.DataFrame(columns)


def _class_index(bits: Bool[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    return bits @ (2 ** np.arange(bits.shape[1])[::-1])


def _entries(layout: Layout) -> list[str]:
    """Return the name of each entry of a conditioning vector, such as asked_size or asked_color_0."""
    names = []
    for name, start, stop in layout.entries:
        names += [f"asked_{name}_{i}" for i in range(stop - start)] if stop - start > 1 else [f"asked_{name}"]
    return names


def setting_facts(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the swept numbers of a run as columns."""
    return {name: f"{float(setting[name]):.10g}" for name in SWEPT}


_COLUMNS = {
    "file_name": "the picture, 8 bits a channel; x to the right, y upwards",
    "run": "number of the run, as in concept_space.csv",
    "seed": "of the run",
    **dict.fromkeys(SWEPT, ""),
    "status": "ok, or diverged: the run became NaN",
    "step": "training steps done",
    "protocol": "how it was asked for; naive = by its own conditioning vector",
    "sample": "number of the sample; the same noise at every step",
    "klass": 'code of the class that was asked for, one bit a concept (text: read it with `dtype={"klass": str}`)',
    "words": "the same in words",
    "trained": "1 = the class was trained on, 0 = it was never seen",
    "bit_*": "bit of each concept that was asked for",
    "asked_*": "the conditioning vector that the network was given, entry by entry (of a color: r, g, b)",
    "prob_*": "what the probe reads from the picture: P(bit = 1) of each concept; empty = the run diverged",
    "read_as": "the class that the probe reads, in words",
}


_CARD = """\
---
pretty_name: {{ name | tojson }}
tags: ["image", "cspace_jax"]
configs: {{ parts | tojson }}
---

# Study {{ name }}

{{ question }}

Diffusion models trained on some combinations of concepts, sampled while they learn: {{ runs }} runs ({{ swept }}) at \
{{ steps }} steps.

| file | what it holds |
|---|---|
| samples/ | {{ tables.samples | length }} pictures drawn by the models, and metadata.csv with a row for each |
{% if "examples" in tables %}
| examples/ | {{ tables.examples | length }} pictures of every class, made as those for training, and metadata.csv |
{% endif %}
| concept_space.csv | coordinates of every run, step, protocol and class, from all samples, not the kept ones alone |
| config.json | the configuration |

## Columns of metadata.csv

| column | meaning |
|---|---|
{% for column, meaning in columns.items() %}
| {{ column }} | {{ meaning }} |
{% endfor %}

## Use

```python
import pandas as pd

table = pd.read_csv("samples/metadata.csv", dtype={"klass": str})
unseen = table[(table.trained == 0) & (table.step == table.step.max())]

from datasets import load_dataset  # Hugging Face

samples = load_dataset(".", "samples", split="train")
```

The command that makes it again, with cspace_jax:

```bash
{{ command }}
```
"""


def card(name: str, question: str, command: str, config: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the README.md of a dataset, with the header that tells Hugging Face `datasets` its parts.

    Args:
      name: of the study.
      question: of the study, one line; "" = unknown.
      command: that makes it again.
      config: its configuration.
      tables: "samples" and perhaps "examples", each with the table of a folder of that name.
    """
    swept = ", ".join(f"{axis} {values}" for axis, values in config["grid"].items() if len(values) > 1)
    template = jinja2.Template(_CARD, trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    return template.render(
        name=name,
        question=f"{question[:1].upper()}{question[1:]}",
        command=command,
        swept=swept or "one setting",
        runs=tables["samples"]["run"].nunique(),
        steps=tables["samples"]["step"].nunique(),
        parts=[{"config_name": part, "data_dir": part} for part in tables],
        tables=tables,
        columns={column: text or "swept number of the run" for column, text in _COLUMNS.items()},
    )
