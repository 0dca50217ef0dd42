"""Analyses of the memories of a finished run."""
