#!/bin/sh
# Prints the GPUs of a machine for Spark: {"name": "gpu", "addresses": ["0", "1"]}.
# Spark starts it on each worker (spark.worker.resource.gpu.discoveryScript) and in each executor
# (spark.executor.resource.gpu.discoveryScript).
set -e
indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)
addresses=
for index in $indices; do
    addresses="$addresses${addresses:+, }\"$index\""
done
printf '{"name": "gpu", "addresses": [%s]}\n' "$addresses"
