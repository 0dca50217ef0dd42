"""The measurements themselves: tasks, the batched engine, recipes and texts. Knows nothing of Ray or of runs."""
