"""What the store records: files, completion records of fragments, and manifests of table versions."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from curation.store.digest import digest

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

STEERING_STATS = ("generation", "removed")
"""Measurements of a fragment by which the next run decides what it lists. A version with others is
another one, though it has the same rows."""

CONTAINERS = "containers"
FRAGMENT_STATS = ("origin", CONTAINERS, "hosts", "remote", *STEERING_STATS)
"""Measurements that belong to one fragment. `origin` identifies files outside the store that the
fragment's rows point into, CONTAINERS has the size and the time of change of those that hold several
images."""

TABLE_STATS = ("notices",)
"""Measurements of a whole table, of what is no row of it. A version with others is another one."""

SECONDS_SUFFIX = "_seconds"
"""Ending of the names of measured times."""

RowCounts = dict[str, dict[str, int]]
"""Number of rows by role and outcome. The role is `all` in tables without roles; the outcome is the
row's reason, or its status if it has no reason."""


def count_rows(batch: pa.RecordBatch) -> RowCounts:
    """Count the rows of a batch by role and outcome; return nothing for a table without reasons."""
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
    """Add up counts by role and outcome."""
    total: RowCounts = {}
    for counts in all_counts:
        for role, outcomes in counts.items():
            sums = total.setdefault(role, {})
            for outcome, rows in outcomes.items():
                sums[outcome] = sums.get(outcome, 0) + rows
    return {role: dict(sorted(total[role].items())) for role in sorted(total)}


def count_outcomes(all_counts: Iterable[RowCounts]) -> dict[str, int]:
    """Add up counts by outcome, of all roles, in the order of outcomes."""
    total: Counter[str] = Counter()
    for counts in all_counts:
        for outcomes in counts.values():
            total.update(outcomes)
    return dict(sorted(total.items()))


def count_rows_of_members(all_counts: Iterable[RowCounts]) -> dict[str, int]:
    """Count by outcome the rows of tables that have the same rows: the largest number of any table."""
    total: Counter[str] = Counter()
    for counts in all_counts:
        total |= Counter(count_outcomes([counts]))
    return dict(sorted(total.items()))


