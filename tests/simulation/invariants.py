"""What holds for the store after every schedule."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from functools import lru_cache
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.store.manifest_file import read_manifest

from .recipe import TABLES, check_rows, mark, steps_of
from .world import Attempt, World

Logs = dict[str, list[dict[str, Any]]]
"""The entries of each step in the order in which they were created."""


def read_logs(world: World) -> Logs:
    """Return every entry that was ever added, by step."""
    logs: Logs = defaultdict(list)
    for path, content in world.server.entries:
        _, step, name = path.split("/")
        logs[step].append(json.loads(content) | {"number": int(name.removesuffix(".json"))})
    return logs


def check_history(world: World) -> None:
    """Check every entry of every log: no double win, no lost commit, no commit after a takeover."""
    for step, entries in read_logs(world).items():
        numbers = [entry["number"] for entry in entries]
        assert numbers == list(range(1, len(entries) + 1)), f"{step}: entries {numbers}"
        tables: Any = {}
        for before, entry in zip([None, *entries], entries, strict=False):
            kind = entry["kind"]
            if kind == "lease":
                assert entry["tables"] == tables, f"{step}: a lease changed what is committed"
            else:
                # Nobody came between the lease and its end, so nobody who was overtaken committed.
                assert before is not None and before["kind"] == "lease", f"{step}: {kind} alone"
                assert before["holder"] == entry["holder"], f"{step}: not the holder's {kind}"
            if kind == "release":
                assert entry["tables"] == tables, f"{step}: a commit was lost"
            tables = entry["tables"]
        for table, committed in tables.items():
            check_version(world, table, committed["version"])


def check_version(world: World, table: str, version: str) -> str:
    """Check that a version is whole: every file is there as it was written; return its mark."""
    objects = world.server.objects
    content = objects[f"tables/{table}/versions/{version}.parquet"][0]
    manifest = read_manifest(content, table, version)
    parts = []
    for record in manifest.fragments:
        for entry in record.files:
            assert entry.path in objects, f"{table} {version}: {entry.path} is gone"
            content = objects[entry.path][0]
            assert sha256(content).hexdigest() == entry.sha256, f"{entry.path} differs"
            parts.append(_rows(content))
    return check_rows(table, pa.concat_tables(parts))


@lru_cache(maxsize=256)
def _rows(content: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(content))


def check_runs(world: World) -> None:
    """Check what each process reported against the store."""
    logs = read_logs(world)
    for this in world.attempts:
        if this.outcome == "finished":
            check_finished(world, this, logs)
        if this.outcome == "disturbed":
            kinds = [entry["kind"] for entry in logs[this.step]]
            overtaken = ("lease", "lease") in itertools.pairwise(kinds)
            assert overtaken, f"files of {this.process} vanished, and nobody was overtaken"
        if this.outcome == "tidied away":
            (lease,) = entries_of(this, logs, "lease")
            following = logs[this.step][lease["number"] :][:1]
            assert [e["kind"] for e in following] == ["lease"], f"{this.process} was not overtaken"
        if this.outcome == "overtaken":
            committed = entries_of(this, logs, "commit")
            assert not committed, f"{this.process} committed, and was told that it did not"


def entries_of(this: Attempt, logs: Logs, kind: str) -> list[dict[str, Any]]:
    """Return the entries of a kind that a process added to the log of the step that it was at."""
    pid = int(this.process.name[1:])
    return [e for e in logs[this.step] if e["kind"] == kind and e["holder"]["pid"] == pid]


def check_finished(world: World, this: Attempt, logs: Logs) -> None:
    """Check that what a successful run reported is in the store, whole, and of its own recipe."""
    record = this.record
    assert record is not None
    stored = json.loads(world.server.objects[record.path][0])
    assert stored["state"] == "finished", (
        f"{record.run} finished, its record says {stored['state']}"
    )
    marks = set()
    for step in steps_of(this.seed):
        (table,) = step.tables
        version = record.tables[table]
        assert stored["tables"][table] == version
        commits = [
            e["tables"][table]
            for e in logs[step.fingerprint]
            if e["kind"] == "commit" and e["tables"][table]["version"] == version
        ]
        assert commits, f"{record.run} used {table} {version}, which was never committed"
        lineage = {name: record.tables[name] for name in TABLES[: TABLES.index(table)]}
        assert any(c["lineage"] == lineage for c in commits), f"{table}: {commits}, not {lineage}"
        marks.add(check_version(world, table, version))
    sources = range(world.server.source + 1)
    assert len(marks) == 1, f"a run mixes {marks}"
    assert marks <= {mark(this.seed, source) for source in sources}
