"""The definitions of "learned" that a configuration can ask for (docs/statistics.md), name -> meaning."""

STAYS_80 = "stays_80"
THRESHOLD = 0.8  # of the accuracy (paper section 4)
EARLY, EARLY_STEPS = 0.075, 1500  # early phase: a share of the training, at most so many steps, as published
NOTEBOOKS, NOTEBOOKS_SAVES, NOTEBOOKS_SIGMA = 0.9, 3, 1.5  # accuracy, saves in a row, smoothing in saves
LEARNED = {
    "first_80": f"accuracy reaches {THRESHOLD} at some save, those of the early phase included, whatever it does "
    "later; interpolated between saves; not smoothed",
    STAYS_80: f"accuracy reaches {THRESHOLD} and stays there to the last save; interpolated between saves; not "
    "smoothed",
    "notebooks_90": f"accuracy smoothed (sigma {NOTEBOOKS_SIGMA} saves) is above {NOTEBOOKS} at {NOTEBOOKS_SAVES} "
    f"saves in a row; the middle of the first {NOTEBOOKS_SAVES}",
}
