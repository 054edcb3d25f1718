# `make demo` and `make test` need Python 3.10 or newer and make; they install everything else into .venv.
# The environment is updated whenever pyproject.toml or constraints.txt change.

# Python 3.11 first, because the pinned torch has a small CPU build there on many indexes.
# A name on PATH may be a shim that does not run, so each candidate is executed.
PYTHON ?= $(shell for candidate in python3.11 python3 python3.12 python3.13 python3.10 python; do \
	if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
	then echo $$candidate; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.demo-ready
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

# Two workers with one compute thread each: most tests are short, and more threads would only compete.
# All tests of a file run in one worker, so that fixtures such as a trained network or a wheel are made once.
# tests/conftest.py orders the files; xdist would begin with those of many tests.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
OMP_NUM_THREADS ?= 1

# How long `make fuzz` takes, and which damaged inputs it tries; FUZZ_ARGS=--record writes the page of results.
MINUTES ?= 60
FUZZ_SEED ?= 1
FUZZ_ARGS ?=

# Kills of each writer by `make faults`, and signals to each command; images of `make soak`.
# RECORD=1 writes the page of results.
KILLS ?= 200
INTERRUPTS ?= 40
IMAGES ?= 10000
RECORD ?=

# Where `make bench-baseline` appends its runs, how many, and the bundle that is measured.
BENCH_BASELINE ?= build/benchmarks/bench-baseline.json
BENCH_NOW ?= build/benchmarks/bench-now.json
BENCH_RUNS ?= 3
BENCH_ARGS ?= edge-tiny --shape 256 --threads 1

# Further options of the demo: `make demo DEMO_ARGS=--quick`
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow web bench-baseline bench-check fuzz faults soak reproduce-edge lint format typecheck docs serve-docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_READY) ## train, quantize and compare a small denoiser; writes build/demo/report.html
	$(BIN)/edgedenoise demo --out build/demo $(DEMO_ARGS)

test: $(READY) ## run the test suite; PYTEST_ARGS="tests/project -x" runs a part of it
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/pytest -m "not slow" $(PYTEST_ARGS)
	@echo "Long tests that rarely fail were left out. Run them: make test-slow"

test-slow: $(READY) ## run the long tests that `make test` leaves out
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/pytest -m slow $(PYTEST_ARGS)

web: ## build the browser library and app in runtimes/web/dist; needs Node 20.19 or newer, or brings one from PyPI
	PYTHON="$(PYTHON)" .ci/npm ci --ignore-scripts --no-audit --no-fund
	PYTHON="$(PYTHON)" .ci/npm run build

bench-baseline: $(READY) ## measure the speed on this machine for `make bench-check`; BENCH_RUNS=5 for a firmer spread
	for run in $$(seq $(BENCH_RUNS)); do $(BIN)/edgedenoise bench $(BENCH_ARGS) -o $(BENCH_BASELINE) || exit; done

bench-check: $(READY) ## measure the speed again; fails on a regression beyond the spread of the baseline
	@test -f $(BENCH_BASELINE) || { echo "There is no baseline yet. Measure one before the change: make bench-baseline" >&2; exit 1; }
	rm -f $(BENCH_NOW)
	for run in $$(seq $(BENCH_RUNS)); do $(BIN)/edgedenoise bench $(BENCH_ARGS) -o $(BENCH_NOW) || exit; done
	$(BIN)/edgedenoise history $(BENCH_BASELINE) --check $(BENCH_NOW)

fuzz: $(READY) ## try damaged inputs on every parser for an hour; MINUTES=5 for less, FUZZ_SEED=2 for others
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/campaign.py --minutes $(MINUTES) --seed $(FUZZ_SEED) $(FUZZ_ARGS)

faults: $(READY) ## kill and interrupt commands at random instants, fill disks, cut the power; KILLS=20 for fewer
	EDGEDENOISE_KILLS=$(KILLS) EDGEDENOISE_INTERRUPTS=$(INTERRUPTS) $(BIN)/pytest $(PYTEST_ARGS) \
		-o junit_family=xunit1 --junitxml=build/faults.xml tests/faults; code=$$?; \
		$(call record,faults,make faults KILLS=$(KILLS) INTERRUPTS=$(INTERRUPTS)); exit $$code

soak: $(READY) ## denoise 10,000 small images in one process; IMAGES=1000 for fewer
	EDGEDENOISE_SOAK=$(IMAGES) $(BIN)/pytest -o junit_family=xunit1 --junitxml=build/soak.xml \
		tests/faults/test_soak.py; code=$$?; \
		$(call record,soak,make soak IMAGES=$(IMAGES)); exit $$code

# Folder of the free photos that the shipped networks were trained on; the model cards list them.
CLEAN ?= photos

reproduce-edge: $(READY) ## train and build the shipped `edge` again, CLEAN=DIR; four hours of one core, less with bfloat16
	$(BIN)/edgedenoise train --config edge-shipped --clean $(CLEAN) --out build/edge/float
	$(BIN)/edgedenoise train --config edge-shipped-int8 --init build/edge/float --clean $(CLEAN) --out build/edge/int8
	$(BIN)/edgedenoise build build/edge/int8 --data $(CLEAN) -o build/edge/edge.edge --count 512 \
		--target onnxruntime --about docs/cards/edge.md \
		--noise-level 0 --noise-level 0.25 --noise-level 0.5 --noise-level 0.75 --noise-level 1

lint: $(READY) ## check style, formatting, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/links
	cd .typelinks && ../$(BIN)/lint-imports --no-logo ../pyproject.toml

format: $(READY) ## fix style and formatting where that is possible
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY) ## run mypy, strictly, on the whole package
	$(BIN)/python .ci/typecheck

docs: $(READY) ## build the documentation site in site/; broken links are errors
	$(BIN)/python .ci/links
	$(BIN)/mkdocs build --strict --quiet

serve-docs: $(READY) ## show the documentation at http://127.0.0.1:8000 while you edit it
	$(BIN)/python .ci/links
	$(BIN)/mkdocs serve

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) .typelinks .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist site runtimes/web/dist runtimes/web/node_modules *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The demo needs a part of the packages only: no TensorFlow, no Core ML, no TensorRT-RTX.
$(DEMO_READY): pyproject.toml constraints.txt
	$(call install,demo)
	@touch $@

$(READY): pyproject.toml constraints.txt
	$(call install,dev)
	@touch $@ $(DEMO_READY)

# $(call record,NAME,COMMAND): write what the report in build/ holds into docs/results, where RECORD is set.
record = $(if $(RECORD),$(BIN)/python tests/faults/record.py $(1) build/$(1).xml "$(2)",true)

# $(call install,EXTRAS): make the environment, and install edgedenoise with these extras and the source links.
define install
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found. Name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "==> installing edgedenoise[$(1)] (minutes, once)"
	@$(BIN)/python -m pip install --quiet -c constraints.txt setuptools -e ".[$(1)]"
	@$(BIN)/python .ci/links
endef
