"""The plan says how the pure functions of one run execute over a grid.

It changes speed and rounding, and results only by its precision, which the user alone sets. It is made once, where a
study is opened (`pipeline/planning.py`), and handed on; measuring and forecasts for other devices make their own.
"""

import dataclasses

from cspace_jax.config.schema import Config

_CACHE_BYTES = 2**20  # of one core


@dataclasses.dataclass(frozen=True)
class Plan:
    """The way in which runs execute.

    Attributes:
      convolution: one of `schema.CONVOLUTIONS` but "auto".
      runs: "vmap" (one batched program), "map" (a compiled loop), "unroll" (one program with a copy per run) or "loop"
        (the program of one run, called for each run).
      steps_per_call: training steps per compiled call; the host only sees the last one's metrics.
      microbatch: samples whose gradient is computed at once; 0 = as many as the cache holds.
      cache_bytes: of a core, for a microbatch; 0 = batches are not cut.
      devices: how many local devices take part; 0 = all.
      wave: most runs trained at once; 0 = all.
      precision: of the products of float32 numbers, "default" or one of JAX's `jax_default_matmul_precision`; numbers
        that are stored, and statistics, stay float32.
    """

    convolution: str = "xla"
    runs: str = "vmap"
    steps_per_call: int = 1
    microbatch: int = 0
    cache_bytes: int = 0
    devices: int = 0
    wave: int = 0
    precision: str = "default"

    @classmethod
    def resolve(cls, config: Config, backend: str) -> "Plan":
        """Return the plan of a configuration on a backend ("cpu", "gpu" or "tpu").

        Fields left to us ("auto" or 0) take what was measured best there (docs/performance.md). On a CPU batched
        convolutions are slow: the program of one run is called for each run, for 25 steps so that its state stays in
        the cache. Large batches pass through the network in microbatches that fit the cache, and wide convolutions take
        Winograd's products. Elsewhere 50 steps a call hide the cost of launching.
        """
        given, cpu = config.engine, backend == "cpu"
        return cls(
            convolution=("winograd" if cpu else "xla") if given.convolution == "auto" else given.convolution,
            runs=("loop" if cpu else "vmap") if given.runs == "auto" else given.runs,
            steps_per_call=given.steps_per_call or (25 if cpu else 50),
            microbatch=given.microbatch,
            cache_bytes=_CACHE_BYTES if cpu else 0,
            devices=given.devices,
            wave=given.wave,
            precision=given.precision,
        )


PLAIN = Plan()  # for shapes and for counting operations: uncut batches, XLA's own convolutions
