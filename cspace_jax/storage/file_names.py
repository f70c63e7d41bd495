"""How files and folders of a workdir are named. `Workdir` knows where they lie; a command line may read this first."""

CONFIG, METRICS = "config.json", "metrics.jsonl"
PARTS_OF_LOG = "metrics.part_*.jsonl"  # of several processes
PROBE, CHECKPOINTS, EVAL, ELICIT, REPLAY = "probe", "checkpoints", "eval", "elicit", "replay"
PARAMS, STATE, KEPT_STATES = "params", "state", "kept_states"  # in the folder of a wave's checkpoints
DATASET, TABLE = "concept_space.nc", "concept_space.csv"
ADDED_DATASET, ADDED_TABLE = "added_steps.nc", "added_steps.csv"
SUMMARY, FIGURES, REPORT = "summary.json", "figures", "report.html"
EXTENSIONS, ADDED_RUNS = "extensions.json", "extensions"
