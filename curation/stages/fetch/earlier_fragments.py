"""Which fragments of an earlier run may hold the rows of a fragment: what a task is sent does not grow.

A bucket of hosts has a few fragments; a folder, or a list that names files and URLs, has thousands. Few
are named to each task. Of many, tasks get a table of the records, which they read if they need it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.engine.context import Context
from curation.store.fragment import Fragment, group_by_stem
from curation.store.manifest import FragmentRecord

NAMED_FRAGMENTS = 16
"""Number of fragments that are named to a task, at about 1 KB each."""
LISTING = "earlier images"


@dataclass(frozen=True)
class ListedFragments:
    """Some fragments of an earlier run.

    Attributes:
        named: the fragments, where they are few.
        listing: a saved state with their records, where they are many.
    """

    named: tuple[Fragment, ...] = ()
    listing: Fragment | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self.named and self.listing is None

    def nearest_first(self, name: str) -> list[Fragment]:
        """Return the fragments, those whose numbers are nearest to that of a fragment first.

        Most rows stand where they stood before, or a few fragments further.
        """
        number = _number(name)
        fragments = self.named if self.listing is None else _read_records(self.listing)
        return sorted(fragments, key=lambda f: (abs(_number(f.name) - number), f.name))


NO_FRAGMENTS = ListedFragments()


def list_by_stem(
    records: Iterable[FragmentRecord],
    context: Context,
    beside: Mapping[str, Sequence[str]] | None = None,
) -> Mapping[str, ListedFragments]:
    """Return fragments with rows by the stem of their names.

    Args:
        records: of a table.
        context: where lists of many fragments are written.
        beside: other stems whose fragments are listed for a stem, too.
    """
    fragments = (
        Fragment(context.store, record).without_measurements() for record in records if record.rows
    )
    named, more = group_by_stem(fragments), beside or {}
    by_stem = {
        stem: [fragment for each in (stem, *more.get(stem, ())) for fragment in named.get(each, ())]
        for stem in {**named, **more}
    }
    return {
        stem: ListedFragments(tuple(of_stem))
        if len(of_stem) <= NAMED_FRAGMENTS
        else ListedFragments(listing=_listing(of_stem, context))
        for stem, of_stem in by_stem.items()
    }


def _listing(fragments: Sequence[Fragment], context: Context) -> Fragment:
    """Return a saved state with the records of some fragments."""
    records = [json.dumps(fragment.record.to_json()) for fragment in fragments]
    column = pa.array(records, pa.large_string())
    return context.keep_rows(LISTING, pa.RecordBatch.from_arrays([column], ["record"]))


def _read_records(listing: Fragment) -> list[Fragment]:
    records = listing.read(["record"]).column("record").to_pylist()
    return [
        Fragment(listing.store, FragmentRecord.from_json(json.loads(record))) for record in records
    ]


def _number(name: str) -> int:
    """Return the number at the end of the name of a fragment; 0 if it has none."""
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
