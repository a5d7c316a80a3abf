#!/bin/sh
# Measures what a GPU does, and writes benchmarks/results/gpu.md. Installs nothing.
#   benchmarks/gpu.sh                        on a machine with a GPU
#   benchmarks/gpu.sh --device cpu --tiny    the same code on small sizes, without a GPU
# PYTHON is the interpreter; by default .venv/bin/python, if the checkout has one, or python3.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
PYTHONPATH=$PWD exec "$PYTHON" -m benchmarks.gpu "$@"
