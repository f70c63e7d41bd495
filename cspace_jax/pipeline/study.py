"""A study that is being carried out has a configuration, a workdir, a plan and waves, made once."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from cspace_jax import processes
from cspace_jax.analysis import learning, tables
from cspace_jax.config import Config, from_config_dict, grid, reading, save_steps, to_dict
from cspace_jax.config.plan import Plan
from cspace_jax.config.reading import fail
from cspace_jax.cost import disk
from cspace_jax.engine.engine import Engine
from cspace_jax.errors import UserError
from cspace_jax.pipeline import extension, waves
from cspace_jax.pipeline.logs import Log
from cspace_jax.pipeline.modes import COUNT, WIDTH
from cspace_jax.pipeline.waves import Wave
from cspace_jax.storage import extensions, results
from cspace_jax.storage.extensions import Extensions
from cspace_jax.storage.files import PathLike
from cspace_jax.storage.workdir import Workdir

if TYPE_CHECKING:
    from cspace_jax.pipeline.model import Model
    from cspace_jax.pipeline.page import Page


@dataclasses.dataclass(frozen=True)
class Study:
    """A study that is being carried out. Every stage is a function of it.

    Attributes:
      config: the study.
      workdir: prepared for it.
      plan: how its runs execute.
      log: what takes its numbers besides its own files.
    """

    config: Config
    workdir: Workdir
    plan: Plan
    log: Log = Log()

    @functools.cached_property
    def steps(self) -> tuple[int, ...]:
        """Return the steps at which runs are saved and evaluated."""
        return save_steps(self.config.save, self.config.optim.steps)

    @functools.cached_property
    def parts(self) -> "list[Study]":
        """Return the study and one more for each added grid of runs, in the order of the runs' numbers.

        They differ in their grid and folder alone, and number their runs from 0; `first_runs` has the numbers that the
        results give them. Which plan suits each depends on the mode: `stages` asks for it before it executes them.

        Raises:
          UserError: the record of the extensions is damaged or gone.
        """
        found = extension.parts_of(self.config, self.workdir)
        return [self, *(dataclasses.replace(self, config=config, workdir=folder) for config, folder in found)]

    @property
    def first_runs(self) -> list[int]:
        """Return the number of the first run of each of `parts`, then the number of all runs."""
        return list(itertools.accumulate((part.config.grid.num_runs for part in self.parts), initial=0))

    def parts_in(self, ds: xr.Dataset) -> "list[Study]":
        """Return the parts whose runs a dataset holds.

        Parts that were added since it was written are left out.
        """
        return [part for part, end in zip(self.parts, self.first_runs[1:], strict=True) if end <= ds.sizes["run"]]

    def as_evaluated(self, ds: xr.Dataset) -> Config:
        """Return the configuration of the runs and steps that a dataset of the study holds.

        An extension that is not finished is ahead of the results. Where the runs are no product, the grid has all
        values of every axis.
        """
        stored = results.config_of(ds)
        steps = stored.get("optim", {}).get("steps", self.config.optim.steps)
        saves = tuple(stored.get("save", {}).get("steps", self.config.save.steps))
        whole = dataclasses.replace(self.config, grid=grid.union([part.config.grid for part in self.parts_in(ds)]))
        return extensions.lengthened(whole, Extensions(steps=steps, saves=saves))

    @functools.cached_property
    def kept(self) -> frozenset[int]:
        """Return the saved steps whose parameters stay on disk (`save.keep`).

        The others are evaluated while they are on the device.
        """
        return frozenset(disk.kept_steps(self.config))

    @functools.cached_property
    def waves(self) -> list[Wave]:
        """Return all waves in grid order.

        Raises:
          UserError: the record of the cut is damaged.
        """
        return waves.load(self.workdir, self.config)

    @functools.cached_property
    def own_waves(self) -> Sequence[Wave]:
        """Return the waves that this process trains and reads. A single process has all of them."""
        return processes.own(self.waves)

    def engine(self, wave: Wave) -> Engine:
        """Return the engine that executes a wave."""
        return wave.engine(self.config, self.plan)

    @property
    def dataset(self) -> xr.Dataset:
        """The labelled dataset of the workdir, with the main axes run, step, protocol, klass and concept.

        Raises:
          UserError: the study has no results yet, or they are damaged.
        """
        return results.open_results(self.workdir.root)

    @property
    def _shown(self) -> xr.Dataset:
        """Return the dataset under the configuration's definition of "learned".

        The stored one may have been written under another.
        """
        return learning.with_definition(self.dataset, self.config.learned)

    @property
    def added(self) -> xr.Dataset:
        """The labelled dataset of steps that were trained again (`replay`).

        It is NaN where a run has no such step.

        Raises:
          UserError: no steps were added yet, or their dataset is damaged.
        """
        if not self.workdir.added_dataset.exists():
            raise UserError("added: no steps were added; study.replay((...)) adds some")
        return results.open_results(self.workdir.added_dataset)

    def replay(self, steps: Sequence[int] = (), *, around: str = "", width: int = WIDTH, count: int = COUNT) -> "Study":
        """Train steps between the saves again, bit for bit, evaluate them, and return the study.

        The property `added` has the results.

        Args:
          steps: of all runs; or
          around: "turn": `count` steps over `width` steps around each run's own turning step.
          width: steps from the first to the last.
          count: number of steps.

        Raises:
          UserError: a value is of a wrong type, the steps make no sense, or this is another kind of device or version
            than the one that trained.
        """
        from cspace_jax.pipeline import api

        asked = {"steps": steps, "around": around, "width": width, "count": count}
        request = reading.read(api.ReplayRequest, asked)
        api.run(None, self.workdir.root, "replay", command_line="Study.replay", replay=request)
        return self

    def summary(self, name: str = "") -> Any:
        """Return the numbers of the study, by the definition of "learned" of its configuration (`learned`).

        Args:
          name: "learning_times" or "memorisation" as a pandas table by level and class; a block of the summary, such
            as "elicitation", as plain dicts and lists; "" = the whole summary, as in summary.json.

        Raises:
          UserError: there is nothing of that name, or there are no results.
        """
        return tables.select(self._shown, name)

    def figure(self, name: str) -> Any:
        """Return one figure, such as "fig4", as a Matplotlib figure. A notebook shows it.

        It shows the definition of "learned" of the configuration (`learned`), as drawn files and the page do.

        Raises:
          UserError: there is no such figure, or the study does not hold what it needs.
        """
        from cspace_jax.pipeline import collect
        from cspace_jax.plots import figures

        ds, data, examples = self._shown, self.config.data, collect.examples(self)
        return figures.draw(name, figures.Inputs(ds, collect.Samples(self, ds), data, examples))

    def page(self) -> "Page":
        """Return the page of the study (report.html), made anew. A notebook shows it inline.

        Raises:
          UserError: there are no results, or they are damaged.
        """
        from cspace_jax.pipeline import page

        return page.make(self)

    def export(self, to: PathLike) -> int:
        """Write the study as a plain dataset into a new folder, and return the number of its pictures.

        Kept samples as PNG with their probe readings, examples of the images, the results as CSV, and a README.md; it
        has the layout of the Hugging Face `imagefolder`. `Model.save` writes the weights of a run.

        Raises:
          UserError: the folder exists and is not empty, there are no results or samples, or it cannot be written.
        """
        from cspace_jax.pipeline import export

        return export.write(self, to)

    def elicit(self, *protocols: str, **values: Any) -> "Study":
        """Ask the finished checkpoints with further protocols, add them to the results, and return the study.

        Args:
          *protocols: names such as "overprompt", "latent_random" or "overprompt+latent".
          **values: fields of the group `elicit` of the configuration, such as samples=64.

        Raises:
          UserError: a protocol or value does not exist or does not suit the study, or checkpoints are missing.
        """
        from cspace_jax.pipeline import api

        if "protocols" in values:
            fail("protocols", values["protocols"], "must be given as arguments: study.elicit('latent')")
        fields = to_dict(self.config)
        fields["elicit"] |= {"protocols": protocols, **values}
        config = from_config_dict({**fields, "figures": ()})
        return api.run(config, self.workdir.root, "elicit", command_line="Study.elicit")

    def extend(self, *, steps: int = 0, **axes: Any) -> "Study":
        """Train missing runs, or all runs longer, add them to the results, and return the study.

            study.extend(seeds=(500, 600))  # at all levels that are there
            study.extend(sep_col=(0.5,), steps=4000)

        Args:
          steps: that all runs are trained to; 0 = as they are.
          **axes: values of axes of the grid; of the product with all values of the other axes that are there, what is
            missing is trained.

        Raises:
          UserError: what is asked for cannot be added to this study.
        """
        from cspace_jax.pipeline import api

        asked = extension.wanted(self.workdir.root, axes, steps)
        return api.run(asked, self.workdir.root, "extend", command_line="Study.extend")

    def model(self, run: int = 0, step: int | None = None) -> "Model":
        """Return the model of one run at a saved step (default: the last), ready to be sampled.

        Raises:
          UserError: there is no such run, the step was not saved, one of them is no whole number, or the checkpoint is
            missing or damaged.
        """
        from cspace_jax.pipeline import model

        return model.restore(self, run, step)
