"""The fragments of lists of URLs: the rows of a bucket of hosts, and its pairs that were removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.contract import contract
from curation.engine.units import StageOutput, content_of
from curation.stages.ingest.group_by_host import BUCKET, Group, ShuffleFiles
from curation.stages.ingest.removed import Removed, RemovedPairs
from curation.store.fragment import Fragment


@dataclass(frozen=True)
class BucketRows:
    """The rows `start` to `stop` of a bucket, and pairs that are no longer listed.

    Attributes:
        shuffle_files: those of the group, each sorted by bucket.
        bits: the group has 2^bits buckets.
        bucket: number of the bucket.
        start: first row.
        stop: row after the last one.
        removed: the pairs of the bucket that are no longer listed, if they stand in this fragment.
        generation: that of the group, see `History`.
    """

    shuffle_files: list[Fragment]
    bits: int
    bucket: int
    start: int
    stop: int
    removed: Removed | None = None
    generation: int = 0

    @property
    def content(self) -> Any:
        """What memos depend on."""
        removed = [self.removed.key] if self.removed and self.removed.key else []
        generation = [{"generation": self.generation}] if self.generation else []
        place = [self.bits, self.bucket, self.start, self.stop]
        return content_of([self.shuffle_files, *place, *removed, *generation])

    def batches(self) -> StageOutput:
        """Yield rows of `pairs`.

        Returns:
            The bucket, by which fetch knows fragments with common hosts, as `hosts`; what the next run
            needs to know of the group and of removed pairs, as `generation` and `removed`.
        """
        yield from self._listed()
        stats: dict[str, Any] = {
            "hosts": [self.bits, self.bucket],
            "generation": self.generation,
        }
        if self.removed is not None:
            rows = 0
            for batch in self.removed.batches():
                rows += batch.num_rows
                yield batch
            stats["removed"] = self.removed.stats(rows)
        return stats

    def _listed(self) -> Iterator[pa.RecordBatch]:
        names = contract("pairs").arrow_schema().names
        parts = [
            table
            for shuffled in self.shuffle_files
            for table in shuffled.row_groups_between(BUCKET, self.bucket, self.bucket)
        ]
        if parts:
            listed = pa.concat_tables(parts)
            listed = listed.filter(pc.equal(listed.column(BUCKET), self.bucket)).select(names)
            yield from listed.slice(self.start, self.stop - self.start).to_batches()


def bucket_fragments(
    group: Group, shuffle_files: ShuffleFiles, removed: RemovedPairs, rows_per_fragment: int
) -> dict[str, BucketRows]:
    """Return the fragments of a group by name: one per bucket, or several for a large bucket.

    Args:
        group: the group.
        shuffle_files: those of the group.
        removed: finds the pairs of a bucket that are no longer listed.
        rows_per_fragment: largest number of listed rows in a fragment.
    """
    fragments = {}
    for bucket, rows in enumerate(shuffle_files.rows.tolist()):
        parts = -(-rows // rows_per_fragment) or int(removed.may_stand(group, bucket))
        for part in range(parts):
            start = part * rows_per_fragment
            stop = max(start, min(start + rows_per_fragment, rows))
            fragments[f"{group.stem(bucket)}-{part:03d}"] = BucketRows(
                shuffle_files.fragments,
                group.bits,
                bucket,
                start,
                stop,
                removed.of(group, bucket) if part == 0 else None,
                removed.generation(group),
            )
    return fragments
