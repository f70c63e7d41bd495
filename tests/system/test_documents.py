"""The documents: short, of short lines, and every name of the code that they give exists."""

import ast
import pathlib
import re

import pytest

import cspace_jax as cs
from cspace_jax.plots import figures

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "BUILD_NOTES.md", *(ROOT / "docs").glob("*.md")])
MOST_LINES = {"README.md": 120, "BUILD_NOTES.md": 60, "config.md": 400}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_short_and_its_links_and_files_exist(page):
    lines = page.read_text().splitlines()
    assert len(lines) <= MOST_LINES.get(page.name, 155)
    assert [line for line in lines if len(line) > 300] == []
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert "://" in target or (page.parent / target).exists(), target
    for module in re.findall(r"`((?:cspace_jax|experiments|tests)/[\w/]+\.py)`", text):
        assert (ROOT / module).exists(), module


def lines_without_docstring(node):
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)


def test_modules_and_functions_are_short():
    files = sorted((ROOT / "cspace_jax").rglob("*.py"))
    assert len(files) > 150
    for file in files:
        text = file.read_text()
        assert text.count("\n") <= 400, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert lines_without_docstring(node) <= 40, (file, node.name)


MOST_WORDS = 20  # of the first sentence of a docstring
# Stored answers are found by the source text of these protocols (`protocols.fingerprint`): it stays as it is.
HASHED = {"naive_repeats", "latent"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def first_sentences(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), re.split(r"(?<=[.?!])\s", text)[0]


@pytest.mark.parametrize("folder", ["cspace_jax", "experiments"])
def test_first_sentences_of_docstrings_are_short(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    found = [(file, *one) for file in files for one in first_sentences(file)]
    assert len(found) > 100
    long = {name: f"{file}: {text}" for file, name, text in found if len(text.split()) > MOST_WORDS}
    assert set(long) <= HASHED, "\n".join(long.values())


def test_every_public_name_is_on_the_page_of_the_api():
    text = (ROOT / "docs" / "api.md").read_text()
    shown = set(re.findall(r"^::: \S+\.(\w+)$", text, re.MULTILINE)) | set(re.findall(r"`cs\.(\w+)`", text))
    assert sorted(set(cs.__all__) - shown) == []


def test_every_script_is_in_the_table_of_scripts():
    text = (ROOT / "docs" / "scripts.md").read_text()
    scripts = {file.stem: file.read_text() for file in (ROOT / "experiments").glob("*.py")}
    started = [name for name, code in scripts.items() if "Parser(" in code and f"python -m experiments.{name}" in code]
    assert len(started) > 12 and [name for name in started if not re.search(rf"`{name}[ `]", text)] == []


def test_every_figure_is_in_the_table_of_figures():
    text = (ROOT / "docs" / "figures.md").read_text()
    assert [name for name in figures.names() if f"`{name}`" not in text] == []
