"""Groups lists of URLs by host: all rows of a host are in one bucket, so that one task requests it.

Files that are first listed together form a group, whose rows are cut into buckets by a hash of the
host. A file that is added later joins no earlier group, so fetched fragments do not change. Groups and
buckets decide only which task requests a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.sorted_arrays import stable_order
from curation.engine.units import StageOutput, content_of
from curation.media.web.failure_reasons import FORGOTTEN
from curation.stages.ingest.duplicates import Duplicates
from curation.stages.ingest.formats.forgotten import bucket_of_forgotten, host_hash
from curation.stages.ingest.formats.source_row import STAGED_ONLY
from curation.store.fragment import Fragment
from curation.store.manifest import CONTAINERS

GROUP_ROWS = 2**23
"""Largest group in rows: about a thousand buckets of the default size, each of which reads all shuffle
files of the group."""
SHUFFLE_FILE_ROWS = 2**19
"""Rows that one task sorts by bucket in memory, at a few hundred bytes each."""
MAX_BUCKET_BITS = 12
SHORT_LIST_BUCKETS, MIN_BUCKET_ROWS = 4, 1_500
"""A short list is cut into this number of buckets, so that several tasks share it, if each bucket has
at least this number of rows."""
BUCKET = "bucket"
NOTED_HOSTS = 256
"""Hosts of a fragment of a list that names files, too, up to which they are noted one by one."""


@dataclass(frozen=True)
class Group:
    """Files of a source that were first listed together, cut into 2^bits buckets."""

    name: str
    source: str
    bits: int
    files: tuple[str, ...]

    def stem(self, bucket: int) -> str:
        """Return the name of a bucket, with which the names of its fragments begin."""
        return f"{self.name}-{bucket:04d}"


def form_groups(
    files: Mapping[str, int], source: str, earlier: Sequence[Group], rows_per_fragment: int
) -> list[Group]:
    """Return the groups of the files of a source: those of earlier runs, then groups of new files.

    Args:
        files: number of rows by file, in order.
        source: name of the source.
        earlier: groups of earlier runs, of all sources.
        rows_per_fragment: approximate size of a bucket in rows.
    """
    groups = [group for group in earlier if group.source == source]
    grouped = {name for group in groups for name in group.files}
    new = [name for name in files if name not in grouped]
    start = 0
    while start < len(new):
        stop, rows = start, 0
        while stop < len(new) and (stop == start or rows + files[new[stop]] <= GROUP_ROWS):
            rows += files[new[stop]]
            stop += 1
        members = tuple(new[start:stop])
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:8]
        bucket_rows = max(MIN_BUCKET_ROWS, -(-rows // SHORT_LIST_BUCKETS))
        bucket_rows = min(rows_per_fragment, bucket_rows)
        bits = min(MAX_BUCKET_BITS, (max(rows - 1, 0) // bucket_rows).bit_length())
        groups.append(Group(f"{source}-{digest}", source, bits, members))
        start = stop
    return groups


def load_groups(context: Context) -> list[Group]:
    """Return the groups that the last run saved."""
    saved = context.load_state("groups", "all", shared=True)
    if saved is None:
        return []
    return [Group(**row | {"files": tuple(row["files"])}) for row in saved.read().to_pylist()]


def save_groups(context: Context, groups: Sequence[Group]) -> None:
    """Save the groups for later runs."""
    if list(groups) == load_groups(context):
        return
    rows = [{**vars(group), "files": list(group.files)} for group in groups]
    kinds = [pa.string(), pa.string(), pa.int32(), pa.list_(pa.string())]
    schema = pa.schema(list(zip(("name", "source", "bits", "files"), kinds, strict=True)))
    context.save_state(
        "groups", "all", pa.RecordBatch.from_pylist(rows, schema=schema), shared=True
    )


def bucket_of(url: str | None, pair_id: str, bits: int) -> int:
    """Return the bucket of a row: by its host, or by its pair_id if it has no URL."""
    return host_hash(url, pair_id) >> (32 - bits) if bits else 0


def overlapping_buckets(bucket: int, bits: int, other_bits: int) -> tuple[int, int]:
    """Return the first and the last of 2^other_bits buckets that may hold hosts of one of 2^bits."""
    if other_bits <= bits:
        number = bucket >> (bits - other_bits)
        return number, number
    more = other_bits - bits
    return bucket << more, ((bucket + 1) << more) - 1


def mark_duplicates(
    batch: pa.RecordBatch, start: int, first_of: Mapping[int, str]
) -> pa.RecordBatch:
    """Return staged rows as rows of `pairs`, with duplicates dropped by status and reason.

    Args:
        batch: staged rows.
        start: number of the first of them in its fragment.
        first_of: for each duplicate row, the pair_id of the row that it repeats.
    """
    batch = batch.drop_columns(list(STAGED_ONLY))
    duplicates = [row for row in range(start, start + batch.num_rows) if row in first_of]
    if not duplicates:
        return batch
    names = ("status", "reason", "duplicate_of", "location")
    columns = {name: batch.column(name).to_pylist() for name in names}
    for row in duplicates:
        by_url = columns["location"][row - start] is None
        columns["status"][row - start] = "dropped"
        columns["reason"][row - start] = "duplicate_url" if by_url else "duplicate_pair"
        columns["duplicate_of"][row - start] = first_of[row]
    for name in names[:3]:
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, batch.schema.field(at), pa.array(columns[name], pa.string()))
    return batch


@dataclass(frozen=True)
class StagedRows:
    """The rows of a staged fragment in their order, with duplicates dropped.

    Attributes:
        staged: the fragment.
        duplicates: its duplicates.
        named: digest of the image files that the rows name; None if they name none.
    """

    staged: Fragment
    duplicates: Duplicates
    named: str | None = None

    @property
    def content(self) -> Any:
        """What memos depend on."""
        named = [self.named] if self.named else []
        return content_of([self.staged, self.duplicates, *named])

    def marked(self) -> Iterator[pa.RecordBatch]:
        """Yield rows of `pairs`."""
        first_of, start = self.duplicates.first_of(), 0
        for batch in self.staged.batches():
            yield mark_duplicates(batch, start, first_of)
            start += batch.num_rows

    def batches(self) -> StageOutput:
        """Yield rows of `pairs`.

        Returns:
            The version of the files outside the store that rows point into, as `origin`, and those that
            hold several images, as CONTAINERS; and hashes of the hosts of rows whose images are behind
            URLs alone, as `remote`, or none if they are many.
        """
        hosts = set[int]()
        for batch in self.marked():
            hosts.update(_remote_hosts(batch))
            yield batch
        origins = [o for o in (self.staged.record.stats.get("origin"), self.named) if o]
        stats: dict[str, Any] = {"origin": "-".join(origins)} if origins else {}
        if CONTAINERS in self.staged.stats:
            stats[CONTAINERS] = self.staged.stats[CONTAINERS]
        if hosts:
            stats["remote"] = sorted(hosts) if len(hosts) <= NOTED_HOSTS else []
        return stats


def _remote_hosts(pairs: pa.RecordBatch) -> set[int]:
    """Return hashes of the hosts of rows that are not dropped, and have no image in a file."""
    asked = pc.and_(pc.equal(pairs.column("status"), "ok"), pc.is_null(pairs.column("location")))
    urls = pairs.column("url_normalized").filter(asked).drop_null().to_pylist()
    return {host_hash(url, "") for url in urls}


def write_shuffle_file(
    staged: Sequence[Fragment], duplicates: Sequence[Duplicates], bits: int
) -> StageOutput:
    """Write the rows of staged fragments sorted by bucket, one row group per bucket.

    Returns:
        The number of rows of each bucket, as `counts`.
    """
    batches: list[pa.RecordBatch] = []
    for fragment, rows in zip(staged, duplicates, strict=True):
        batches += StagedRows(fragment, rows).marked()
    table = pa.Table.from_batches(batches, contract("pairs").arrow_schema())
    names = ("url_normalized", "pair_id", "reason")
    columns = [table.column(n).to_pylist() for n in names]
    buckets: npt.NDArray[np.int32] = np.array(
        [
            bucket_of_forgotten(pair_id, bits)
            if reason == FORGOTTEN
            else bucket_of(url, pair_id, bits)
            for url, pair_id, reason in zip(*columns, strict=True)
        ],
        np.int32,
    )
    order = stable_order(buckets)
    table = table.append_column(BUCKET, pa.array(buckets)).take(pa.array(order))
    counts = np.bincount(buckets, minlength=2**bits)
    ends = np.cumsum(counts)
    for bucket in np.flatnonzero(counts).tolist():
        rows_of_bucket = table.slice(int(ends[bucket] - counts[bucket]), int(counts[bucket]))
        yield rows_of_bucket.combine_chunks().to_batches()[0]
    return {"counts": counts.tolist()}


class ShuffleFiles:
    """The shuffle files of a group, and the number of rows of each of its buckets.

    Every bucket is sent the files, so their own counts are left out.
    """

    def __init__(self, group: Group) -> None:
        self.fragments: list[Fragment] = []
        self.rows = np.zeros(2**group.bits, np.int64)

    def add(self, shuffled: Fragment) -> None:
        """Add a shuffle file."""
        self.rows += np.array(shuffled.record.stats["counts"], np.int64)
        self.fragments.append(shuffled.without_measurements())


def shuffle(
    groups: Sequence[Group],
    staged: Mapping[str, Sequence[Fragment]],
    duplicates: Mapping[str, Duplicates],
    context: Context,
) -> dict[str, ShuffleFiles]:
    """Return the shuffle files of each group, by its name; workers write them.

    Args:
        groups: of all sources.
        staged: fragments by file.
        duplicates: of each fragment, by its name.
        context: gives the workers.
    """
    items: dict[str, dict[str, Any]] = {}
    group_of: dict[str, str] = {}
    for group in groups:
        batch: list[Fragment] = []
        fragments = [f for name in group.files for f in staged.get(name, ())]
        for number, fragment in enumerate(fragments):
            batch.append(fragment)
            is_last = number == len(fragments) - 1
            if is_last or sum(f.rows for f in batch) >= SHUFFLE_FILE_ROWS:
                name = f"{group.name}-{len(items):05d}"
                rows = [duplicates[f.name] for f in batch]
                items[name] = {"staged": batch, "duplicates": rows, "bits": group.bits}
                group_of[name] = group.name
                batch = []
    shuffled = context.compute("group by host", write_shuffle_file, items, batch_groups=True)
    files = {group.name: ShuffleFiles(group) for group in groups}
    for name, table in shuffled.items():
        files[group_of[name]].add(table)
    return files
