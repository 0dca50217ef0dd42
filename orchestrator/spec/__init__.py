"""Sweep files: their fields, and how they are read."""
