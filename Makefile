# Everything here sets itself up: `make demo` and `make test` work in a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# uv is pinned once, in requirements.txt, like everything else.
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.txt)
# default: what the package index gives (CUDA on Linux); cpu: PyTorch's CPU build (hundreds of megabytes, not gigabytes)
TORCH ?= default
ARGS ?=
# Tests mostly wait for Kafka; each worker has one of its own (400 MB).
WORKERS ?= 3

export HF_HUB_OFFLINE ?= 1
# Two threads double the CPU per event and gain nothing.
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench torture swap-drill nightly lock clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP) ## Create .venv with everything pinned in requirements.txt (TORCH=cpu for the small PyTorch)

$(STAMP): requirements.txt pyproject.toml
	@echo "Setting up $(VENV) from requirements.txt, hash-checked. Downloads what is not cached yet:"
	@echo "  on Linux about 4 GB, nearly all of it PyTorch with CUDA; elsewhere about 500 MB."
	@echo "  No GPU? 'make setup TORCH=cpu' takes PyTorch's CPU build instead (about 700 MB in all)."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Penchant needs Python 3.11 or newer; try 'make setup PYTHON=python3.12'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python cannot make virtual environments (no ensurepip)." >&2; \
	  echo "On Debian and Ubuntu: apt install python3-venv; or name another one: make setup PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet "uv==$(UV_VERSION)"
ifeq ($(TORCH),cpu)
	@awk '/^[a-z]/ { skip = /^(torch==|triton==|nvidia-|cuda-)/ } !skip' requirements.txt > $(VENV)/without-torch.txt
	@$(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes -r $(VENV)/without-torch.txt
	@$(BIN)/uv pip install --python $(BIN)/python --torch-backend cpu \
	  "$$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.txt)"
else
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.txt
endif
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Show it at work on a real Kafka of its own (ARGS="..." are handed on)
	@$(BIN)/penchant demo $(ARGS)

test: check ## Lint, type-check, then run every test
	$(BIN)/pytest -n $(WORKERS)

check: $(STAMP) ## Lint, formatting, types, layer rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure beside the usual way (reported, never asserted; ARGS="--help" says what can be chosen)
	$(BIN)/python -m tests.bench $(ARGS)

torture: $(STAMP) ## Kill and stop instances and broker under load, then check every event (MINUTES=3 SEED=n JSON=file)
	$(BIN)/python -m tests.torture --minutes $(or $(MINUTES),3) $(if $(SEED),--seed $(SEED)) \
	  $(if $(JSON),--json $(JSON)) $(ARGS)

swap-drill: $(STAMP) ## Swap models under load, bad ones among them, and check every event (JSON=file)
	$(BIN)/python -m tests.drill $(if $(JSON),--json $(JSON)) $(ARGS)

nightly: test ## Tests, the full evaluation, tuning, sentiment, the torture, the benchmarks with a million events
	$(BIN)/penchant evaluate
	$(BIN)/penchant tune --from-dataset ml-100k || test $$? -eq 3  # 3: the gate says no
	$(BIN)/penchant sentiment en
	$(BIN)/penchant sentiment en --method lora
	$(BIN)/penchant sentiment zh
	$(MAKE) torture MINUTES=45 ARGS=
	$(MAKE) swap-drill ARGS=
	$(MAKE) bench ARGS="--events 1000000 --rounds 3 $(ARGS)"

lock: $(STAMP) ## Pin requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --all-extras --universal --python-version 3.11 \
	  --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.txt

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
