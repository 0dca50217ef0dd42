"""Sweeps as jobs on a cluster: submits, follows and stops them."""
