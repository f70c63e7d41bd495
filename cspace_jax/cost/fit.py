"""The choice of how many runs go at once, and how many of their samples.

Taken is the largest wave that fits, then the largest microbatch. Microbatches come before waves, because they cost no
second pass over the grid. What fits is predicted from shapes (`memory.outline`); only where that refuses is a program
compiled.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence

import jax

from cspace_jax.config import Config
from cspace_jax.config.plan import Plan
from cspace_jax.cost import memory
from cspace_jax.cost.memory import Footprint, Place
from cspace_jax.errors import UserError
from cspace_jax.text import counted, in_words
from cspace_jax.training.run import FEWEST_SAMPLES

MARGIN = 1.15  # predictions from shapes are tested to be within 15 % of the compiler's where memory is filled


def candidates(config: Config, plan: Plan) -> list[Plan]:
    """Return a plan with every microbatch that may be taken: the whole batch first, then smaller ones.

    A microbatch that the user set, or that the cache of a CPU decides, stays as it is.
    """
    if config.engine.microbatch or plan.cache_bytes:
        return [plan]
    batch = config.optim.batch_size
    smaller = [n for n in range(batch - 1, FEWEST_SAMPLES - 1, -1) if batch % n == 0]
    return [dataclasses.replace(plan, microbatch=n) for n in (0, *smaller)]


def smaller(config: Config, plan: Plan) -> Plan | None:
    """Return a plan with the next smaller microbatch.

    None is returned if there is none, or if the user or the cache of a CPU decides it.
    """
    now = plan.microbatch or config.optim.batch_size
    return next((one for one in candidates(config, plan) if 0 < one.microbatch < now), None)


def choose(
    config: Config,
    plan: Plan,
    runs: int,
    wave: int = 0,
    place_of: Callable[[Plan], Place] | None = None,
    margin: float = MARGIN,
) -> Plan | None:
    """Return a plan whose wave and microbatch are predicted to fit, or None if nothing fits.

    Args:
      config: the study.
      plan: how runs execute; a microbatch that it holds already stays.
      runs: that one process has to train, at least 1.
      wave: runs at once that are asked for; 0 = as many as fit, in waves of about equal size.
      place_of: where a plan trains; None = this process (`memory.here`).
      margin: factor on the prediction.
    """
    fitting: list[tuple[int, Plan]] = []
    for one in candidates(config, plan):
        most = _most(config, one, place_of(one) if place_of else memory.here(config, one), margin)
        if most >= min(wave or runs, runs):
            return dataclasses.replace(one, wave=wave)
        fitting.append((most, one))
    most = max(most for most, _ in fitting)
    if wave or most == 0:
        return None
    size = _even(runs, most)
    return next(dataclasses.replace(one, wave=size) for most, one in fitting if most >= size)


def require(config: Config, plan: Plan, runs: int, wave: int = 0, source: str = "") -> Plan:
    """Return a plan whose wave and microbatch fit into the memory of this process, as `choose` does.

    Where a prediction from shapes leaves doubt, the compiler is asked.

    Args:
      config: the study.
      plan: how runs execute.
      runs: that one process has to train.
      wave: runs at once that are asked for; 0 = as many as fit.
      source: what asks for them, for the message; "" = the field `engine.wave`.

    Raises:
      UserError: even the smallest microbatch is predicted not to fit; names what does.
    """
    chosen = choose(config, plan, runs, wave)
    if chosen is not None:
        return chosen
    last = candidates(config, plan)[-1]
    place = memory.here(config, last)
    footprint = _outline(config, last, place)
    if choose(config, plan, runs, wave, margin=1 / MARGIN) is not None:
        print("memory is close to what there is: compiling to be sure", file=sys.stderr, flush=True)
        footprint = memory.analyse(config, last)
    most = memory.largest_wave(footprint, place)
    if most >= min(wave or 1, runs):
        return dataclasses.replace(last, wave=wave or (0 if most >= runs else _even(runs, most)))
    raise UserError(_refusal(config, last, min(wave or 1, runs), source, (footprint, place, most)))


def _refusal(config: Config, plan: Plan, wave: int, source: str, found: tuple[Footprint, Place, int]) -> str:
    """Return why a wave does not fit, and which wave or microbatch would."""
    footprint, place, most = found
    owner = "the machine" if place.shared else "a device"
    available = f"of {in_words(place.available)} available memory of {owner} (engine.memory_gb sets another size)"

    def need(runs: int) -> str:
        return f"predicted to need {in_words(memory.peak_bytes(footprint, place, runs))} {available}"

    ways = [f"--config.engine.wave={most}"] if most and not source else []
    if config.engine.microbatch:
        free = dataclasses.replace(config, engine=dataclasses.replace(config.engine, microbatch=0))
        other = choose(free, dataclasses.replace(plan, microbatch=0), wave, wave)
        ways += [f"--config.engine.microbatch={other.microbatch or config.optim.batch_size}"] if other else []
    if most == 0 and not ways:
        reduce = "reduce optim.batch_size, data.image_size, network.channels or network.blocks"
        return f"even one run is {need(1)}: {reduce}"
    what = source or f"engine.wave = {config.engine.wave}"
    advice = f"{' or '.join(ways)} fits" if ways else "a device with more memory or another workdir is needed"
    return f"{what}: {wave} run{'s' * (wave > 1)} at once {'are' if wave > 1 else 'is'} {need(wave)}; {advice}"


def describe(config: Config, parts: Sequence[tuple[Plan, int]]) -> str:
    """Return in words in how many waves runs are trained here, and the predicted memory.

    Args:
      config: the study.
      parts: of every wave how it executes and how many runs it has, in order.
    """
    places = [(memory.here(config, plan), plan, runs) for plan, runs in parts]
    peak = max(memory.peak_bytes(_outline(config, plan, place), place, runs) for place, plan, runs in places)
    sizes = [runs for _, runs in parts]
    runs = counted(sum(sizes), "run")
    waves = "one wave" if len(sizes) == 1 else f"{len(sizes)} waves of at most {max(sizes)}"
    return f"{runs} in {waves} ({in_words(peak)} of {in_words(places[0][0].available)})"


def _most(config: Config, plan: Plan, place: Place, margin: float) -> int:
    """Return the largest wave that fits with a margin."""
    safe = dataclasses.replace(place, available=place.available / margin)
    return memory.largest_wave(_outline(config, plan, place), safe)


def _even(runs: int, most: int) -> int:
    """Return the size of waves of at most `most` runs.

    The waves are as few as possible and about equally large.
    """
    return -(-runs // -(-runs // most))


def _outline(config: Config, plan: Plan, place: Place) -> Footprint:
    """Return the footprint of a plan at a place, predicted from shapes."""
    return memory.outline(config, dataclasses.replace(plan, wave=0), place.tpu)


def out_of_memory(error: Exception) -> bool:
    """Return whether an error of a program says that a device's memory is used up."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
