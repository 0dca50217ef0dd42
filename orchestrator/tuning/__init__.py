"""Tunes recipes: trials of Optuna, measured by the engines and the length search of a run."""
