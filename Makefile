QUICKSTART_PORT ?= 8765
AIRFLOW_PORT ?= 8080
CLUSTER_PORT ?= 7077
WORKERS ?= 2
BIN := $(CURDIR)/.venv/bin

# Spark's scripts look for Python there.
export PATH := $(BIN):$(PATH)

# Any Python from 3.9 on starts the set-up, which then looks for a 3.11, 3.12, 3.13 or 3.14 itself.
SETUP = set -e; for python in "$$PYTHON" python3 python3.12 python3.11 python3.13 python3.14; do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; \
	then exec "$$python" scripts/setup.py $(1); fi; done; \
	echo "setup: no Python from 3.9 on is on PATH: install Python 3.11, 3.12, 3.13 or 3.14" >&2; exit 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-airflow quickstart airflow cluster check format hooks docs test test-airflow test-gpu coverage nightly \
	wheel constraints clean

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

# RECIPES and STORE name yours. The quickstart's pages are served as long as Airflow runs.
RUN_AIRFLOW = $(BIN)/python scripts/run_airflow.py --port $(AIRFLOW_PORT)
airflow: setup setup-airflow ## run Airflow on loopback, with a DAG for each recipe (RECIPES=… STORE=… AIRFLOW_PORT=8080)
ifdef RECIPES
	$(RUN_AIRFLOW) --recipes "$(RECIPES)" --store "$(or $(STORE),data/store)"
else
	$(BIN)/python -m quickstart build data/quickstart --port $(QUICKSTART_PORT)
	$(BIN)/python -m quickstart serve data/quickstart --port $(QUICKSTART_PORT) -- $(RUN_AIRFLOW) \
		$(if $(STORE),--store "$(STORE)")
endif

cluster: setup ## run a standalone Spark cluster on loopback (CLUSTER_PORT=7077 WORKERS=2)
	$(BIN)/python scripts/run_cluster.py --port $(CLUSTER_PORT) --workers $(WORKERS)

check: setup ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## mend formatting and what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: setup ## build the documentation into site/; broken links are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

hooks: setup ## have git check what is committed, by .pre-commit-config.yaml
	$(BIN)/pre-commit install

# Three processes on two cores: many tests wait for a server, for Java, or for a run that is killed.
# A file stays in one process.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: setup setup-airflow check docs ## everything CI runs
	$(PYTEST) -m "not nightly" --durations 15

test-airflow: setup setup-airflow ## the Airflow tests alone
	$(BIN)/python -m pytest tests/airflow

test-gpu: setup ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

# Subprocesses and Spark's local workers count. What spark-submit and a standalone cluster start does not,
# nor does Airflow, which has another environment, and what a kill ends loses its measurement.
coverage: setup ## the tests with coverage of curation/; fails below the bound in pyproject.toml
	$(BIN)/coverage erase
	PYTHONPATH="$(CURDIR)" PYSPARK_SUBMIT_ARGS="--conf spark.python.daemon.module=tests.coverage_daemon pyspark-shell" \
		$(PYTEST) -m "not nightly" --ignore tests/airflow --cov --cov-report= --cov-fail-under=0
	-$(BIN)/coverage combine --quiet --append
	$(BIN)/coverage html --quiet --fail-under=0
	$(BIN)/coverage report --skip-covered

nightly: setup setup-airflow ## the checks that are too long for every change, in parts that resume (PART=…)
	$(BIN)/python scripts/nightly.py $(addprefix --only ,$(PART))

wheel: setup ## build the wheel and the source archive into dist/, and try the wheel in a fresh environment
	rm -rf dist
	$(BIN)/uv build --quiet --out-dir dist .
	$(BIN)/python scripts/check_wheel.py --wheel dist/*.whl

# With hashes: what is installed later has the content of today.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--no-header --no-annotate --generate-hashes

# Not after `setup`, which fails while the pins do not meet pyproject.toml.
constraints: ## bring the pins to pyproject.toml, moving as few as possible
	@test -x $(BIN)/uv || $(MAKE) setup
	$(COMPILE) pyproject.toml --extra cpu --extra gpu --extra text --extra heif --extra jxl --extra c2pa --extra dev --extra java -o constraints.txt
	$(COMPILE) --group airflow -o constraints-airflow.txt

clean: ## remove the environments and caches; data/ stays
	rm -rf .venv .venv-airflow .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build htmlcov .coverage \
		.coverage.* site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
