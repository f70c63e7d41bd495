"""What command lines share: how a script starts."""

import pytest

from cspace_jax import startup
from cspace_jax.cli import scripts
from cspace_jax.errors import UserError


def test_a_setting_of_jax_that_is_refused_is_one_line_in_scripts_too(monkeypatch, capsys):
    def refused():
        raise UserError("JAX_ENABLE_X64 = 'foo': must be false")

    monkeypatch.setattr(startup, "restart_with_allocator_settings", lambda: None)
    monkeypatch.setattr(startup, "set_up_jax", refused)
    with pytest.raises(SystemExit) as exit_:
        scripts.start(lambda _: pytest.fail("the script was called"))
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: JAX_ENABLE_X64 = 'foo': must be false\n"
