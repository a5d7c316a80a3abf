"""Pairs that the last run of a step listed and this one does not: they stand as `removed`.

A pair stands once, and only while no list of its source names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from curation.engine.context import Context
from curation.engine.units import content_of
from curation.stages.ingest.formats.forgotten import not_forgotten
from curation.stages.ingest.group_by_host import BUCKET, Group, overlapping_buckets
from curation.store.digest import digest
from curation.store.fragment import Fragment, group_by_stem, stem_of
from curation.store.manifest import FragmentRecord
from curation.store.tombstones import Takedowns

REMOVED = "removed"
"""The reason of a pair that an earlier run listed and this one does not."""


LISTED = pa.schema([("bits", pa.int32()), ("record", pa.string())])
"""A shuffle file of a group with 2^bits buckets, as JSON."""


class Buckets(NamedTuple):
    """The buckets of all groups of a source that may hold hosts of one bucket.

    A group has dozens of shuffle files, and a source hundreds of groups, so tasks read their names from
    the store.

    Attributes:
        listed: LISTED of the source.
        bits: the bucket is one of 2^bits.
        bucket: its number.
    """

    listed: Fragment
    bits: int
    bucket: int

    def pair_ids(self) -> Iterator[pa.ChunkedArray]:
        """Yield the ids of the listed pairs."""
        columns = (self.listed.read().column(name).to_pylist() for name in LISTED.names)
        for bits, record in zip(*columns, strict=True):
            shuffled = Fragment(self.listed.store, FragmentRecord.from_json(json.loads(record)))
            first, last = overlapping_buckets(self.bucket, self.bits, bits)
            for table in shuffled.row_groups_between(BUCKET, first, last, [BUCKET, "pair_id"]):
                yield table.column("pair_id")


@dataclass(frozen=True)
class Removed:
    """The pairs of a bucket that are no longer listed.

    Attributes:
        last: the bucket in the last version: its listed pairs, and those that were removed before.
        listed: where its pairs may be listed now; None if the last version has no rows.
        elsewhere: buckets of earlier groups in the last version: a pair in one of them stands there.
        key: digest that changes with the rows; None if there are certainly none.
        state: digests by which the next run knows whether anything changed.
        takedowns: what was taken down: such a pair does not stand.
    """

    last: Sequence[Fragment] = field(repr=False)
    listed: Buckets | None = field(repr=False)
    elsewhere: Sequence[Fragment] = field(repr=False)
    key: str | None
    state: dict[str, str]
    takedowns: Takedowns | None = field(default=None, repr=False)

    def stats(self, rows: int) -> dict[str, Any]:
        """Return what the next run needs to know, if this one wrote `rows` removed pairs."""
        return {"key": self.key, "rows": rows, **self.state}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows of `pairs`."""
        if self.key is None or self.listed is None:
            return
        gone = {i for fragment in self.last for i in _pair_ids(fragment)}
        for pair_ids in self.listed.pair_ids():
            gone.difference_update(pair_ids.to_pylist())
        for fragment in self.elsewhere:
            gone.difference_update(_pair_ids(fragment))
        for fragment in self.last:
            for batch in fragment.batches():
                stands = pa.array(_take(batch.column("pair_id").to_pylist(), gone), pa.bool_())
                standing = not_forgotten(batch.filter(stands), self.takedowns)
                if standing.num_rows:
                    yield _as_removed(standing)


def _take(pair_ids: list[str], gone: set[str]) -> Iterator[bool]:
    """Yield for each row whether it stands: the first of its pair, if the pair is gone."""
    for pair_id in pair_ids:
        yield pair_id in gone
        gone.discard(pair_id)


def _pair_ids(fragment: Fragment) -> list[str]:
    ids: list[str] = fragment.read(["pair_id"]).column(0).to_pylist()
    return ids


def _as_removed(batch: pa.RecordBatch) -> pa.RecordBatch:
    values = {"status": "dropped", "reason": REMOVED, "duplicate_of": None}
    for name, value in values.items():
        at = batch.schema.get_field_index(name)
        column = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
        batch = batch.set_column(at, batch.schema.field(at), column)
    return batch


