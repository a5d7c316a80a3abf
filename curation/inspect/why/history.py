"""Since which run a row is listed, and an image in the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow.compute as pc

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.inspect.why.tables import Place
from curation.inspect.why.values import text
from curation.store.fragment import Fragment
from curation.store.run_record import RunRecord
from curation.store.store import DATASET, Store

MAX_VERSIONS = 50
"""Versions that are looked into, the latest first."""


def listed_since(store: Store, runs: Iterable[RunRecord], place: Place) -> dict[str, Any] | None:
    """Return the first run of a recipe from which on all versions of `pairs` list a pair."""

    has = _search("pair_id", place.pair_id)

    def has_pair(fragments: dict[str, Fragment]) -> bool:
        fragment = fragments.get(place.fragment)
        return fragment is not None and has(fragment)

    return _since(store, runs, "pairs", "pairs", has_pair)


def claimed_since(
    store: Store, runs: Iterable[RunRecord], fragment: str, image_id: str
) -> dict[str, Any] | None:
    """Return the first run of a recipe from which on all versions of the dataset have an image.

    Args:
        store: where the runs are.
        runs: of the recipe, the latest first.
        fragment: the fragment of its claims.
        image_id: the image.
    """

    has = _search("image_id", image_id)

    def has_claim(fragments: dict[str, Fragment]) -> bool:
        # Another row may have represented the image.
        first = [fragments[fragment]] if fragment in fragments else []
        others = [f for name, f in fragments.items() if name != fragment]
        return any(map(has, (*first, *others)))

    return _since(store, runs, DATASET, "claims", has_claim)


def _since(
    store: Store,
    runs: Iterable[RunRecord],
    table: str,
    searched: str,
    has: Callable[[dict[str, Fragment]], bool],
) -> dict[str, Any] | None:
    """Return the earliest version of a table, without a gap since, that has something.

    Args:
        store: where the runs are.
        runs: the latest first.
        table: whose versions count.
        searched: the table in which it is looked for, in the version of the same run.
        has: whether the fragments of that version have it.
    """
    first: dict[str, Any] | None = None
    known: dict[str, bool] = {}
    for record in runs:
        version = record.tables.get(searched)
        if table not in record.tables or version is None:
            continue
        if version not in known:
            if len(known) == MAX_VERSIONS:
                break
            try:
                known[version] = has(dict(open_table(store, searched, version).fragments))
            except StoreError:
                # gc may have removed the tables of earlier runs.
                break
        if not known[version]:
            break
        first = {"version": record.tables[table], "run": record.run, "started": record.started}
    return first


def _search(column: str, value: str) -> Callable[[Fragment], bool]:
    """Return what says whether a fragment has a value; versions share most of their fragments."""
    known: dict[str, bool] = {}

    def has(fragment: Fragment) -> bool:
        if fragment.content not in known:
            values = fragment.read([column]).column(column)
            known[fragment.content] = bool(pc.any(pc.equal(values, text(value))).as_py())
        return known[fragment.content]

    return has
