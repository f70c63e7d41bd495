"""The lines of Python in the README run as they stand."""

from commands import ROOT


def test_the_lines_from_python_and_notebooks(tmp_path, monkeypatch):
    """At smoke scale, and of a step that it saves."""
    start = "import cspace_jax as cs\n\nconfig ="
    block = (ROOT / "README.md").read_text().split(start)[1].split("```")[0]
    assert block.count("signal:quick") == 1 and block.count("step=2400") == 1
    code = start + block.replace("signal:quick", "signal:smoke").replace("step=2400", "step=6")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["images"].shape == (8, 8, 8, 3)
    protocols = names["cs"].open_study("runs/signal").dataset["protocol"].values.tolist()
    assert protocols == ["naive", "naive_repeats", "latent", "latent_random"]
