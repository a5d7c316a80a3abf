"""Configuration of clusters, and which device a task is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from curation.errors import RecipeError
from curation.spark import Cluster, load_cluster, spark_conf, task_device


def test_gpus_become_spark_resources_where_the_cluster_has_them():
    cluster = Cluster(gpus=True, conf={"spark.executor.cores": 4, "spark.ui.enabled": False})
    conf = spark_conf(cluster, 1)
    assert conf["spark.task.resource.gpu.amount"] == "1"
    assert conf["spark.executor.resource.gpu.amount"] == "1"
    assert conf["spark.ui.enabled"] == "false"
    assert "spark.task.resource.gpu.amount" not in spark_conf(cluster, 0)
    assert "spark.task.resource.gpu.amount" not in spark_conf(Cluster(), 1)


@pytest.mark.parametrize("name", ["local", "standalone", "yarn", "k8s"])
def test_packaged_clusters_load(name):
    assert load_cluster(name).conf


def test_unknown_cluster_lists_the_valid_ones(tmp_path):
    with pytest.raises(RecipeError, match="local"):
        load_cluster("moon")
    path = tmp_path / "c.yaml"
    path.write_text("mastr: local")
    with pytest.raises(RecipeError, match="mastr"):
        load_cluster(str(path))


def test_without_a_task_the_device_is_what_is_here():
    import torch

    assert task_device() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_each_task_gets_a_gpu_of_its_own(tmp_path, root):
    """On a local cluster whose executors discover two GPUs that are not there."""
    script = tmp_path / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n')
    script.chmod(0o755)
    code = f"""
import json
from curation.spark import Cluster, open_session, task_device
conf = {{
    "spark.ui.enabled": False,
    "spark.driver.host": "127.0.0.1",
    "spark.worker.resource.gpu.amount": 2,
    "spark.worker.resource.gpu.discoveryScript": {str(script)!r},
    "spark.executor.resource.gpu.amount": 2,
    "spark.executor.resource.gpu.discoveryScript": {str(script)!r},
}}
cluster = Cluster(master="local-cluster[1,2,1024]", gpus=True, conf=conf)
spark = open_session("gpus", cluster, gpus=1)
# Two tasks wait for each other, so that they run at once.
devices = spark.sparkContext.parallelize(range(2), 2).barrier().mapPartitions(
    lambda rows: [task_device()]
).collect()
print("RESULT " + json.dumps(sorted(devices)))
spark.stop()
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (line,) = (x for x in result.stdout.splitlines() if x.startswith("RESULT "))
    assert json.loads(line.removeprefix("RESULT ")) == ["cuda:0", "cuda:1"]
