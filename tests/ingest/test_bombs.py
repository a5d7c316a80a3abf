"""No file makes a reader take more than its share of memory, whatever it holds."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.bombs import BOMBS, SLOW, write_bomb
from tests.ingest.json_bombs import JSON_BOMBS, SLOW_JSON
from tests.ingest.parquet_bombs import PARQUET_BOMBS, SLOW_PARQUET
from tests.ingest.test_fuzzed_files import KINDS, WHOLE, mutated, write

ROOT = Path(__file__).parents[2]
EVERY = BOMBS | JSON_BOMBS | PARQUET_BOMBS
NO_MEMORY = re.compile(r"MemoryError|malloc|bad_alloc|out of memory", re.IGNORECASE)
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


def read_bomb(reader: subprocess.Popen[str], name: str, path: Path) -> dict[str, Any]:
    kind = EVERY[name].format
    mapped = kind in ("parquet", "csv", "tsv", "jsonl")
    columns = {"url": "url"} if mapped else {}
    if kind in ("parquet", "csv") and "nested" not in name:
        columns["caption"] = "caption"
    return read(reader, {"format": kind, "path": str(path), "columns": columns})


def read(reader: subprocess.Popen[str], task: dict[str, Any]) -> dict[str, Any]:
    assert reader.stdin is not None and reader.stdout is not None
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
    result = read_bomb(reader, name, write_bomb(bomb, tmp_path))
    assert "error" not in result, result
    if bomb.reason is None:
        assert not any(result["problems"]) and "unreadable" not in result, result
    else:
        messages = " ".join([*result["problems"], str(result.get("unreadable"))])
        assert bomb.reason in messages, result
    assert result["rows"] - result["reasons"].get("bad_row", 0) == bomb.rows, result


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA is Linux's")
@pytest.mark.parametrize("name", KINDS)
def test_files_with_changed_bytes_take_bounded_memory(
    tmp_path: Path, reader: subprocess.Popen[str], name: str
) -> None:
    kind, draw = KINDS[name], random.Random()
    for _ in range(300):
        content = mutated(WHOLE[name], draw)
        path = write(name, content, tmp_path)
        source = path if kind.name == "f" else path.parent
        task = {"format": kind.format, "path": str(source), "columns": kind.columns}
        result = read(reader, task)
        messages = " ".join([*result.get("problems", []), str(result.get("unreadable"))])
        # A header may name other columns.
        is_sound = result.get("error", "RecipeError").startswith("RecipeError")
        assert is_sound and not NO_MEMORY.search(messages), (content, result)
