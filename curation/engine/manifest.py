"""What the store writes down: files, completion records and manifests, and the counts of their rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from curation.engine.digest import digest

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


RowCounts = dict[str, dict[str, int]]
"""Rows by role (or `all`) and outcome: a reason, or the status where there is no reason."""


def count_rows(batch: pa.RecordBatch) -> RowCounts:
    """Count the rows of a batch by role and outcome; empty for tables without outcomes."""
    names = [n for n in ("role", "status", "reason") if n in batch.schema.names]
    if "reason" not in names:
        return {}
    counted = pa.Table.from_batches([batch.select(names)]).group_by(names)
    counts: RowCounts = {}
    for row in counted.aggregate([([], "count_all")]).to_pylist():
        outcomes = counts.setdefault(row.get("role", "all"), {})
        outcome = row["reason"] or row.get("status", "ok")
        outcomes[outcome] = outcomes.get(outcome, 0) + row["count_all"]
    return counts


def sum_counts(all_counts: Iterable[RowCounts]) -> RowCounts:
    """Return the sum of counts."""
    total: RowCounts = {}
    for counts in all_counts:
        for role, outcomes in counts.items():
            place = total.setdefault(role, {})
            for outcome, rows in outcomes.items():
                place[outcome] = place.get(outcome, 0) + rows
    return {role: dict(sorted(total[role].items())) for role in sorted(total)}


def aggregate_stats(all_stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge the measurements of fragments: counts add up, anything else is the same in each.

    `origin` and `hosts`, which are of one fragment, are left out.
    """
    merged: dict[str, Any] = {}
    for stats in all_stats:
        for name, value in stats.items():
            if name in ("origin", "hosts"):
                continue
            is_count = isinstance(value, int) and not isinstance(value, bool)
            merged[name] = merged.get(name, 0) + value if is_count else value
    return merged


@dataclass(frozen=True)
class FileEntry:
    """One committed file: path within the store, size in bytes, SHA-256, rows."""

    path: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class FragmentRecord:
    """Completion record of a fragment: its files, counted rows and measurements."""

    table_dir: str
    name: str
    memo: str
    files: tuple[FileEntry, ...]
    counts: RowCounts = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the fragment."""
        return sum(f.rows for f in self.files)

    @property
    def content(self) -> str:
        """What downstream memos depend on: the bytes of the files, not where they are.

        `origin` among the measurements stands for files outside the store that rows point into.
        """
        return digest([[f.sha256 for f in self.files], self.stats.get("origin")])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self)

    @staticmethod
    def from_json(spec: dict[str, Any]) -> FragmentRecord:
        """Read back `to_json`."""
        files = tuple(FileEntry(**f) for f in spec["files"])
        return FragmentRecord(**(spec | {"files": files}))


@dataclass(frozen=True)
class Manifest:
    """One table version: what it holds and what it was made from."""

    table: str
    version: str
    stage: str
    stage_version: int
    contract_version: int
    params: dict[str, Any]
    reads: dict[str, str]
    libraries: dict[str, str]
    created: str
    fragments: tuple[FragmentRecord, ...]
    counts: RowCounts
    stats: dict[str, Any]

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return sum(f.rows for f in self.fragments)

    @property
    def content(self) -> str:
        """What downstream memos depend on."""
        return digest([[f.name, f.content] for f in self.fragments])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self) | {"rows": self.rows}

    @staticmethod
    def from_json(spec: dict[str, Any]) -> Manifest:
        """Read back `to_json`."""
        fragments = tuple(FragmentRecord.from_json(r) for r in spec["fragments"])
        known = {k: v for k, v in spec.items() if k != "rows"}
        return Manifest(**(known | {"fragments": fragments}))
