"""Reads files in children of this process, each of which may take only so much memory.

Input are JSON lines with `format`, `path` and `columns`, output JSON lines about what was read.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.engine.registry import Registry
from curation.errors import CurationError
from curation.media.files.limits import READER_BYTES
from curation.media.web.urls import UrlRules
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.stage import read_file


def read(task: dict[str, Any]) -> dict[str, Any]:
    """Return the rows and the reasons of a file."""
    source = Source(name="s", role="pool", **task)
    reasons: Counter[str] = Counter()
    problems: set[str] = set()
    stats: dict[str, Any] = {}
    rows = 0
    for file in list_source(source, 10_000).files:
        batches = read_file(file, UrlRules(), source.version)
        while True:
            try:
                batch = next(batches)
            except StopIteration as end:
                stats = end.value
                break
            rows += batch.num_rows
            reasons.update(str(reason) for reason in batch.column("reason").to_pylist())
            for metadata in filter(None, batch.column("metadata").to_pylist()):
                problem = str(json.loads(metadata).get("unreadable"))
                problems.add(problem.partition(": ")[2][:500])
    return {"rows": rows, "reasons": reasons, "problems": sorted(problems)[:50], **stats}


def data_bytes() -> int:
    """Return what this process may write to: what RLIMIT_DATA limits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024


def read_in_child(task: dict[str, Any]) -> dict[str, Any]:
    """Read a file in a child that may take READER_BYTES more than this process."""
    into, out_of = os.pipe()
    child = os.fork()
    if not child:
        limit = data_bytes() + READER_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            result = read(task)
        except (CurationError, MemoryError) as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(out_of, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(out_of)
    with os.fdopen(into) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return dict(json.loads(text)) if text else {"error": f"it died with {status}"}


def main() -> None:
    """Read what standard input lists."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    formats: Registry[Any] = FORMATS
    for name in formats:
        formats.load(name)
    with tempfile.TemporaryDirectory() as folder:
        # What is imported and kept does not count for the files that follow.
        path = Path(folder, "l.csv")
        path.write_text("url\nhttp://a.example/1\n")
        read({"format": "csv", "path": str(path), "columns": {"url": "url"}})
    for line in sys.stdin:
        sys.stdout.write(json.dumps(read_in_child(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
