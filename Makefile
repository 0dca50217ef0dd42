# Everything runs in .venv, made from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart docs test test-all fuzz browser-test gpu-test chaos-short chaos cluster-test lint bench bench-full

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: .venv/installed  ## make .venv and install everything into it

quickstart: setup  ## measure the shipped model on the shipped texts, on this machine
	$(BIN)/capsweep run sweeps/quickstart.yaml

PYTEST := $(BIN)/python -m pytest
PARALLEL := -n 2 --dist loadgroup --ignore tests/chaos --ignore tests/clusters

test: setup  ## all tests but the slow ones, faults and clusters, in five minutes on two cores
	$(PYTEST) $(PARALLEL) -m "not slow"

test-all: setup  ## the slow ones, too, and three hundred sweep files in place of sixty
	CAPSWEEP_FUZZ=300 $(PYTEST) $(PARALLEL)

chaos-short: setup  ## provoke a few times each fault that no other test shows (about ten minutes)
	$(PYTEST) tests/chaos

fuzz: setup  ## a thousand sweep files, drawn anew each time (about two minutes)
	CAPSWEEP_FUZZ=1000 $(PYTEST) tests/orchestrator/test_fuzz_spec.py --hypothesis-profile default

browser-test: setup  ## open report pages in headless Chromium (apt-get install chromium)
	$(PYTEST) -m browser

gpu-test: setup  ## tests/tasks with most models, engines and provers on CUDA; says so where there is none
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; \
	then CAPSWEEP_TEST_DEVICE=cuda $(PYTEST) tests/tasks; \
	else echo "skipped: torch finds no CUDA device here"; fi

docs: setup  ## write the fields of a sweep file into docs/sweep.md and sweeps/sweep.schema.json
	$(BIN)/python -m orchestrator.spec.reference

lint: setup  ## ruff, pyright, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

MODEL ?= HuggingFaceTB/SmolLM2-135M-Instruct
TEXTS ?= ../shared/data/text/books_eval.jsonl
RIVALS := $(BIN)/python benchmarks/rivals.py run runs/rivals.parquet --model $(MODEL) --texts $(TEXTS)

bench: setup  ## capsweep and three rivals, 2 texts at 6,000 trained tokens each (MODEL=.. TEXTS=..)
	$(RIVALS) --count 2 --budgets 6000

bench-full: setup  ## the same with 6 texts at 6,000 and 25,000 trained tokens, 2 of them to the end (hours); run it again to resume it
	$(RIVALS) --budgets 6000 25000
	$(RIVALS) --count 2 --budgets 6000 25000 --to-the-end

chaos: setup  ## provoke every fault of docs/reliability.md and count what is lost (about 40 minutes)
	CAPSWEEP_CHAOS=1 $(PYTEST) tests/chaos

cluster-test: setup  ## two nodes in network namespaces, and a Slurm job (root and iproute2; about 10 minutes)
	CAPSWEEP_CLUSTER=1 $(PYTEST) tests/clusters
