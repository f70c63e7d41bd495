"""The saves that keep their parameters (`save.keep`), and the disk that they take."""

from cspace_jax.config import Config, save_steps
from cspace_jax.cost import memory, operations
from cspace_jax.text import in_words


def save_bytes(config: Config) -> float:
    """Return the bytes of one save, the float32 parameters of all runs."""
    return 4.0 * operations.parameters(config) * config.grid.num_runs


def state_bytes(config: Config) -> float:
    """Return the most bytes of states that lie on disk at once.

    These are the state to resume from, the one before until it is complete, and the kept ones.
    """
    return (2 + len(config.save.keep_states)) * memory.state_bytes(config) * config.grid.num_runs


def kept_steps(config: Config) -> tuple[int, ...]:
    """Return the saved steps whose parameters stay on disk, ascending. The last save is always among them."""
    save, saves = config.save, save_steps(config.save, config.optim.steps)
    if save.keep_steps:
        return tuple(sorted({*save.keep_steps, saves[-1]}))
    fits = len(saves) * save_bytes(config) <= save.limit_gb * memory.GB
    return saves if save.keep == "all" or (save.keep == "auto" and fits) else saves[-1:]


def describe(*configs: Config) -> str:
    """Return in words which parameters a study's grids keep and how much disk they take together.

    (Each added grid keeps its own: "auto" may keep all saves of a small one and the last of a large one.)
    """
    saves = len(save_steps(configs[0].save, configs[0].optim.steps))
    kept = sorted({len(kept_steps(config)) for config in configs})
    size = sum(len(kept_steps(config)) * save_bytes(config) for config in configs)
    if kept == [saves]:
        return f"parameters of all {saves} saves kept ({in_words(size)})"
    full = saves * sum(save_bytes(config) for config in configs)
    count = " or ".join(map(str, kept))
    return f"parameters of {count} of {saves} saves kept ({in_words(size)} instead of {in_words(full)})"
