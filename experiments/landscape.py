"""Draw the toy models of learning in concept space, and fit Eq. 1 to the trajectories of a finished study.

    python -m experiments.landscape --outdir=runs/landscape
    python -m experiments.landscape --outdir=runs/landscape --workdir=runs/signal

Writes fig5, fig9b, surface (energy with its trajectory) and swing_by (structured identity mapping) as PNG and PDF. With
a workdir also fit.png/.pdf (measured, fitted and predicted by the identity mapping at every level) and fit.json, where
the masked fraction varies by Eq. 2 instead of Eq. 1, and prints a table: a, the switching
times t1 and t2 in steps, rate per step and residual. Where the ratio of the signals varies, also shared_fit.json: all
levels fitted at once with a = ratio ** exponent and one rate. The equations are reconstructions, see
cspace_jax/analysis/landscape.py and shared_landscape.py.
"""

import json
from collections.abc import Sequence
from typing import Any

from etils import epath
from rich import box
from rich.table import Table

from cspace_jax.analysis import landscape, report
from cspace_jax.analysis.levels import Level
from cspace_jax.analysis.report import wide_console
from cspace_jax.analysis.shared_landscape import SharedFit
from cspace_jax.cli import scripts
from cspace_jax.errors import UserError
from cspace_jax.plots import landscapes, style
from cspace_jax.storage import results
from cspace_jax.storage.files import write_atomic

NAMES = ("a", "t1", "t2", "rate")


def describe(level: Level, found: landscape.Fit) -> dict[str, Any]:
    """Return a fit as plain numbers."""
    return {
        "level": level.label,
        **{name: {"value": getattr(found, name), "interval": found.intervals[name]} for name in NAMES},
        "biased_target": found.biased,
        "residual": found.residual,
    }


def describe_shared(levels: Sequence[Level], found: SharedFit) -> dict[str, Any]:
    """Return the fit of all levels at once as plain numbers."""
    rows = zip(levels, found.a, found.t1, found.t2, found.residuals, strict=True)
    return {
        "exponent": {"value": found.exponent, "interval": found.interval},
        "rate": found.rate,
        "levels": [
            {"level": level.label, **dict(zip(("a", "t1", "t2", "residual"), map(float, row), strict=True))}
            for level, *row in rows
        ],
    }


def sentence(found: SharedFit, fits: Sequence[tuple[Level, landscape.Fit]]) -> str:
    """Return the exponent and what it costs against a free a a level, in one line."""
    low, high = found.interval
    free = [one.residual for _, one in fits]
    costs = f"rms {found.residuals.mean():.3f} on average, with an a of its own a level {sum(free) / len(free):.3f}"
    return (
        f"a = (ratio of signals) ** {found.exponent:.2f} [{low:.2f}, {high:.2f}] and one rate for all levels: {costs}"
    )


def table_of(fits: Sequence[tuple[Level, landscape.Fit]]) -> Table:
    """Return the fits as a table, one row a level; intervals are in fit.json, that of a also here."""
    table = Table(
        title="Eq. 1 (at a masked fraction Eq. 2) fitted to class means over seeds", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for name in ("level", "a [95 %]", "t1", "t2", "rate", "biased", "rms"):
        table.add_column(name, justify="right", no_wrap=True)
    for level, found in fits:
        low, high = found.intervals["a"]
        a = f"{found.a:.2f} [{low:.2f}, {high:.2f}]"
        biased = f"({found.biased[0]:g}, {found.biased[1]:g})"
        numbers = (f"{found.t1:,.0f}", f"{found.t2:,.0f}", f"{found.rate:.2g}")
        table.add_row(level.label, a, *numbers, biased, f"{found.residual:.3f}")
    return table


def run(arguments: Sequence[str]) -> None:
    """Carry out the command line.

    Raises:
      UserError: the user can put something right, such as bad arguments.
    """
    parser = scripts.Parser(prog="python -m experiments.landscape", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--outdir", required=True, help="folder for figures and fits")
    parser.add_argument("--workdir", default="", help="finished study whose trajectories are fitted; none: toys only")
    parser.add_argument("--form", default="notebook_a", help=f"fan of fig5: {', '.join(landscape.FORMS)}")
    flags = parser.parse_args(arguments)
    if flags.form not in landscape.FORMS:
        raise UserError(f"form = {flags.form!r}: must be one of {', '.join(landscape.FORMS)}")
    ds = results.open_results(flags.workdir) if flags.workdir else None
    outdir = epath.Path(flags.outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    drawn = {
        "fig5": landscapes.fig5(flags.form),
        "fig9b": landscapes.fig9b(),
        "surface": landscapes.surface(),
        "swing_by": landscapes.swing_by(),
    }
    if ds is not None:
        drawn["fit"], fits, shared = landscapes.measured(ds)
        text = json.dumps(report.to_json([describe(*one) for one in fits]), indent=2, allow_nan=False)
        write_atomic(outdir / "fit.json", (text + "\n").encode())
        wide_console().print(table_of(fits))
        if shared is not None:
            text = json.dumps(report.to_json(describe_shared([level for level, _ in fits], shared)), indent=2)
            write_atomic(outdir / "shared_fit.json", (text + "\n").encode())
            print(sentence(shared, fits))
    for name, figure in drawn.items():
        style.save(figure, outdir / name)
    print(f"{2 * len(drawn)} figures in {outdir}")


if __name__ == "__main__":
    scripts.start(run)
