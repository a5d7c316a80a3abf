"""How lists of URLs become fragments: all rows of a host go to one, so that one task alone asks it.

Files that are listed together form a group, cut into buckets by a hash of the host. A file that comes
later joins no old group, so that what has been fetched stays as it is. How rows are arranged decides
nothing but which task asks for them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput, content_of
from curation.media.web.urls import host_of
from curation.stages.ingest.formats.source_row import SAME_AS

GROUP_ROWS = 2**23
"""Rows of a group: a thousand fragments of the default size, which all read all its routes."""
ROUTED_ROWS = 2**19
"""Rows that one task arranges in memory, a few hundred bytes each."""
MOST_BITS = 12
SPREAD, FEWEST = 4, 1_500
"""Buckets that a short list is cut into, so that several tasks share it, if each has that many rows."""
BUCKET = "bucket"
REMOVED = "removed"
"""The reason of a pair that was listed once and no longer is."""


@dataclass(frozen=True)
class Group:
    """Files of a source that came together, cut into 2^bits buckets."""

    name: str
    source: str
    bits: int
    files: tuple[str, ...]


def groups_of(
    files: Mapping[str, int], source: str, known: Sequence[Group], rows_per_fragment: int
) -> list[Group]:
    """Return the groups of a source's files, known ones first; new files form new ones.

    Args:
        files: rows by file, in order.
        source: its name.
        known: groups of earlier runs, of all sources.
        rows_per_fragment: about as many a bucket will have.
    """
    found = [group for group in known if group.source == source]
    grouped = {name for group in found for name in group.files}
    new = [name for name in files if name not in grouped]
    start = 0
    while start < len(new):
        stop, rows = start, 0
        while stop < len(new) and (stop == start or rows + files[new[stop]] <= GROUP_ROWS):
            rows += files[new[stop]]
            stop += 1
        members = tuple(new[start:stop])
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:8]
        bucket_rows = min(rows_per_fragment, max(FEWEST, -(-rows // SPREAD)))
        bits = min(MOST_BITS, (max(rows - 1, 0) // bucket_rows).bit_length())
        found.append(Group(f"{source}-{digest}", source, bits, members))
        start = stop
    return found


def recall_groups(context: Context) -> list[Group]:
    """Return the groups that `remember_groups` kept."""
    kept = context.load_state("groups", "all")
    if kept is None:
        return []
    return [Group(**row | {"files": tuple(row["files"])}) for row in kept.read().to_pylist()]


def remember_groups(context: Context, groups: Sequence[Group]) -> None:
    """Keep how files are grouped, for later runs."""
    if list(groups) == recall_groups(context):
        return
    rows = [{**vars(group), "files": list(group.files)} for group in groups]
    kinds = [pa.string(), pa.string(), pa.int32(), pa.list_(pa.string())]
    schema = pa.schema(list(zip(("name", "source", "bits", "files"), kinds, strict=True)))
    context.save_state("groups", "all", pa.RecordBatch.from_pylist(rows, schema=schema))


def bucket_of(url: str | None, pair_id: str, bits: int) -> int:
    """Return the bucket of a row: that of its host, where it has one."""
    name = host_of(url) if url else pair_id
    return zlib.crc32(name.encode()) >> (32 - bits) if bits else 0


def without_duplicates(
    batch: pa.RecordBatch, start: int, first_of: Mapping[int, str]
) -> pa.RecordBatch:
    """Return staged rows, of which the first is number `start`, as pairs: without the key, and with
    some dropped as duplicates of the pairs that `first_of` names by row."""
    batch = batch.drop_columns([SAME_AS])
    own = [row for row in range(start, start + batch.num_rows) if row in first_of]
    if not own:
        return batch
    names = ("status", "reason", "duplicate_of", "location")
    columns = {name: batch.column(name).to_pylist() for name in names}
    for row in own:
        by_url = columns["location"][row - start] is None
        columns["status"][row - start] = "dropped"
        columns["reason"][row - start] = "duplicate_url" if by_url else "duplicate_pair"
        columns["duplicate_of"][row - start] = first_of[row]
    for name in names[:3]:
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, batch.schema.field(at), pa.array(columns[name], pa.string()))
    return batch


@dataclass(frozen=True)
class InOrder:
    """The rows of a staged fragment as they are, but for duplicates ([row, pair_id of the first])."""

    staged: Fragment
    duplicates: list[list[Any]]

    @property
    def content(self) -> Any:
        """What memos depend on."""
        return content_of([self.staged, self.duplicates])

    @property
    def stats(self) -> dict[str, Any]:
        """What is said of the fragment."""
        origin = self.staged.record.stats.get("origin")
        return {"origin": origin} if origin else {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows of `pairs`."""
        first_of, start = dict(self.duplicates), 0
        for batch in self.staged.batches():
            yield without_duplicates(batch, start, first_of)
            start += batch.num_rows


