"""Draw every figure and write every table of the documents again, from the result files of docs/data.

    python -m experiments.redraw_docs            # tables and figures
    python -m experiments.redraw_docs --check    # only says what differs from the result files
    python -m experiments.redraw_docs --keep=signal=runs/signal    # takes a finished workdir's results into docs/data

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. How the result files were made: docs/results.md.
"""

import pathlib
import re
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np
from etils import epath

import cspace_jax as cs
from cspace_jax.analysis.levels import levels
from cspace_jax.cli import scripts
from cspace_jax.config import from_config_dict
from cspace_jax.errors import UserError
from cspace_jax.pipeline import collect
from cspace_jax.plots.figures import Inputs, draw_all
from cspace_jax.plots.registry import Samples
from cspace_jax.storage import results
from experiments.docs_results import DATA, Results
from experiments.docs_tables import TABLES

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/results.md",
    "docs/claims.md",
    "docs/statistics.md",
    "docs/fidelity.md",
    "docs/results-sources.md",
)
# file in docs: study, figure
FIGURES = {
    "trajectories.png": ("signal", "fig4"),
    "samples.png": ("signal", "samples"),
    "dynamics.gif": ("signal", "gif"),
    "elicitation.png": ("hidden", "elicitation"),
    "underspec.png": ("underspec", "fig9"),
    "digits.png": ("digits", "fig4"),
    "digits_samples.png": ("digits", "samples"),
    "faces.png": ("faces", "fig14"),
    "three.png": ("three", "fig15"),
}
KEPT = 2  # sample images of each class
OF_SAMPLES = ("samples", "gif", "fig14")  # figures that show some
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def rewritten(text: str, found: Results) -> str:
    """Return a page with every table made anew.

    Raises:
      UserError: a table is unknown.
    """

    def made(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise UserError(f"table {match[2]!r}: must be one of {', '.join(TABLES)}")
        return match[1] + "\n".join(TABLES[match[2]](found)) + "\n" + match[4]

    return _TABLE.sub(made, text)


def outdated(found: Results, root: pathlib.Path = ROOT) -> list[str]:
    """Return the pages whose tables differ from the result files."""
    return [page for page in PAGES if rewritten((root / page).read_text(), found) != (root / page).read_text()]


def samples_of(study: str, found: Results) -> Samples:
    """Return the kept sample images of a study: step -> uint8 [r, k, n, h, w, 3].

    Return {} where none are kept. Images of runs that were not kept are 0.
    """
    file = found.folder / f"{study}_samples.npz"
    if not file.exists():
        return {}
    with np.load(file) as stored:
        runs = found.dataset(study).sizes["run"]
        images, rows = stored["images"], stored["runs"]  # [t, r, k, n, h, w, 3]
        full = np.zeros((images.shape[0], runs, *images.shape[2:]), np.uint8)
        full[:, rows] = images
        return dict(zip(stored["steps"].tolist(), full, strict=True))


def keep(study: str, workdir: str, folder: pathlib.Path) -> None:
    """Copy a workdir's results into a folder.

    For figures that show samples, some of each level's first run that did not fail are kept as well.

    Raises:
      UserError: there are no results, or no sample images where figures show some.
    """
    opened = cs.open_study(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(opened.workdir.dataset, folder / f"{study}.nc")
    if opened.workdir.examples.exists():
        shutil.copy(opened.workdir.examples, folder / f"{study}_examples.npz")
    if any(one == study and figure in OF_SAMPLES for one, figure in FIGURES.values()):
        runs = np.array([level.runs[0] for level in levels(opened.dataset) if level.runs])
        images = collect.Samples(opened, opened.dataset)
        if images.missing:
            raise UserError(f"workdir = {workdir}: {images.missing}")
        np.savez_compressed(
            folder / f"{study}_samples.npz", runs=runs, steps=np.array(sorted(images)),
            images=np.stack([images[step][runs, :, :KEPT] for step in sorted(images)]),
        )  # fmt: skip
    print(f"{folder / study}.nc")


def redraw(found: Results, docs: pathlib.Path) -> None:
    """Draw the figures of the documents into a folder."""
    for file, (study, name) in FIGURES.items():
        ds = found.dataset(study)
        data, examples = from_config_dict(results.config_of(ds)).data, found.folder / f"{study}_examples.npz"
        shown = np.load(examples)["images"] if examples.exists() else None
        with tempfile.TemporaryDirectory() as scratch:
            draw_all(Inputs(ds, samples_of(study, found), data, shown), epath.Path(scratch), (name,))
            drawn = next(path for path in sorted(pathlib.Path(scratch).iterdir()) if path.suffix == f".{file[-3:]}")
            shutil.copy(drawn, docs / file)
        print(f"docs/{file}")


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    parser = scripts.Parser(prog="python -m experiments.redraw_docs", description="Redraw the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 2 where a table or checksum differs")
    parser.add_argument("--keep", default="", help="STUDY=WORKDIR whose results become docs/data/STUDY.nc")
    asked = parser.parse_args(arguments)
    if asked.keep:
        study, _, workdir = asked.keep.partition("=")
        keep(study, workdir, DATA)
        return
    found = Results()
    if asked.check:
        if stale := found.stale():
            names = ", ".join(f"{name}.json" for name in stale)
            scripts_again = ", ".join(f"python -m experiments.{name}" for name in stale)
            raise UserError(f"docs/data: {names} were measured on other result files; run {scripts_again} again")
        pages = outdated(found)
        if pages:
            raise UserError(f"{', '.join(pages)}: tables differ from docs/data; run python -m experiments.redraw_docs")
        return
    for page in PAGES:
        (ROOT / page).write_text(rewritten((ROOT / page).read_text(), found))
        print(page)
    redraw(found, ROOT / "docs")


if __name__ == "__main__":
    scripts.start(run)
