# Everything runs in .venv, made from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart test browser-test chaos cluster-test lint bench bench-full

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: .venv/installed  ## make .venv and install everything into it

quickstart: setup  ## measure the shipped model on the shipped texts, on this machine
	$(BIN)/capsweep run sweeps/quickstart.yaml

test: setup  ## run every test
	$(BIN)/python -m pytest

browser-test: setup  ## open report pages in headless Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser

lint: setup  ## ruff, pyright, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup  ## measure against the published recipe: 4 texts three times, in turn (under 20 minutes)
	$(BIN)/python benchmarks/versus_published.py

bench-full: setup  ## the same with 32 texts once (an hour or more); run it again to resume it
	$(BIN)/python benchmarks/versus_published.py --ray --count 32 --repetitions 1 --resume-dir runs/bench-full \
		--to benchmarks/results

chaos: setup  ## provoke every fault of docs/reliability.md and count what is lost (about 15 minutes)
	CAPSWEEP_CHAOS=1 $(BIN)/python -m pytest tests/chaos

cluster-test: setup  ## two nodes in network namespaces, and a Slurm job (root and iproute2; about 10 minutes)
	CAPSWEEP_CLUSTER=1 $(BIN)/python -m pytest tests/clusters
