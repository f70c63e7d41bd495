"""The page of a study, made from its workdir, written and shown in a notebook."""

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

from etils import epath

from cspace_jax.analysis import learning, report, summary
from cspace_jax.config import to_dict
from cspace_jax.pipeline import collect
from cspace_jax.pipeline.study import Study
from cspace_jax.storage import results
from cspace_jax.storage.files import PathLike, located, write_atomic
from cspace_jax.storage.workdir import stored_json
from cspace_jax.studies import loading

HEIGHT = 900  # pixels of a page inside a notebook


@dataclasses.dataclass(frozen=True)
class Page:
    """A page shows a study and is complete in itself.

    As the last value of a notebook's cell it is shown there.

    Attributes:
      text: the page, HTML.
    """

    text: str

    def save(self, path: PathLike) -> epath.Path:
        """Write the page to a file, atomically, and return its path.

        Raises:
          UserError: it cannot be written.
        """
        write_atomic(path, self.text)
        return epath.Path(path)

    def _repr_html_(self) -> str:
        """Return the page in a frame, for a notebook."""
        return f'<iframe srcdoc="{html.escape(self.text)}" width="100%" height="{HEIGHT}" style="border:0"></iframe>'


def write(study: Study, folder: PathLike | None = None, found: Mapping[str, Any] | None = None) -> epath.Path:
    """Write the page of a study to report.html and return its path.

    `folder` is where it is written (None: the workdir). `found` is the summary of the stored results where it is known
    already; making it takes seconds.

    Raises:
      UserError: there are no results, they are damaged, or the file cannot be written.
    """
    own = study.workdir.report
    return make(study, found).save(own if folder is None else located(folder, "outdir") / own.name)


def make(study: Study, found: Mapping[str, Any] | None = None) -> Page:
    """Return the page of a study, made from its stored results alone.

    `found` is the summary of the results (None: it is made here).

    Raises:
      UserError: there are no results, or they are damaged.
    """
    from cspace_jax.explorer import page  # Plotly is loaded where a page is made

    ds, workdir = results.open_results(study.workdir.root), study.workdir
    ds = learning.with_definition(ds, study.config.learned)
    shown = report.to_json(found or summary.summarise(ds))
    question, config = loading.question(study.config.study), to_dict(study.as_evaluated(ds))
    env, times = stored_json(workdir.env), stored_json(workdir.times)
    return Page(page.render(page.Inputs(ds, shown, question, config, env, times, collect.Samples(study, ds))))
