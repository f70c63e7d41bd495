"""The pages of fields are what the declarations say."""

import pathlib

from cspace_jax.config import Config, reference
from cspace_jax.config.fields import declared

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_page_of_fields_is_what_the_declarations_say():
    page = (ROOT / "docs" / "config.md").read_text()
    assert page == reference.markdown(), "run: python -m cspace_jax.config.reference > docs/config.md"
    assert "| `optim.clip` | `0.01` | above 0 | global gradient norm" in page


def test_the_help_has_every_field_with_its_default_in_lines_that_fit():
    lines = reference.help_text(width=60).splitlines()
    assert max(map(len, lines)) <= 60
    entries = " ".join(lines).replace("     ", " ")
    for path, one, what in declared(Config):
        default = "none" if path in ("study", "scale") else repr(one.default)
        shown = f"{path} = {default}: {what.text}" if len(default) <= 80 else f"{path} = {default[:30]} ..."
        assert " ".join(shown.split()) in " ".join(entries.split()), path
    starts = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert starts == [path for path, _, _ in declared(Config)]


def test_a_star_marks_what_may_differ_when_a_workdir_is_entered_again():
    rows = dict(line.removeprefix("| ").split(" | ", 1) for line in reference.markdown().splitlines() if "| `" in line)
    marked = {name.strip("`* ") for name in rows if name.endswith(" *")}
    free = {path for path, _, what in declared(Config) if not what.affects_results}
    assert {name.strip("`* ") for name in rows} == {path for path, _, _ in declared(Config)} and marked == free
