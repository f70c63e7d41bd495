"""Compare a finished colour sweep or grid of signals with the numbers published for it.

    python -m experiments.compare_published --workdir=runs/signal

Prints, per level, the measured number beside the published one (`cspace_jax/analysis/published.py` has definitions and
origin), and draws them. A level is compared with the published level of exactly its sep_col and sep_size. If the
workdir is not at the paper's setting, published step numbers do not apply to it: each level is then put beside the
nearest published one (marked ~) and only the order of the levels is compared.

`python -m cspace_jax.main --mode=compare --workdirs="('runs/signal', 'published:signal')"` does the same from an
installed package.
"""

from collections.abc import Sequence

from cspace_jax.analysis import published, published_tables
from cspace_jax.cli import scripts
from cspace_jax.plots import published as drawing
from cspace_jax.plots import style
from cspace_jax.storage import results, workdir


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: bad input.
    """
    made = scripts.Parser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--workdir", required=True, help="folder of the finished study")
    made.add_argument("--out", default="", help="figure without its ending; empty: WORKDIR/figures/published")
    args = made.parse_args(list(arguments))
    folder, config = workdir.load(args.workdir)
    ds = results.open_results(folder.root)
    parts = published.beside(ds, config)
    published_tables.print_parts(parts, ds, config, published_tables.wide_console())
    if any(part.rows for part in parts):
        drawn = drawing.figure(ds, parts, comparable=not published.deviations(config))
        print(*style.save(drawn, args.out or folder.figures / "published"), sep="\n")


if __name__ == "__main__":
    scripts.start(run)
