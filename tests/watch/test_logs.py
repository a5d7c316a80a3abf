"""JSON logs: every line is one clean object, whoever wrote it."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.logs import JsonFormatter, JsonLines, LogFormatter, set_run_fields
from tests.test_streams import ADDRESS, EVIL, SECRET, WRITERS
from tests.test_terminal import acting

RUN_FIELDS = {"run": "20261129T", "recipe": "birds", "stage": "fetch"}


def parse(text: str) -> list[dict[str, Any]]:
    """Parse lines of JSON, and check what all have."""
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for record in records:
        assert {"time", "level", "logger", "message"} <= set(record)
        assert datetime.fromisoformat(record["time"]).tzinfo is not None
        assert record["level"] in ("debug", "info", "warning", "error", "critical")
        assert not acting(str(record))
    return records


@given(st.text(), st.text(min_size=1))
def test_any_record_is_one_line_that_acts_on_nothing(text: str, name: str) -> None:
    record = logging.LogRecord(name, logging.WARNING, "", 0, "%s", (text,), None)
    line = JsonFormatter().format(record)
    assert line.isascii() and not acting(line)
    (parsed,) = parse(line)
    assert parsed["level"] == "warning"


@given(st.lists(st.text(alphabet="ab\n", max_size=5), max_size=6))
def test_what_is_written_in_parts_becomes_whole_records(parts: list[str]) -> None:
    out = io.StringIO()
    stream = JsonLines(out)
    assert [stream.write(part) for part in parts] == [len(part) for part in parts]
    stream.flush()
    messages = [record["message"] for record in parse(out.getvalue())]
    written = [line for line in "".join(parts).split("\n") if line]
    assert [line for message in messages for line in message.split("\n") if line] == written


def test_times_are_of_one_zone_wherever_a_log_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of several time zones write into one store, whose records are in UTC."""
    record = logging.LogRecord("n", logging.INFO, "", 0, "said", (), None)
    written = []
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        written.append(LogFormatter("%(asctime)s %(message)s").format(record))
    monkeypatch.undo()
    time.tzset()
    assert written[0] == written[1]
    said = datetime.fromisoformat(written[0].removesuffix(" said"))
    assert said == datetime.fromisoformat(parse(JsonFormatter().format(record))[0]["time"])


def test_records_say_run_and_stage_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    set_run_fields(RUN_FIELDS)
    try:
        raise ValueError(f"at {ADDRESS}")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    line = JsonFormatter().format(record)
    set_run_fields({})
    (parsed,) = parse(line)
    assert RUN_FIELDS.items() <= parsed.items()
    assert "ValueError: at https://***@host.example" in parsed["trace"]
    assert SECRET not in line


def test_all_that_a_process_and_its_children_write_is_json(root: Path) -> None:
    writers = WRITERS.replace('"%(message)s")', '"%(message)s", "json")')
    assert writers != WRITERS
    done = subprocess.run(
        [sys.executable, "-P", "-c", writers],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=60,
    )
    err = done.stderr.decode()
    # What stands before the set-up, and after the streams were given back, is text.
    lines = err.splitlines(keepends=True)
    records = parse("".join(line for line in lines if line.startswith("{")))
    kinds = {kind: [r for r in records if f"{kind}\\x1b" in r["message"]] for kind in (
        "logged", "thread", "foreign", "output", "child", "trace"
    )}  # fmt: skip
    assert {kind: len(of_kind) for kind, of_kind in kinds.items()} == dict.fromkeys(kinds, 1), err
    assert kinds["logged"][0] | {"time": ""} == {
        **{"time": "", "level": "info", "logger": "x"},
        "message": kinds["logged"][0]["message"],
    }
    assert kinds["foreign"][0]["logger"] == "stderr"
    assert kinds["trace"][0]["level"] == kinds["thread"][0]["level"] == "critical"
    assert "Traceback" in kinds["trace"][0]["trace"]
    assert SECRET not in err and EVIL not in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["run", "https://u:passw0rd@h/none.yaml", "--store", "x"], 2, "none.yaml"),
        (["run", "none.yaml"], 2, "--store"),
    ],
)
def test_an_error_of_a_command_is_one_record(
    arguments: list[str], status: int, words: str, root: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "curation.cli", "--log-format", "json", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == status, done.stderr
    (record,) = parse(done.stderr)
    assert (record["level"], record["logger"]) == ("error", "curation")
    assert words in record["message"] and "passw0rd" not in done.stderr
    assert done.stdout == ""
