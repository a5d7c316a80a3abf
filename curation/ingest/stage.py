"""Stage ingest: lists of pairs, in any format, become rows of `pairs`; duplicates are asked once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import RecipeError
from curation.fragment import Fragment
from curation.ingest.asked import SAME_AS, stage
from curation.ingest.duplicates import find_duplicates
from curation.ingest.formats import FORMATS
from curation.ingest.listing import source_files
from curation.ingest.source_file import SourceFile
from curation.ingest.urls import BlockedDomains, Rules
from curation.params import Source
from curation.records import Record
from curation.steps import IngestStep
from curation.units import Context, Rows

logger = logging.getLogger(__name__)


def units(*, params: IngestStep, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `ingest` for each fragment, in source, file and row order.

    Every file is read once and remembered by its path, size and time of change.

    Raises:
        RecipeError: a source has no file or no row, or its files lack a mapped column.
        StoreError: a file cannot be read.
    """
    rules = _rules(params, context)
    items = _items(params)
    records = context.compute(
        "read",
        read_file,
        {name: {"given": given, "rules": rules} for name, given in items.items()},
        rows_per_file=params.rows_per_fragment,
    )
    _check_counts(params.sources, items, records)
    staged = _fragments(items, records, context)
    losers = find_duplicates(list(staged.values()))
    return {
        name: {"staged": fragment, "duplicates": rows}
        for (name, fragment), rows in zip(staged.items(), losers, strict=True)
    }


def read_file(given: SourceFile, rules: Rules) -> Rows:
    """Yield the rows of one file, staged: columns of `pairs` and the key of duplicates.

    Raises:
        RecipeError: a mapped column is not in the file.
        StoreError: the file cannot be read.
    """
    reader = FORMATS[given.source.format]
    yield from stage(given, reader(given), rules)
    holds_bytes = given.source.format in ("folder", "webdataset")
    if holds_bytes or {"image", "path"} & set(given.source.columns):
        # Pictures behind `path` are known by their list only: a changed one needs a new list.
        return {"origin": given.origin}
    return {}


def ingest(staged: Fragment, duplicates: list[list[Any]], *, params: IngestStep) -> Rows:
    """Yield the pairs of one fragment, with `duplicates` ([row, pair_id of the first]) dropped."""
    first_of = dict(duplicates)
    start = 0
    for batch in staged.batches():
        rows = range(start, start + batch.num_rows)
        start += batch.num_rows
        yield _without(batch, {r - rows.start: first_of[r] for r in rows if r in first_of})
    origin = staged.record.stats.get("origin")
    return {"origin": origin} if origin else {}


def _without(batch: pa.RecordBatch, first_of: Mapping[int, str]) -> pa.RecordBatch:
    """Return the batch with some rows dropped as duplicates, and without the key."""
    batch = batch.drop_columns([SAME_AS])
    if not first_of:
        return batch
    columns = {
        name: batch.column(name).to_pylist()
        for name in ("status", "reason", "duplicate_of", "location")
    }
    for row, first in first_of.items():
        by_url = columns["location"][row] is None
        columns["status"][row] = "dropped"
        columns["reason"][row] = "duplicate_url" if by_url else "duplicate_pair"
        columns["duplicate_of"][row] = first
    for name in ("status", "reason", "duplicate_of"):
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, batch.schema.field(at), pa.array(columns[name], pa.string()))
    return batch


def _rules(params: IngestStep, context: Context) -> Rules:
    """Return the rules for URLs, with the block list put where workers can read it."""
    blocked = None
    if params.blocked_domains is not None:
        try:
            content = Path(params.blocked_domains).read_bytes()
        except OSError as error:
            raise RecipeError(
                f"ingest.blocked_domains: {params.blocked_domains!r} cannot be read ({error}). "
                "Give a text file with one domain a line."
            ) from error
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"work/{context.work}/blocked/{sha256}.txt"
        if context.store.get(path) != content:
            context.store.put(path, content)
        blocked = BlockedDomains(context.store, path, sha256)
    return Rules(params.max_url_length, tuple(params.blocked_patterns), blocked)


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
    sources: list[Source], items: Mapping[str, SourceFile], records: Mapping[str, Record]
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
    items: Mapping[str, SourceFile], records: Mapping[str, Record], context: Context
) -> dict[str, Fragment]:
    """Return each file of the staged records as a fragment of its own, named by its place."""
    staged = {}
    for item, given in items.items():
        stem, part = item.rsplit("-", 1)
        # A part of a folder holds no more rows than a fragment; a file is one part of many.
        first = int(part) if given.members else 0
        for number, entry in enumerate(records[item].files, start=first):
            name = f"{stem}-{number:05d}"
            record = replace(records[item], name=name, files=(entry,), books={})
            staged[name] = Fragment(context.store, record)
    return staged