@dataclass(frozen=True)
class Gathered:
    """The rows `start` to `stop` of a group's bucket, from all its routes.

    `earlier` are fragments of the same bucket as an earlier run left them; what of them is listed no
    more stays, and says so. They are no part of the content: a run that knows no earlier one is right.
    """

    routes: list[Fragment]
    bits: int
    bucket: int
    start: int
    stop: int
    earlier: list[Fragment]

    @property
    def content(self) -> Any:
        """What memos depend on."""
        return content_of([self.routes, self.bits, self.bucket, self.start, self.stop])

    @property
    def stats(self) -> dict[str, Any]:
        """What is said of the fragment: where the hashes of its hosts lie."""
        return {"hosts": [self.bits, self.bucket]}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows of `pairs`."""
        names = contract("pairs").arrow_schema().names
        parts = [
            t for r in self.routes for t in r.row_groups_between(BUCKET, self.bucket, self.bucket)
        ]
        listed = pa.concat_tables(parts) if parts else None
        if listed is not None:
            listed = listed.filter(pc.equal(listed.column(BUCKET), self.bucket)).select(names)
            yield from listed.slice(self.start, self.stop - self.start).to_batches()
        if self.earlier:
            yield from self._removed(listed.column("pair_id") if listed is not None else None)

    def _removed(self, listed: pa.ChunkedArray | None) -> Iterator[pa.RecordBatch]:
        known = listed if listed is not None else pa.chunked_array([[]], pa.string())
        for fragment in self.earlier:
            for batch in fragment.batches():
                gone = batch.filter(pc.invert(pc.is_in(batch.column("pair_id"), known)))
                for name, value in (("status", "dropped"), ("reason", REMOVED)):
                    at = gone.schema.get_field_index(name)
                    same = pa.array([value] * gone.num_rows, pa.string())
                    gone = gone.set_column(at, gone.schema.field(at), same)
                if gone.num_rows:
                    yield gone


def route(staged: Sequence[Fragment], duplicates: list[list[list[Any]]], bits: int) -> StageOutput:
    """Write the rows of staged fragments by bucket, a row group each; return how many each has."""
    parts = []
    for fragment, rows in zip(staged, duplicates, strict=True):
        parts += list(InOrder(fragment, rows).batches())
    table = pa.Table.from_batches(parts, contract("pairs").arrow_schema())
    ids, urls = (table.column(n).to_pylist() for n in ("pair_id", "url_normalized"))
    buckets: npt.NDArray[np.int32] = np.array(
        [bucket_of(url, name, bits) for url, name in zip(urls, ids, strict=True)], np.int32
    )
    order = np.argsort(buckets, kind="stable")
    table = table.append_column(BUCKET, pa.array(buckets)).take(pa.array(order))
    counts = np.bincount(buckets, minlength=2**bits)
    ends = np.cumsum(counts)
    for number in np.flatnonzero(counts).tolist():
        own = table.slice(int(ends[number] - counts[number]), int(counts[number]))
        yield own.combine_chunks().to_batches()[0]
    return {"counts": counts.tolist()}


def routes_of(
    groups: Sequence[Group],
    staged: Mapping[str, Sequence[Fragment]],
    losers: Mapping[str, list[list[Any]]],
    context: Context,
) -> dict[str, list[Fragment]]:
    """Return the routes of each group, by its name.

    Args:
        groups: of all sources.
        staged: fragments by file.
        losers: duplicates by fragment.
        context: where workers are.
    """
    items: dict[str, dict[str, Any]] = {}
    owner: dict[str, str] = {}
    for group in groups:
        batch: list[Fragment] = []
        own = [f for name in group.files for f in staged.get(name, ())]
        for number, fragment in enumerate(own):
            batch.append(fragment)
            if number == len(own) - 1 or sum(f.rows for f in batch) >= ROUTED_ROWS:
                name = f"{group.name}-{len(items):05d}"
                rows = [losers[f.name] for f in batch]
                items[name] = {"staged": batch, "duplicates": rows, "bits": group.bits}
                owner[name] = group.name
                batch = []
    records = context.compute("arrange", route, items, batch_groups=True)
    found: dict[str, list[Fragment]] = {group.name: [] for group in groups}
    for name, record in records.items():
        found[owner[name]].append(Fragment(context.store, record))
    return found


def gathered(
    group: Group,
    routes: list[Fragment],
    earlier: Mapping[str, list[Fragment]],
    rows_per_fragment: int,
) -> dict[str, Gathered]:
    """Return the fragments of a group by name: buckets, large ones in several parts.

    Args:
        group: a group.
        routes: its routes.
        earlier: fragments of `pairs` as an earlier run left them, by stem.
        rows_per_fragment: rows of a part.
    """
    counts = np.zeros(2**group.bits, np.int64)
    for one in routes:
        counts += np.array(one.record.stats["counts"], np.int64)
    found = {}
    for bucket, rows in enumerate(counts.tolist()):
        stem = f"{group.name}-{bucket:04d}"
        before = earlier.get(stem, [])
        for part in range(max(1 if rows or before else 0, -(-rows // rows_per_fragment))):
            start = part * rows_per_fragment
            stop = min(start + rows_per_fragment, rows)
            old = before if part == 0 else []
            own = Gathered(routes, group.bits, bucket, start, stop, old)
            found[f"{stem}-{part:03d}"] = own
    return found
