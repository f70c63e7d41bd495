"""The modes of the command, what each does and what it needs.

The module is light, so that the command can name them at once.
"""

import dataclasses

WIDTH, COUNT = 200, 20  # of "replay" around a turn: steps from the first to the last, and how many


@dataclasses.dataclass(frozen=True)
class Mode:
    """A mode of the command.

    Attributes:
      does: one phrase, shown by `--help`.
      of_a_workdir: whether the configuration of an existing workdir is enough, so that none need be given.
      computes: whether training or sampling is measured or done, for which the allocator is set.
      only_reads: whether it writes nothing but what it shows, outside the workdir if asked to.
      trains: whether it trains what is not trained yet.
      reads: whether it writes results, after reading concept space where that was not done.
      draws: whether it draws figures.
      shows: whether what it writes may go to another folder (`--outdir`).
    """

    does: str
    of_a_workdir: bool = False
    computes: bool = True
    only_reads: bool = False
    trains: bool = False
    reads: bool = False
    draws: bool = False
    shows: bool = False

    @property
    def logs(self) -> bool:
        """Whether a log takes numbers of the mode (`--log`)."""
        return self.trains or self.reads


MODES = {
    "plan": Mode("say what computation, time, disk and memory the study takes; train nothing"),
    "train": Mode("only train", trains=True),
    "eval": Mode("read concept space at the checkpoints", of_a_workdir=True, reads=True),
    "elicit": Mode(
        "ask the checkpoints with the protocols of elicit.protocols", of_a_workdir=True, reads=True, draws=True
    ),
    "replay": Mode("train steps between the saves again, bit for bit (--steps or --around)", of_a_workdir=True),
    "figures": Mode(
        "draw again from stored results",
        of_a_workdir=True,
        computes=False,
        only_reads=True,
        draws=True,
        shows=True,
    ),
    "report": Mode(
        "write the page report.html from stored results",
        of_a_workdir=True,
        computes=False,
        only_reads=True,
        shows=True,
    ),
    "export": Mode(
        "write a dataset of PNG and CSV, or a run's weights (--to, --weights)",
        of_a_workdir=True,
        computes=False,
        only_reads=True,
    ),
    "extend": Mode(
        "train the missing runs of a larger grid, or more steps, and add them",
        of_a_workdir=True,
        trains=True,
        reads=True,
        draws=True,
    ),
    "compare": Mode("put two studies, or one and published numbers, side by side (--workdirs)", computes=False),
    "all": Mode("everything that is not done yet (the default)", trains=True, reads=True, draws=True),
}
SHOWS = tuple(name for name, mode in MODES.items() if mode.shows)
LOGGED = tuple(name for name, mode in MODES.items() if mode.logs)
LOGS = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # what --log may name, and the package that writes it
OF_A_STUDY = tuple(name for name in MODES if name not in ("plan", "compare"))  # modes carried out in a workdir
