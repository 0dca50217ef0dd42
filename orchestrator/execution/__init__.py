"""Carries out a plan: what every executor shares, and the one in this process."""
