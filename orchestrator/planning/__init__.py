"""Turns a sweep into searches, and estimates their cost."""
