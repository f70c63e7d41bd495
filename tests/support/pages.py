"""The page of a study, and what is read out of its text."""

import base64
import json
import re

import numpy as np

from cspace_jax.analysis import summary
from cspace_jax.analysis.report import to_json
from cspace_jax.explorer import page


def summarised(ds):
    return to_json(summary.summarise(ds))


def rendered(ds, samples=None, **more):
    inputs = {"question": "When?", "config": {}, "env": {}, "times": {}} | more
    return page.render(page.Inputs(ds=ds, summary=summarised(ds), samples=samples or {}, **inputs))


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def unpacked(values):
    return np.frombuffer(base64.b64decode(values["f32"]), "<f4").reshape(values["shape"])
