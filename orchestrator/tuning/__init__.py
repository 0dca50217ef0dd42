"""The search for a better recipe: trials of Optuna, measured by the engines and the search of a run."""
