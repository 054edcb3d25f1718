# Everything starts here: `make demo` and `make test` need only Python (3.10 or newer) and make.
# The environment is made once in .venv and again whenever pyproject.toml or constraints.txt change.

# Python 3.11 first, because the pinned torch has a small CPU build there on many indexes.
# A name on PATH may be a shim that does not run, so each candidate is tried and not just looked up.
PYTHON ?= $(shell for candidate in python3.11 python3 python3.12 python3.13 python3.10 python; do \
	if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
	then echo $$candidate; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Two workers with one compute thread each: most tests are short, and threads of both would only compete.
# A file's tests stay together, so that what they share (a small trained network, a wheel) is made once.
PYTEST_ARGS ?= -n 2 --dist loadfile
OMP_NUM_THREADS ?= 1

# What the demo is given beyond its folder: `make demo DEMO_ARGS=--quick`
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format typecheck clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## train, quantize and compare a small denoiser; writes build/demo/report.html
	$(BIN)/edgedenoise demo --out build/demo $(DEMO_ARGS)

test: $(READY) ## run the whole test suite; PYTEST_ARGS="tests/project -x" for a part of it
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/pytest $(PYTEST_ARGS)

lint: $(READY) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## mend what can be mended of style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY) ## check types of the whole package, strictly
	$(BIN)/python .ci/typecheck

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .typelinks .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found. Name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "==> installing edgedenoise and everything it is tested with (minutes, once)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt setuptools -e ".[dev]"
	@touch $@