def aggregate_stats(all_stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the measurements of a table from those of its fragments.

    Whole numbers are added up. Other values are the same in every fragment. Those of FRAGMENT_STATS
    belong to one fragment alone and are left out.
    """
    total: dict[str, Any] = {}
    for stats in all_stats:
        for name, value in stats.items():
            if name in FRAGMENT_STATS:
                continue
            is_count = isinstance(value, int) and not isinstance(value, bool)
            total[name] = total.get(name, 0) + value if is_count else value
    return total


FORMAT = 4
"""The form of manifests and completion records; it grows when the form changes."""


def check_within(*paths: str) -> None:
    """Check that paths, or parts of paths, stay in the store: somebody else may have written it.

    Raises:
        ValueError: one leads out of it.
    """
    for path in paths:
        if path.startswith("/") or "/../" in f"/{path}/":
            raise ValueError(f"{path[:300]!r} leads out of the store")


def record_path(table_dir: str, memo: str) -> str:
    """Return the path of the completion record of a fragment."""
    return f"{table_dir}/done/{memo}.json"


@dataclass(frozen=True)
class FileEntry:
    """One committed file.

    Attributes:
        path: within the store.
        size: in bytes.
        sha256: of all its bytes, in hexadecimal digits.
        rows: number of rows; 0 where it is no Parquet file.
        footer: `footer_digest` of a Parquet file; empty where none was recorded.
    """

    path: str
    size: int
    sha256: str
    rows: int
    footer: str = ""

    def __post_init__(self) -> None:
        check_within(self.path)


@dataclass(frozen=True)
class FragmentRecord:
    """Completion record of a fragment: once it is in the store, the fragment is finished.

    Attributes:
        table_dir: folder of the store with the records of the table.
        name: name of the fragment.
        memo: digest of everything that decides the rows; the record's file is named after it.
        files: the Parquet files, in the order of rows.
        counts: number of rows by role and outcome.
        stats: measurements that the stage returned.
        libraries: versions of the libraries that computed the rows.
    """

    table_dir: str
    name: str
    memo: str
    files: tuple[FileEntry, ...]
    counts: RowCounts = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_within(self.table_dir, self.name, self.memo)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(f.rows for f in self.files)

    @property
    def content(self) -> str:
        """Digest for the memos of later stages: of the bytes of the files, wherever they are.

        The measurement `origin` counts too, because rows may point into files outside the store.
        """
        return digest([[f.sha256 for f in self.files], self.stats.get("origin")])

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return asdict(self) | {"format": FORMAT}

    @staticmethod
    def from_json(spec: dict[str, Any]) -> FragmentRecord:
        """Return the record that `to_json` described."""
        files = tuple(FileEntry(**f) for f in spec["files"])
        known = {k: v for k, v in spec.items() if k != "format"}
        return FragmentRecord(**(known | {"files": files}))

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        # A driver gets one record for each fragment, and Spark bounds the size of results.
        return _unpack_record, (zlib.compress(json.dumps(self.to_json()).encode(), 1),)


def _unpack_record(packed: bytes) -> FragmentRecord:
    return FragmentRecord.from_json(json.loads(zlib.decompress(packed)))


@dataclass(frozen=True)
class Manifest:
    """One version of a table: its fragments, and everything that it was made from.

    Attributes:
        table: name of the table.
        version: digest that names the version (see `version_of`).
        stage: the stage that wrote it.
        stage_version: version of that stage.
        contract_version: version of the table's contract.
        params: parameters of the stage that decide rows.
        reads: version of each table that the stage read, when these rows were made first.
        created: time in UTC, ISO 8601.
        fragments: the fragments, in order.
        counts: number of rows by role and outcome, of all fragments.
        stats: measurements of the whole table.
        seconds: how long the stage worked in the run that wrote the version, for all its tables. What
            earlier runs had finished is not in it.
    """

    table: str
    version: str
    stage: str
    stage_version: int
    contract_version: int
    params: dict[str, Any]
    reads: dict[str, str]
    created: str
    fragments: tuple[FragmentRecord, ...]
    counts: RowCounts
    stats: dict[str, Any]
    seconds: float | None = None

    @cached_property
    def rows(self) -> int:
        """Number of rows."""
        return sum(f.rows for f in self.fragments)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """The files of all fragments, in the order of rows."""
        return tuple(entry for fragment in self.fragments for entry in fragment.files)

    @cached_property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(entry.size for entry in self.files)

    @cached_property
    def content(self) -> str:
        """Digest for the memos of later stages."""
        return content_of_fragments(self.fragments)

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that computed the fragments; several are separated by commas."""
        versions: dict[str, set[str]] = {}
        for fragment in self.fragments:
            for name, version in fragment.libraries.items():
                versions.setdefault(name, set()).add(version)
        return {name: ", ".join(sorted(versions[name])) for name in sorted(versions)}


def content_of_fragments(fragments: Iterable[FragmentRecord]) -> str:
    """Return the digest of the names and the content of fragments."""
    return digest([[f.name, f.content] for f in fragments])


def version_of(manifest: Manifest) -> str:
    """Return the version that a manifest should have: a digest of its rows and of how they were made.

    Tables that were read do not count: if other ones lead to the same rows, the version is the same.
    Nor do measured times: a version that was lost must get its name again when it is computed anew.
    """
    made = [manifest.stage, manifest.stage_version, manifest.contract_version, manifest.params]
    stats = {k: v for k, v in manifest.stats.items() if not k.endswith(SECONDS_SUFFIX)}
    steering = [
        {name: fragment.stats[name]}
        for fragment in manifest.fragments
        for name in STEERING_STATS
        if name in fragment.stats
    ]
    return digest([manifest.content, *made, stats, *steering])


@dataclass(frozen=True)
class Committed:
    """What a step committed for a table.

    Attributes:
        version: the version.
        key: digest of everything that decided its rows.
        lineage: version of each table that it was made from, directly or not.
    """

    version: str
    key: str
    lineage: Mapping[str, str] = field(default_factory=dict)
