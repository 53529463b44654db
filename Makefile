# Each target does all its own set-up, in $(VENV).
PYTHON ?= python3
VENV ?= .venv
CASES ?= 1000
SEED ?= 0
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
# `make gpu-check PYTHON=python3` runs it with that Python's own packages, as on a machine whose torch must stay.
ifeq ($(origin PYTHON),command line)
GPU_PYTHON := PYTHONPATH=src:$$PYTHONPATH $(PYTHON)
else
GPU_PYTHON := $(BIN)/python
GPU_NEEDS := $(VENV)/.dev
endif

.DEFAULT_GOAL := help
.PHONY: help demo demo-embeddings demo-traffic demo-tables test test-whole check docs fuzz gpu-check format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Distil a real intent classifier and print what was kept and won (about 10 minutes on 2 cores)
	$(BIN)/python -m contrastill.studies.banking77 --data demo/banking77 --out demo/runs $(DEMO)

demo-embeddings: $(VENV)/.demo-embeddings ## Distil a sentence-embedding model and search with it beside its teacher (4 to 7 minutes)
	$(BIN)/python -m contrastill.studies.search --data demo/banking77 --sentences demo/sentences/sentences.txt.xz --out demo/runs/search $(DEMO)

demo-traffic: $(VENV)/.demo-traffic ## Distil a tagger of traffic reports and turn reports into events with it and its teacher (about an hour on one core)
	$(BIN)/python -m contrastill.studies.traffic_demo --data demo/traffic --out demo/runs/traffic $(DEMO)

demo-tables: demo demo-embeddings ## Run both demos and put their tables in place of those in demo/ (README.md quotes them: a test compares)
	cp demo/runs/result.md demo/runs/result.json demo/runs/search/search.md demo/runs/search/search.json demo/
	$(BIN)/python -m website.figure

test: $(VENV)/.dev ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal $(TESTS)

test-whole: $(VENV)/.dev ## Run the demos, the benchmarks' scripts and a little fuzz, on tiny models (about 4 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal -m whole

fuzz: $(VENV)/.dev ## Try wrong and odd options, run.json, data files and bundles (CASES=1000 SEED=0; about 15 minutes)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python tests/fuzz/driver.py --cases $(CASES) --seed $(SEED) $(FUZZ)

gpu-check: $(GPU_NEEDS) ## Test and measure the GPU path, on random weights (under 6 minutes; does nothing without a CUDA GPU)
	HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 $(GPU_PYTHON) benchmarks/gpu.py $(GPU)

check: $(VENV)/.dev ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## Build the documentation as a site in build/site; a link that leads nowhere fails
	$(BIN)/python -m website.build

format: $(VENV)/.dev ## Put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Contrastill needs Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: asked for by version it is the build that its index offers here, and nothing later replaces it.
$(VENV)/.torch: $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,export]'
	@touch $@

$(VENV)/.demo-embeddings: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,embeddings,export]'
	@touch $@

$(VENV)/.demo-traffic: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo-traffic,export]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
