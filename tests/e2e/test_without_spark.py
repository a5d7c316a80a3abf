"""A run on this machine starts Spark, and imports what its stages need, only for work that needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

HEAVY = ("aiohttp", "cv2", "faiss", "img2dataset", "pandas", "PIL", "pyspark", "torch")
PROGRAM = f"""
import sys
from curation.cli import app
app(sys.argv[1:], standalone_mode=False)
print("imported", [name for name in {HEAVY} if name in sys.modules])
"""


def run(folder: Path, until: str) -> list[str]:
    """Run a recipe on a machine without Java; return the lines of its output."""
    # However busy this machine is.
    cluster = {"master": "local[2]", "seconds_without_spark": 1000}
    (folder / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    options = ["--store", "store", "--until", until, "--cluster", "cluster.yaml"]
    command = ["run", "recipe.yaml", *options]
    env = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=folder,
        env={**env, "PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_small_work_needs_no_java_and_a_rerun_no_library_of_a_stage(tmp_path: Path) -> None:
    source = {"name": "web", "role": "pool", "format": "csv", "path": "list.csv"}
    spec = {"name": "test", "sources": [{**source, "columns": {"url": "url"}}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(spec))
    rows = "".join(f"https://example.org/{n}.jpg\n" for n in range(100))
    (tmp_path / "list.csv").write_text(f"url\n{rows}")
    (first,) = run(tmp_path, "ingest")
    assert "pyspark" not in first and "torch" not in first
    assert run(tmp_path, "ingest") == [
        "Nothing to do: every table is up to date.",
        "imported []",
    ]
