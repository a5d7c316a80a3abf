"""Rows that another list of their source had: lists are renamed, cut, and joined with others.

The images of such a row are in the earlier fragments of the list that had it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from curation.engine.table import Table
from curation.store.fragment import stem_of
from curation.store.manifest import FragmentRecord, Manifest


class _Bucket(NamedTuple):
    """The bucket `number` of 2^bits, by hosts, of some lists of a source."""

    source: str
    bits: int
    number: int


def changed_buckets_beside(pairs: Table, earlier: Manifest) -> dict[str, list[str]]:
    """Return for each bucket whose rows changed those of other lists that may have had some of them.

    Args:
        pairs: the rows to fetch.
        earlier: the version of `images` whose rows may be reused.

    Returns:
        By the stem of the names of its fragments, the stems of others. Lists that name files are in
        no bucket.
    """
    version = earlier.reads.get("pairs")
    if version is None or version == pairs.manifest.version:
        return {}
    manifest = pairs.store.manifest("pairs", version)
    before = manifest.fragments if manifest else ()
    buckets = _buckets([*before, *pairs.manifest.fragments])
    contents = {record.name: record.content for record in before}
    now = {record.name: record.content for record in pairs.manifest.fragments}
    changed = {stem_of(name) for name, content in (contents.items() ^ now.items())}
    changed &= buckets.keys()
    listed: dict[tuple[str, int], dict[int, list[str]]] = {}
    for stem in sorted(changed):
        bucket = buckets[stem]
        numbers = listed.setdefault((bucket.source, bucket.bits), {})
        numbers.setdefault(bucket.number, []).append(stem)
    return {
        stem: [other for other in _overlapping(buckets[stem], listed) if other != stem]
        for stem in changed
    }


def _buckets(records: Iterable[FragmentRecord]) -> dict[str, _Bucket]:
    buckets = {}
    for record in records:
        if "hosts" in record.stats:
            stem = stem_of(record.name)
            bits, number = record.stats["hosts"]
            buckets[stem] = _Bucket(stem_of(stem_of(stem)), bits, number)
    return buckets


def _overlapping(
    bucket: _Bucket, listed: Mapping[tuple[str, int], Mapping[int, list[str]]]
) -> Iterator[str]:
    """Yield the listed buckets of the same source that may hold hosts of a bucket."""
    for (source, bits), numbers in listed.items():
        if source != bucket.source:
            continue
        more = bits - bucket.bits
        if more <= 0:
            yield from numbers.get(bucket.number >> -more, ())
            continue
        for number in range(bucket.number << more, (bucket.number + 1) << more):
            yield from numbers.get(number, ())
