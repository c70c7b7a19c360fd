# Everything a newcomer needs: `make demo` trains, `make test` tests. Each sets up its virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check docs fuzz torture smoke gpu-check bench-guard bench audit clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## Make the virtual environment in .venv

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup  ## Train three-stage RaCT on embedded data (about a minute)
	$(BIN)/recrun

test: check  ## Run style, types and all the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

test-all: check  ## The same, and simulations that take minutes
	RECRUN_TEST_ALL=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

check: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## Build the site in build/site
	@$(BIN)/python -c "import zensical, mkdocstrings" 2>/dev/null || $(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/python docs/generate.py build/docs
	$(BIN)/python -m zensical build --clean --strict

fuzz: setup  ## Read 100,000 damaged files and configs (some 20 minutes)
	RECRUN_FUZZ=100000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/fuzz --numprocesses auto --maxprocesses 8

torture: setup  ## Let 1,000 runs be killed, interrupted and out of disk (some 30 minutes)
	RECRUN_TORTURE=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/torture --numprocesses auto --maxprocesses 8

smoke: setup  ## Run every model for a few steps
	$(BIN)/recrun -m "model=glob(*)" step_limit=3 epochs=1 output_dir=$(VENV)/smoke

gpu-check: setup  ## Check and measure this machine's GPU; writes gpu.json (8 minutes at most)
	$(BIN)/python benchmarks/gpu_check.py

bench-guard: setup  ## Compare speed with what benchmarks/guard.json records, as ratios of one run
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/guard.py

bench: setup  ## Measure our stages (benchmarks/README.md: side by side with RecBole)
	$(BIN)/python benchmarks/ract.py

audit: setup  ## Look for known vulnerabilities in what is installed, if pip-audit is
	@if $(BIN)/python -c "import pip_audit" 2>/dev/null; then $(BIN)/python -m pip_audit --skip-editable; \
	else echo "pip-audit is not installed: $(BIN)/pip install pip-audit"; fi

clean:  ## Remove the virtual environment, caches and the site
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