class History:
    """The pairs that the step committed last.

    The generation of a group is that of the run that listed it first: 0, or one more than before.

    Args:
        context: finds them. Another version of the stage may name the same pairs otherwise, so it has
            no history.
    """

    def __init__(self, context: Context) -> None:
        manifest = context.last_version("pairs")
        known = manifest is not None and [manifest.stage, manifest.stage_version] == context.salt
        records = manifest.fragments if manifest is not None and known else ()
        grouped = (r for r in records if "hosts" in r.stats)
        self.fragments = group_by_stem(Fragment(context.store, record) for record in grouped)
        """Fragments of lists of URLs, by the stem of their names: group and bucket."""
        self._generations: dict[str, int] = {
            stem_of(stem): fragments[0].record.stats["generation"]
            for stem, fragments in self.fragments.items()
        }
        self._next = max(self._generations.values(), default=-1) + 1

    @property
    def groups(self) -> list[Group]:
        """Return the groups of lists of URLs in their order, without the names of their files."""
        groups = {}
        for stem, fragments in self.fragments.items():
            name = stem_of(stem)
            bits = fragments[0].record.stats["hosts"][0]
            groups[name] = Group(name, stem_of(name), bits, ())
        return list(groups.values())

    def generation(self, group: Group) -> int:
        """Return the generation of a group; one that is new has the next one."""
        return self._generations.get(group.name, self._next)


class RemovedPairs:
    """Finds the removed pairs of each bucket.

    Args:
        history: the last version.
        groups: all groups in their order, with their shuffle files.
        context: keeps the names of shuffle files.
    """

    def __init__(
        self,
        history: History,
        groups: Sequence[tuple[Group, list[Fragment]]],
        context: Context,
    ) -> None:
        self._history, self._groups, self._context = history, groups, context
        self._takedowns = context.store.takedowns()
        self._listed: dict[str, Fragment] = {}
        self._listing = {
            group.name: digest([group.bits, content_of(files)]) for group, files in groups
        }
        by_source: dict[str, list[str]] = {}
        for group, files in groups:
            listings = by_source.setdefault(group.source, [])
            # One that lists nothing may be missing from the next run.
            if files:
                listings.append(self._listing[group.name])
        self._source = {source: digest(sorted(names)) for source, names in by_source.items()}

    def generation(self, group: Group) -> int:
        """Return the generation of a group."""
        return self._history.generation(group)

    def may_stand(self, group: Group, bucket: int) -> bool:
        """Whether the last version has rows of a bucket that were not taken down."""
        last = [fragment for fragment in self._last(group, bucket) if fragment.rows]
        if self._takedowns is None:
            return bool(last)
        batches = (batch for fragment in last for batch in fragment.batches())
        return any(not_forgotten(batch, self._takedowns).num_rows for batch in batches)

    def of(self, group: Group, bucket: int) -> Removed:
        """Return the removed pairs of a bucket."""
        last = self._last(group, bucket)
        state = {"group": self._listing[group.name], "source": self._source[group.source]}
        kept = _kept_key(last, state)
        if kept is None:
            return Removed((), None, (), None, state)
        listed = Buckets(self._listed_of(group.source), group.bits, bucket)
        same_source = [g for g, _ in self._groups if g.source == group.source]
        elsewhere = [
            fragment
            for other in same_source[: same_source.index(group)]
            for fragment in self._overlapping(other, group, bucket)
        ]
        key = kept or digest([state["source"], content_of(last), content_of(elsewhere)])
        return Removed(last, listed, elsewhere, key, state, self._takedowns)

    def _listed_of(self, source: str) -> Fragment:
        """Return LISTED of a source."""
        if source not in self._listed:
            key, context = [source, self._source[source]], self._context
            saved = context.load_state("listed", key)
            if saved is None:
                rows = [
                    {"bits": group.bits, "record": json.dumps(shuffled.record.to_json())}
                    for group, files in self._groups
                    if group.source == source
                    for shuffled in files
                ]
                batch = pa.RecordBatch.from_pylist(rows, schema=LISTED)
                context.save_state("listed", key, batch)
                saved = context.load_state("listed", key)
            assert saved is not None
            self._listed[source] = saved
        return self._listed[source]

    def _last(self, group: Group, bucket: int) -> list[Fragment]:
        return self._history.fragments.get(group.stem(bucket), [])

    def _overlapping(self, other: Group, group: Group, bucket: int) -> Iterator[Fragment]:
        first, last = overlapping_buckets(bucket, group.bits, other.bits)
        for number in range(first, last + 1):
            yield from self._last(other, number)


def _kept_key(last: Sequence[Fragment], state: Mapping[str, str]) -> str | None:
    """Return the key of the last version if the removed pairs are those of that one, else "".

    Without a change of its lists nothing of a group is gone, and what is gone stays so until any list
    of the source changes.
    """
    if not last:
        return None
    noted = last[0].record.stats.get("removed")
    if noted is None or noted["group"] != state["group"]:
        return ""
    if noted["rows"] and noted["source"] != state["source"]:
        return ""
    key: str | None = noted["key"]
    return key
