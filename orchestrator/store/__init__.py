"""Rows on disk: Parquet in, Arrow out. Knows nothing of Ray or torch."""
