"""One recipe by the command line, and by spark-submit on a cluster with a store on S3: one dataset.

`tests/airflow/test_dag.py` compares the dataset of a run under Airflow.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.object_store.server import UnavailableError, address, credentials, serving
from curation.engine.table import open_table
from curation.store.store import Store

from .conftest import dataset_rows
from .test_cluster import Cluster, _submit

pytestmark = pytest.mark.nightly


@pytest.fixture
def bucket() -> Iterator[str]:
    """The address of an empty store on S3."""
    try:
        with serving() as port, credentials():
            yield address(port, "launchers")
    except UnavailableError as error:
        pytest.skip(str(error))


def test_a_cluster_with_a_store_on_s3_gives_the_dataset_of_the_command_line(
    small: dict[str, Any], bucket: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(small))
    command = [sys.executable, "-m", "curation.cli", "run", str(recipe)]
    subprocess.run([*command, "--store", str(tmp_path / "store")], check=True, timeout=400)
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.wait()
        _submit(cluster, tmp_path, "run.py", "--recipe", "small.yaml", "--store", bucket)
    finally:
        cluster.stop()
    rows = open_table(Store(bucket), "dataset").read().to_pylist()
    assert len(rows) > 20
    assert sorted(rows, key=lambda row: row["image_id"]) == dataset_rows(tmp_path / "store")
