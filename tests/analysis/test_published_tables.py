"""Tables of a study beside the published numbers: cells, marks of nearest levels, what is said of scale and order."""

import io

import synthetic
from rich.console import Console

from cspace_jax.analysis import published, published_tables
from cspace_jax.config import SaveConfig
from cspace_jax.studies import loading


def text_of(print_it):
    console = Console(width=150, file=io.StringIO())
    print_it(console)
    return console.file.getvalue()


def rows_of(ds, nearest):
    numbers = published.trajectory_levels(published.load_published())
    return published.match(ds, numbers, published.measure_trajectory, nearest=nearest)


def test_a_row_has_both_numbers_and_the_mark_of_a_nearest_level():
    rows = rows_of(synthetic.dataset(levels=(0.1, 0.8)), nearest=False)
    rows += rows_of(synthetic.dataset(levels=(0.2, 0.7)), nearest=True)
    columns = {key: published.TRAJECTORY[key] for key in ("t80_color", "min_blue")}
    table = published_tables.table(rows, columns, "Trajectories")
    text = text_of(lambda console: console.print(table))
    cells = {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line.startswith("sep_col=")}
    weak, strong = rows[:2]
    depth = f"{weak.ours['min_blue']:.2f} | {weak.published['min_blue']:.2f}"
    assert cells["sep_col=0.1"] == f"sep_col=0.1 0.1, 0.4 never | never {depth}"
    times = f"{strong.ours['t80_color']:,.0f} | {strong.published['t80_color']:,.0f}"
    assert "," in times and f"sep_col=0.8 0.8, 0.4 {times} " in cells["sep_col=0.8"]
    assert cells["sep_col=0.7"].startswith("sep_col=0.7 ~0.726, 0.4 ")


def test_it_is_said_whether_steps_compare_and_how_well_the_order_agrees():
    config = loading.configure("signal:quick", {})
    ds = synthetic.dataset(levels=(0.1, 0.8), diverged=(1,))
    parts = [published.Part("Trajectories", {"t80_color": "T80 colour"}, rows_of(ds, nearest=True))]
    empty = published.Part("Times", published.LEARNED, [])
    text = text_of(lambda console: published_tables.print_parts([*parts, empty], ds, config, console))
    flat = " ".join(text.split())
    assert "NOT AT PAPER SCALE (scale quick; differing: " in flat and f"{published_tables.MAX_NAMED} more" not in flat
    assert flat.split("differing: ")[1].split(" and ")[0].count(",") == published_tables.MAX_NAMED - 1
    assert "Seeds: 3, published 5. 1 runs diverged and are left out." in flat
    assert "order of T80 colour over 2 level(s): rank correlation +1.00" in flat
    assert "Times: no level of this study was published." in flat
    paper = loading.configure("signal:paper", {"save.start": SaveConfig().start})
    assert "At the paper's setting" in text_of(lambda one: published_tables.print_parts([], ds, paper, one))
    single = [published.Part("", {"t80_color": "T80 colour"}, parts[0].rows[:1])]
    assert "rank correlation not defined" in text_of(
        lambda console: published_tables.print_parts(single, ds, paper, console)
    )
