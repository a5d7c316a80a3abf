QUICKSTART_PORT ?= 8765
BIN := $(CURDIR)/.venv/bin

# The shim `java` of a machine without Java lies there.
export PATH := $(BIN):$(PATH)

# Any Python from 3.9 on starts the set-up, which then looks for a 3.11, 3.12 or 3.13 itself.
SETUP = set -e; for python in "$$PYTHON" python3 python3.12 python3.11 python3.13; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; \
	then exec "$$python" scripts/setup.py $(1); fi; done; \
	echo "setup: no Python from 3.9 on is on PATH: install Python 3.11, 3.12 or 3.13" >&2; exit 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-airflow quickstart check format test test-airflow test-gpu constraints clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## build .venv (PYTHON=…, FAISS=cpu|gpu); does nothing when it is up to date
	@$(call SETUP,project)

setup-airflow: ## build .venv-airflow, for Airflow alone
	@$(call SETUP,airflow)

quickstart: setup ## make a small web on this machine and curate it (QUICKSTART_PORT=8765)
	$(BIN)/python -m quickstart build data/quickstart --port $(QUICKSTART_PORT)
	$(BIN)/python -m quickstart serve data/quickstart --port $(QUICKSTART_PORT) -- \
		$(BIN)/curation run conf/recipes/quickstart.yaml --store data/store

check: setup ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## mend formatting and what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

# Two processes: a run that is killed again and again uses one core. A file stays in one process.
test: setup setup-airflow check ## everything CI runs
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15

test-airflow: setup setup-airflow ## the Airflow tests alone
	$(BIN)/python -m pytest tests/airflow

test-gpu: setup ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--no-header --no-annotate

# Not after `setup`, which fails while the pins do not meet pyproject.toml.
constraints: ## bring the pins to pyproject.toml, moving as few as possible
	@test -x $(BIN)/uv || $(MAKE) setup
	$(COMPILE) pyproject.toml --extra cpu --extra gpu --extra text --extra dev --extra java -o constraints.txt
	$(COMPILE) --group airflow -o constraints-airflow.txt

clean: ## remove the environments and caches; data/ stays
	rm -rf .venv .venv-airflow .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
