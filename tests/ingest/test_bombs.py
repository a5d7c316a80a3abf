"""No file makes a reader take more than its share of memory, whatever it holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.bombs import BOMBS, SLOW, write_bomb
from tests.ingest.json_bombs import JSON_BOMBS, SLOW_JSON
from tests.ingest.parquet_bombs import PARQUET_BOMBS, SLOW_PARQUET

ROOT = Path(__file__).parents[2]
EVERY = BOMBS | JSON_BOMBS | PARQUET_BOMBS
NIGHTLY = (*SLOW, *SLOW_JSON, *SLOW_PARQUET)


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    # Other allocators reserve far more addresses than they use, which the limit would count.
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.ingest.read_limited"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def read(reader: subprocess.Popen[str], kind: str, path: Path, has_caption: bool) -> dict[str, Any]:
    assert reader.stdin is not None and reader.stdout is not None
    mapped = kind in ("parquet", "csv", "tsv", "jsonl")
    columns = {"url": "url"} if mapped else {}
    if kind in ("parquet", "csv") and has_caption:
        columns["caption"] = "caption"
    task = {"format": kind, "path": str(path), "columns": columns}
    reader.stdin.write(json.dumps(task) + "\n")
    reader.stdin.flush()
    result: dict[str, Any] = json.loads(reader.stdout.readline())
    return result


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.nightly) if n in NIGHTLY else n for n in EVERY]
)
def test_a_reader_takes_bounded_memory(
    tmp_path: Path, reader: subprocess.Popen[str], name: str
) -> None:
    bomb = EVERY[name]
    path = write_bomb(bomb, tmp_path)
    result = read(reader, bomb.format, path, has_caption="nested" not in name)
    assert "error" not in result, result
    if bomb.reason is None:
        assert not any(result["problems"]) and "unreadable" not in result, result
    else:
        messages = " ".join([*result["problems"], str(result.get("unreadable"))])
        assert bomb.reason in messages, result
    assert result["rows"] - result["reasons"].get("bad_row", 0) == bomb.rows, result
