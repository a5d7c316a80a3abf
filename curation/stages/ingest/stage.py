"""Stage ingest: lists of pairs, in any format, become rows of `pairs`; duplicates are asked once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment, group_by_stem
from curation.engine.manifest import FragmentRecord
from curation.engine.units import StageOutput, empty_batch
from curation.errors import RecipeError
from curation.media.web.urls import Rules, rules_of
from curation.stages.ingest.duplicates import find_duplicates
from curation.stages.ingest.formats.source_row import stage
from curation.stages.ingest.group_by_host import (
    Gathered,
    Group,
    InOrder,
    gathered,
    groups_of,
    recall_groups,
    remember_groups,
    routes_of,
)
from curation.stages.ingest.params import IngestStep
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.listing import source_files
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile

logger = logging.getLogger(__name__)


def units(*, params: IngestStep, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `ingest` for each fragment.

    Every file is read once and remembered by its path, size and time of change. Rows stand in source,
    file and row order, but those of lists of URLs, which are arranged by host.

    Raises:
        RecipeError: a source has no file or no row, or its files lack a mapped column.
        StoreError: a file cannot be read.
    """
    rules = rules_of(params, context)
    items = _items(params)
    records = context.compute(
        "read",
        read_file,
        {
            name: {"given": given, "rules": rules, "version": given.source.version}
            for name, given in items.items()
        },
        rows_per_file=params.rows_per_fragment,
    )
    _check_counts(params.sources, items, records)
    groups = _groups(params, {name: records[name].rows for name in items}, items, context)
    staged = _fragments(items, records, context)
    by_file = {name: list(own.values()) for name, own in staged.items()}
    # Who came first keeps what several ask for: what has been fetched stays.
    grouped = [name for group in groups for name in group.files if name in items]
    settled = [name for name in items if name not in set(grouped)]
    in_order = [fragment for name in settled + grouped for fragment in by_file[name]]
    found = zip(in_order, find_duplicates(in_order), strict=True)
    losers = {fragment.name: rows for fragment, rows in found}
    units: dict[str, dict[str, Any]] = {
        fragment.name: {"pairs": InOrder(fragment, losers[fragment.name])}
        for name in settled
        for fragment in by_file[name]
    }
    earlier = _committed(context)
    routes = routes_of(groups, by_file, losers, context)
    for group in groups:
        own = gathered(group, routes[group.name], earlier, params.rows_per_fragment)
        units |= {name: {"pairs": pairs} for name, pairs in own.items()}
    return units


def _groups(
    params: IngestStep, rows: dict[str, int], items: Mapping[str, SourceFile], context: Context
) -> list[Group]:
    """Return how the files of lists of URLs are grouped: as before, and new ones after them."""
    known = recall_groups(context)
    found = []
    for source in params.sources:
        if source.asks_hosts:
            own = {n: rows[n] for n, given in items.items() if given.source.name == source.name}
            found += groups_of(own, source.name, known, params.rows_per_fragment)
    names = {group.name for group in found}
    remembered = [group for group in known if group.name not in names]
    place = {group.name: number for number, group in enumerate(known)}
    found.sort(key=lambda group: place.get(group.name, len(known)))
    remember_groups(context, remembered + found)
    return found


def _committed(context: Context) -> dict[str, list[Fragment]]:
    """Return the fragments of `pairs` as the last run left them, by the stem of their names."""
    manifest = context.store.manifest("pairs")
    records = manifest.fragments if manifest else ()
    return group_by_stem(Fragment(context.store, record) for record in records)


def read_file(given: SourceFile, rules: Rules, version: list[int | str]) -> StageOutput:
    """Yield the rows of one file, staged: columns of `pairs` and the key of duplicates.

    `version` is that of the format, for the memo.

    Raises:
        RecipeError: a mapped column is not in the file.
        StoreError: the file cannot be read.
    """
    entry = FORMATS[given.source.reader]
    read = getattr(FORMATS.load(given.source.reader), entry.function)
    yield from stage(given, read(given), rules)
    if entry.holds_images or {"image", "path"} & set(given.source.mapped):
        # Pictures behind `path` are known by their list only: a changed one needs a new list.
        return {"origin": given.origin}
    return {}


def ingest(pairs: InOrder | Gathered, *, params: IngestStep) -> StageOutput:
    """Yield the pairs of one fragment."""
    yield empty_batch(contract("pairs").arrow_schema())
    yield from pairs.batches()
    return pairs.stats


def _items(params: IngestStep) -> dict[str, SourceFile]:
    """Return the files of all sources by a name that is the same in every run."""
    items: dict[str, SourceFile] = {}
    for source in params.sources:
        parts: dict[str, int] = {}
        for given in source_files(source, params.rows_per_fragment):
            part = parts[given.name] = parts.get(given.name, -1) + 1
            full = hashlib.sha256(given.name.encode("utf-8", "surrogateescape")).hexdigest()
            length = 8
            while (name := f"{source.name}-{full[:length]}-{part:05d}") in items:
                length += 8
            items[name] = given
    return items


def _check_counts(
    sources: list[Source], items: Mapping[str, SourceFile], records: Mapping[str, FragmentRecord]
) -> None:
    for source in sources:
        mine = [name for name, given in items.items() if given.source.name == source.name]
        rows = sum(records[name].rows for name in mine)
        if rows == 0:
            raise RecipeError(
                f"Source {source.name!r}: {source.path!r} holds no row in {len(mine)} file(s). "
                "Give `path` files with rows, or take the source out of the recipe."
            )
        if source.count is not None and source.count != rows:
            logger.warning("Source %r: count says %d, found %d", source.name, source.count, rows)


def _fragments(
    items: Mapping[str, SourceFile], records: Mapping[str, FragmentRecord], context: Context
) -> dict[str, dict[str, Fragment]]:
    """Return each file of the staged records as a fragment of its own, by item and place."""
    staged: dict[str, dict[str, Fragment]] = {}
    for item, given in items.items():
        stem, part = item.rsplit("-", 1)
        staged[item] = {}
        # A part of a folder holds no more rows than a fragment; a file is one part of many.
        first = int(part) if given.members else 0
        for number, entry in enumerate(records[item].files, start=first):
            name = f"{stem}-{number:05d}"
            record = replace(records[item], name=name, files=(entry,), counts={})
            staged[item][name] = Fragment(context.store, record)
    return staged
