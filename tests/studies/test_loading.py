"""Studies by their name or file: those of the package, those of a user, and the command that leads back to one."""

import ast
import json
import pathlib
import shlex

import numpy as np
import pytest

from configs import STUDIES
from cspace_jax.config import from_config_dict, to_dict
from cspace_jax.errors import UserError
from cspace_jax.studies import loading


def test_every_file_of_a_study_is_known_by_its_name_and_has_a_config():
    assert set(loading.STUDIES) == set(STUDIES) and len(loading.STUDIES) == len(STUDIES)
    assert loading.STUDIES[0] == "signal"


def own_file(tmp_path: pathlib.Path, *lines: str) -> str:
    """The study of a user in another folder, as the README shows it."""
    head = ["import numpy as np", "from cspace_jax.studies import base", "", "", "def get_config(scale=None):"]
    body = ["    config = base.get_config('mine', scale)", *(f"    {line}" for line in lines), "    return config", ""]
    (tmp_path / "mine.py").write_text("\n".join([*head, *body]))
    return f"{tmp_path / 'mine.py'}:smoke"


def test_the_readmes_file_of_ones_own_is_a_study(tmp_path):
    readme = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
    code = readme.split("A study of your own")[1].split("```python\n")[1].split("```")[0]
    (tmp_path / "mine.py").write_text(code)
    config = loading.configure(f"{tmp_path / 'mine.py'}:quick", {})
    assert (config.study, config.scale, config.grid.sep_col) == ("mine", "quick", (0.2, 0.5, 0.8))


def test_a_study_of_ones_own_may_hold_ranges_arrays_and_whole_floats(tmp_path):
    name = own_file(
        tmp_path, "config.grid.sep_col = np.linspace(0.2, 0.8, 3, dtype=np.float32)", "config.grid.seeds = range(3)",
        "config.save.steps = np.array([2.0, 4.0])", "config.optim.steps = 1e1", "config.optim.clip = np.float64(0.5)",
    )  # fmt: skip
    config = loading.configure(name, {})
    assert config.grid.sep_col == (pytest.approx(0.2), 0.5, 0.8) and config.grid.sep_col[2] == 0.8
    assert (config.grid.seeds, config.save.steps, config.optim.steps) == ((0, 1, 2), (2, 4), 10)
    assert type(config.optim.clip) is float and json.loads(json.dumps(to_dict(config)))["grid"]["seeds"] == [0, 1, 2]
    swept = loading.configure(name, {"sep_size": np.linspace(0.2, 0.4, 2), "seeds": range(2)})
    assert (swept.grid.sep_size, swept.grid.seeds) == ((0.2, 0.4), (0, 1))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("config.grid.sep_colour = (0.2,)", "AttributeError: unknown field 'sep_colour', did you mean 'sep_col'?"),
        ("config.optim.steps = 'many'", "TypeError: "),
        ("config.optim.steps = 1.5", "TypeError: "),
        ("config.optim.steps = missing", "NameError: name 'missing' is not defined"),
        ("np.linspace(0, 1, 'three')", "TypeError: "),
    ],
)
def test_a_mistake_in_a_study_of_ones_own_names_its_line(line, words, tmp_path):
    name = own_file(tmp_path, "config.grid.seeds = (1,)", line)
    with pytest.raises(UserError) as raised:
        loading.configure(name, {})
    assert words in str(raised.value) and str(raised.value).endswith(f"({tmp_path / 'mine.py'}, line 8)")


def test_the_command_of_a_configuration_leads_back_to_it():
    from cspace_jax.cli import arguments
    from cspace_jax.studies import loading

    overrides = {"grid.seeds": (3, 4), "network.channels": (8, 16), "optim.decay": "cosine", "data.blur": 0.5}
    config = loading.configure("signal:quick", overrides | {"elicit.protocols": ("overprompt", "latent")})
    command = loading.command_of(config, config)
    assert command.startswith("python -m cspace_jax.main --config=signal:quick --workdir=NEW ")
    words = shlex.split(command)[3:]
    fields = dict(word.removeprefix("--config.").split("=", 1) for word in words if word.startswith("--config."))
    read = {name: ast.literal_eval(value) if value[0] in "(0123456789" else value for name, value in fields.items()}
    assert loading.configure("signal:quick", read) == config
    mine = from_config_dict(to_dict(config) | {"study": "mine"})
    other = loading.command_of(from_config_dict(to_dict(mine) | {"grid": {"seeds": (5,)}}), mine)
    assert "--config=YOUR_FILE.py:quick" in other and "--config.grid.seeds=(5,)" in other
    assert arguments.values(words, "config") == ["signal:quick"]


def test_a_scale_is_no_override_and_not_empty():
    with pytest.raises(UserError, match="^scale = 'paper': would only change the label; choose it by signal:paper$"):
        loading.configure("signal:smoke", {"scale": "paper"})
    with pytest.raises(UserError, match="^config = 'signal:': the scale must be one of smoke, quick, paper, or leave"):
        loading.configure("signal:", {})
