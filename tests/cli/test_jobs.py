"""The jobs end as the commands do: one message and an exit status, before the work if that can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ingest.helpers import jpeg
from tests.vectors.helpers import source, without_pixels, write_list

from .test_errors import write

JOB = Path(__file__).parents[2] / "jobs" / "run.py"


def job(folder: Path, *options: str, submit: bool = False, **blocks: Any) -> tuple[int, str]:
    """Call the job with a recipe and a store; return its exit status and what it printed."""
    write(folder, **blocks)
    environment = Path(sys.executable).parent
    command = ["spark-submit", "--master", "local[1]"] if submit else ["python"]
    words = [*command, str(JOB), "--recipe", "r.yaml", "--store", "store", *options]
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"PATH": f"{environment}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("place", ["absent/summary.json", "folder"])
def test_a_summary_that_cannot_be_written_is_refused_before_the_work(
    place: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    status, output = job(tmp_path, "--summary", place)
    assert (status, "Traceback" in output) == (2, False), output
    assert "--summary: " in output
    assert not (tmp_path / "store").exists()


def test_an_error_of_the_machine_is_one_message_in_json_too(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    status, output = job(tmp_path, "--log-format", "json", "--metrics", "events")
    error = json.loads(output.strip().splitlines()[-1])
    assert (status, "Traceback" in output) == (error["exit_status"], False), output
    assert error["fix"]


def test_a_cluster_file_does_not_take_the_run_from_where_it_was_submitted(tmp_path: Path) -> None:
    status, output = job(tmp_path, "--cluster", "standalone", submit=True)
    assert status == 2, output
    assert "spark-submit runs on local[1]" in output
    assert "--master spark://127.0.0.1:7077" in output
    assert not (tmp_path / "store").exists()


def test_what_the_command_says_of_the_data_the_job_says_too(tmp_path: Path) -> None:
    """Files that are no rows, reasons for dropped rows, and what is left out."""
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "notes.md").write_text("no picture")
    (tmp_path / "pool" / "a.png").write_bytes(jpeg(0))
    status, output = job(tmp_path, "--until", "ingest")
    command = [sys.executable, "-m", "curation.cli", "run", "r.yaml", "--until", "ingest"]
    done = subprocess.run(
        [*command, "--store", "other"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert status == 0, output
    lines = [line.strip() for line in done.stderr.splitlines()]
    notices = [line for line in lines if line.startswith(("web: ", "No source", "warning"))]
    assert any("notes.md" in line or "1 " in line for line in notices), lines
    for line in notices:
        assert line in output, (line, output)


def test_a_job_with_nothing_to_do_leaves_the_report_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "web.npy", np.random.default_rng(0).normal(size=(30, 8)))
    write_list(tmp_path / "web.parquet", [f"k{n}" for n in range(30)])
    encoder = {"import": str(tmp_path / "web.npy"), "ids": {"join": "rows"}}
    recipe = without_pixels(encoder, source(tmp_path / "web.parquet"), cluster={"levels": [3]})
    here = json.dumps({"master": "local[1]", "seconds_without_spark": 600})
    (tmp_path / "here.yaml").write_text(here)
    written = []
    for _ in range(2):
        status, output = job(tmp_path, "--cluster", "here.yaml", "--summary", "s.json", **recipe)
        assert status == 0, output
        report = Path(json.loads((tmp_path / "s.json").read_text())["report"])
        assert f"report: {report}" in output
        written.append((report, report.stat().st_mtime_ns))
    assert written[0] == written[1]
