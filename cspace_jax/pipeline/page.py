"""The page of a study: gather what it shows from the workdir, write it, show it in a notebook."""

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
    """A page that shows a study, complete in itself; the last value of a notebook's cell shows it."""

    text: str

    def save(self, path: PathLike) -> epath.Path:
        """Write the page to a file, atomically, and return its path.

        Raises:
          UserError: it cannot be written.
        """
        write_atomic(path, self.text)
        return epath.Path(path)

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.text)}" width="100%" height="{HEIGHT}" style="border:0"></iframe>'


def write(study: Study, folder: PathLike | None = None, found: Mapping[str, Any] | None = None) -> epath.Path:
    """Write the page of a study to report.html in a folder (None: its workdir), and return the path.

    `found` is the summary of its stored results where it is known already; it takes seconds.

    Raises:
      UserError: there are no results, they are damaged, or the file cannot be written.
    """
    own = study.workdir.report
    return make(study, found).save(own if folder is None else located(folder, "outdir") / own.name)


def make(study: Study, found: Mapping[str, Any] | None = None) -> Page:
    """Return the page of a study, from its stored results and their summary (`found`; None: made here) alone.

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
