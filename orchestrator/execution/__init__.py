"""Carries out a plan: what all executors share, and the executor in this process."""
