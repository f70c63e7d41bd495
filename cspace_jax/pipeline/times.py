"""The wall time of a study's stages is added up over all starts."""

import contextlib
import json
import time
from collections.abc import Iterator

from cspace_jax import processes
from cspace_jax.errors import UserError
from cspace_jax.storage.files import write_atomic
from cspace_jax.storage.workdir import Workdir


class Times:
    """Keep the wall time of each stage in seconds, added up over all starts in a workdir."""

    def __init__(self, folder: Workdir):
        self._path = folder.times
        self.seconds = self._read()

    def _read(self) -> dict[str, float]:
        """Return the stored sums. Missing or damaged ones give {}."""
        try:
            return {str(stage): float(seconds) for stage, seconds in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, AttributeError, TypeError):  # none yet, or damaged: only the sums start anew
            return {}

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the body to a stage, and store the sums.

        Of many processes those of the first are kept.

        Raises:
          UserError: the sums cannot be written.
        """
        started = time.monotonic()
        try:
            yield
        except BaseException:
            # The error of the body is the one to report, not that its disk has no space for the time either.
            with contextlib.suppress(UserError):
                self._add(stage, time.monotonic() - started)
            raise
        self._add(stage, time.monotonic() - started)

    def _add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage, and let the first process store the sums."""
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)
        if processes.is_first():
            write_atomic(self._path, json.dumps(self.seconds))
