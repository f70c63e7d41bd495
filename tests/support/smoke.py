"""Smoke studies as commands make them, one for each kind of program."""

from commands import NARROW, SHARED, command, study

ARGUMENTS = {
    "signal": (),  # as it is, with all figures
    "hidden": (*NARROW, SHARED, "--config.figures=('fig6', 'fig17', 'elicitation', 'embeddings')"),
    "underspec": (*NARROW, SHARED, "--config.figures=('fig7', 'fig8', 'fig9', 'fig10', 'product')"),
}


def made(name, folder):
    """Carry out a study in a folder by one command; return what it left behind."""
    done = command(study(name), f"--workdir={folder}", *ARGUMENTS[name])
    assert done.code == 0, done.err
    return done
