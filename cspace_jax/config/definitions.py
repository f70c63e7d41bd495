"""Definitions of "learned" that a configuration can ask for (docs/statistics.md): name -> meaning."""

STAYS_80 = "stays_80"
LEARNED = {
    "first_80": "accuracy reaches 0.8 at some save, those of the early phase included, whatever it does later; "
    "interpolated between saves; not smoothed",
    STAYS_80: "accuracy reaches 0.8 and stays there to the last save; interpolated between saves; not smoothed",
    "notebooks_90": "accuracy smoothed (sigma 1.5 saves) is above 0.9 at 3 saves in a row; the middle of the first 3",
}
