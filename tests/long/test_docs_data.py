"""Tables and figures of the documents are those of the kept result files."""

import pathlib
import sys

import pytest

from cspace_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import docs_results, docs_tables, redraw_docs  # noqa: E402 (a folder of scripts, found from the root)

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def found():
    return docs_results.Results()


def test_every_table_of_the_documents_equals_the_result_files(found):
    assert redraw_docs.outdated(found) == []
    text = "".join((ROOT / page).read_text() for page in redraw_docs.PAGES)
    for name in docs_tables.TABLES:
        assert text.count(f"<!-- table: {name} -->\n|") == 1, name


def test_a_changed_number_is_found(found, tmp_path):
    for page in redraw_docs.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text((ROOT / page).read_text())
    assert redraw_docs.outdated(found, tmp_path) == []
    readme = (tmp_path / "README.md").read_text()
    number = docs_tables.expect(found)[2].split("|")[2]
    (tmp_path / "README.md").write_text(readme.replace(number, " 7 ", 1))
    assert redraw_docs.outdated(found, tmp_path) == ["README.md"]


def test_numbers_that_were_measured_on_other_result_files_are_found(found, tmp_path, monkeypatch):
    assert found.stale() == []
    for file in docs_results.DATA.iterdir():
        if file.suffix in (".json", ".nc"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "hidden.nc").open("ab") as file:
        file.write(b"0")
    assert docs_results.Results(tmp_path).stale() == ["false_alarms"]
    monkeypatch.setattr(redraw_docs, "Results", lambda: docs_results.Results(tmp_path))
    with pytest.raises(UserError, match="false_alarms.json were measured on other result files"):
        redraw_docs.run(["--check"])
    (tmp_path / "signal.nc").unlink()
    assert docs_results.Results(tmp_path).stale() == ["false_alarms", "coverage"]


def test_result_files_are_small_and_hold_what_is_drawn(found):
    for file in docs_results.DATA.iterdir():
        assert file.stat().st_size < 5 * MEGABYTE, file
    for study, figure in redraw_docs.FIGURES.values():
        assert figure not in redraw_docs.OF_SAMPLES or redraw_docs.samples_of(study, found)


def test_a_figure_of_the_documents_is_drawn_from_them(found, tmp_path, monkeypatch):
    monkeypatch.setattr(redraw_docs, "FIGURES", {"trajectories.png": ("signal", "fig4")})
    redraw_docs.redraw(found, tmp_path)
    assert (tmp_path / "trajectories.png").read_bytes()[:4] == b"\x89PNG"


def test_an_unknown_table_is_one_line(found):
    with pytest.raises(UserError, match="table 'none': must be one of signal, hidden"):
        redraw_docs.rewritten("<!-- table: none -->\n<!-- end -->", found)
