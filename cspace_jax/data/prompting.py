"""Classes in words become conditioning vectors: the front door of `Source.prompt`."""

from jaxtyping import Array, Float

from cspace_jax.config import Config
from cspace_jax.config.grid import example_setting
from cspace_jax.config.reading import fail
from cspace_jax.config.setting import Setting
from cspace_jax.data.opened import source_of


def prompt(config: Config, words: str, setting: Setting | None = None) -> Float[Array, "d"]:
    """Return the conditioning vector of a class in words, such as "blue small", at its exact means.

    Args:
      config: of the study.
      words: one word for each active concept, in any order; or the class's bits, such as "11".
      setting: of the run that is asked; None takes the first run of the study.

    Raises:
      UserError: a word is unknown, or the words do not name one value of every active concept, or an argument is of
        another kind.
    """
    if not isinstance(config, Config):
        fail("config", config, "must be a Config, as cs.load_config returns it")
    if setting is not None and not isinstance(setting, Setting):
        fail("setting", setting, "must be a cs.Setting")
    return source_of(config.data).prompt(words, example_setting(config.grid) if setting is None else setting)
