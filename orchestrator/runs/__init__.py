"""Runs on disk: their folders, sessions and history."""
