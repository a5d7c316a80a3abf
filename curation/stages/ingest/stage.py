"""ingest: lists of pairs, in any format, become rows of `pairs`; duplicates are dropped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from curation.engine.context import Context
from curation.engine.units import StageOutput
from curation.errors import Detail, RecipeError, StoreError
from curation.media.web.urls import UrlRules, url_rules
from curation.stages.ingest.buckets import BucketRows, bucket_fragments
from curation.stages.ingest.duplicates import Duplicates, find_duplicates
from curation.stages.ingest.formats.boundary import FileBoundary
from curation.stages.ingest.formats.source_row import NAMED_PATH, SourceRow, stage_rows
from curation.stages.ingest.group_by_host import (
    Group,
    StagedRows,
    form_groups,
    load_groups,
    save_groups,
    shuffle,
)
from curation.stages.ingest.params import IngestStep
from curation.stages.ingest.removed import History, RemovedPairs
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.named_files import (
    NamedFiles,
    named_files,
    other_places,
)
from curation.stages.ingest.sources.notices import Notice, Notices, add_notices, note
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile
from curation.stages.ingest.usable_rows import check_usable
from curation.store.fragment import Fragment
from curation.store.manifest import CONTAINERS, count_outcomes

logger = logging.getLogger(__name__)

Staged = dict[str, list[Fragment]]
"""Staged fragments by the name of the file that they were read from."""


def units(*, params: IngestStep, context: Context) -> dict[str, dict[str, Any]]:
    """Return the arguments of `ingest` for each fragment.

    Each file is read once, and known by its path, size and modification time. Rows are in the order of
    sources, files and rows, except that lists of URLs are grouped by host.

    Raises:
        RecipeError: a source has no file or no row, or a file lacks a mapped column.
        StoreError: a file is missing, or no file of a source can be read.
    """
    files, notices = _files(params)
    tables = _read_files(files, params, context)
    _check_counts(params.sources, files, tables, notices)
    noted = {name: of_source for name, of_source in notices.items() if of_source}
    if noted:
        context.measured["notices"] = noted
    history = History(context)
    groups = _groups(params, files, tables, context, history)
    staged = _staged_fragments(files, tables)
    named = {
        fragment.name: named_files(fragment)
        for name in files
        if files[name].source.names_files
        for fragment in staged[name]
    }
    absent = dict(_absent_files(params.sources, files, tables, staged, named))
    if absent:
        # Without pixels, vectors may take the place of the images, so `fetch` says it.
        context.measured["absent_files"] = absent
    duplicates = _duplicates(_listed_first(files, groups, history), staged, context)
    grouped = {name for group in groups for name in group.files}
    units: dict[str, dict[str, Any]] = {
        fragment.name: {
            "pairs": StagedRows(
                fragment,
                duplicates[fragment.name],
                named[fragment.name].digest if fragment.name in named else None,
            )
        }
        for name in files
        if name not in grouped
        for fragment in staged[name]
    }
    shuffle_files = shuffle(groups, staged, duplicates, context)
    by_group = [(group, shuffle_files[group.name].fragments) for group in groups]
    removed = RemovedPairs(history, by_group, context)
    for group in groups:
        fragments = bucket_fragments(
            group, shuffle_files[group.name], removed, params.rows_per_fragment
        )
        units |= {name: {"pairs": pairs} for name, pairs in fragments.items()}
    return units


def _absent_files(
    sources: list[Source],
    files: Mapping[str, SourceFile],
    tables: Mapping[str, Fragment],
    staged: Staged,
    named: Mapping[str, NamedFiles],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each source none of whose image files is there, with their number and an example."""
    for source in sources:
        names = [name for name, file in files.items() if file.source.name == source.name]
        of = [named[f.name] for name in names for f in staged[name] if f.name in named]
        count = sum(part.files for part in of)
        usable = count_outcomes(tables[name].record.counts for name in names).get("ok", 0)
        if count and count >= usable and all(part.missing == part.files for part in of):
            example = next(part.example for part in of if part.files)
            yield source.name, {"files": count, "example": example}


def _listed_first(
    files: Mapping[str, SourceFile], groups: list[Group], history: History
) -> list[str]:
    """Return the files in the order in which their rows count as first.

    Rows of groups that an earlier run of the step listed come first, so that what has been fetched is
    not a duplicate of a row that was added. Rows of one generation are in the order of their files, as
    in a fresh store, whatever groups other recipes formed of them.
    """
    generation = {name: history.generation(g) for g in groups for name in g.files}
    return sorted(files, key=lambda name: generation.get(name, 0))


def _read_files(
    files: Mapping[str, SourceFile], params: IngestStep, context: Context
) -> dict[str, Fragment]:
    """Read each file once, and a list again whose paths lead elsewhere than when it was read."""
    rules = url_rules(params, context)
    reads: dict[str, dict[str, Any]] = {
        name: {"file": file, "rules": rules, "version": file.source.version}
        for name, file in files.items()
    }
    rows = params.rows_per_fragment
    tables = context.compute("read", read_file, reads, rows_per_file=rows)
    places = {n: other_places(tables[n], NAMED_PATH, file) for n, file in files.items()}
    moved = {name: reads[name] | {"places": place} for name, place in places.items() if place}
    if moved:
        tables |= context.compute("read", read_file, moved, rows_per_file=rows)
    return tables


def _duplicates(names: list[str], staged: Staged, context: Context) -> dict[str, Duplicates]:
    """Return the duplicates of each fragment by its name; rows count in the order of `names`."""
    fragments = [fragment for name in names for fragment in staged[name]]
    duplicates = find_duplicates(fragments, context)
    return {f.name: rows for f, rows in zip(fragments, duplicates, strict=True)}


def _groups(
    params: IngestStep,
    files: Mapping[str, SourceFile],
    tables: Mapping[str, Fragment],
    context: Context,
    history: History,
) -> list[Group]:
    """Return the groups of lists of URLs: those of the last run of the step in its order, then others.

    Other recipes may have formed groups of the same files: they are used again, since their rows may
    have been fetched.
    """
    earlier = load_groups(context)
    groups = []
    for source in params.sources:
        if params.grouped and source.has_remote_images:
            names = [name for name, file in files.items() if file.source.name == source.name]
            rows = {name: tables[name].rows for name in names}
            groups += form_groups(rows, source.name, earlier, params.rows_per_fragment)
    group_names = {group.name for group in groups}
    of_other_recipes = [group for group in earlier if group.name not in group_names]
    save_groups(context, of_other_recipes + groups)
    remote = {s.name for s in params.sources if params.grouped and s.has_remote_images}
    # Another run may have saved its groups instead: the pairs of a group that is not known stand.
    lost = [g for g in history.groups if g.name not in group_names and g.source in remote]
    return _in_order([*lost, *groups], files, history)


def _in_order(
    groups: list[Group], files: Mapping[str, SourceFile], history: History
) -> list[Group]:
    """Return the groups with a file or a history: those of the history first, then by their files."""
    place = {group.name: (0, number) for number, group in enumerate(history.groups)}
    numbers = {name: number for number, name in enumerate(files)}
    for group in groups:
        listed = [numbers[name] for name in group.files if name in numbers]
        if listed:
            place.setdefault(group.name, (1, min(listed)))
    return sorted((g for g in groups if g.name in place), key=lambda group: place[group.name])


def read_file(
    file: SourceFile, rules: UrlRules, version: list[int | str], places: str = ""
) -> StageOutput:
    """Yield the staged rows of one file: the columns of `pairs` and STAGED_ONLY.

    Args:
        file: the file.
        rules: which URLs are requested.
        version: of the format and the preset; memos depend on it.
        places: digest of where its paths lead, if not where they led at first; memos depend on it.

    Raises:
        RecipeError: a mapped column is not in the file.
        StoreError: the file is missing, or the file system failed. Damaged content only costs rows.
    """
    entry = FORMATS[file.source.reader]
    read = getattr(FORMATS.load(file.source.reader), entry.function)
    summary, boundary = _Summary(), FileBoundary(file)
    versions = file.container_versions()
    yield from stage_rows(file, summary.rows(boundary.items(read(file))), rules)
    stats: dict[str, Any] = {"notices": summary.notices, "filled": sorted(summary.filled)}
    # For people who ask where a row is from.
    stats["file"] = file.display_name
    if boundary.unreadable:
        stats["unreadable"] = boundary.unreadable.message
        stats["unreadable_fix"] = boundary.unreadable.fix
    if entry.holds_images or "image" in file.source.column_candidates:
        stats |= {"origin": file.version, CONTAINERS: versions}
    return stats


class _Summary:
    """What a reader yields besides rows, and which fields any of its rows has."""

    def __init__(self) -> None:
        self.notices: Notices = {}
        self.filled: set[str] = set()

    def rows(self, items: Iterable[SourceRow | Notice]) -> Iterator[SourceRow]:
        for item in items:
            if isinstance(item, Notice):
                note(self.notices, item)
                continue
            for field in ("caption", "key", "member"):
                if field not in self.filled and getattr(item, field) is not None:
                    self.filled.add(field)
            yield item


def ingest(pairs: StagedRows | BucketRows, *, params: IngestStep) -> StageOutput:
    """Yield the pairs of one fragment; of a list that was renamed, there is none left."""
    return (yield from pairs.batches())


def _files(params: IngestStep) -> tuple[dict[str, SourceFile], dict[str, Notices]]:
    """Return the files of all sources, and the notices of their folders.

    Files are by a name that is the same in every run, notices by source.
    """
    files: dict[str, SourceFile] = {}
    notices: dict[str, Notices] = {}
    for source in params.sources:
        parts: dict[str, int] = {}
        listing = list_source(source, params.rows_per_fragment, params.outbound)
        notices[source.name] = listing.notices
        for file in listing.files:
            part = parts[file.name] = parts.get(file.name, -1) + 1
            digest = hashlib.sha256(file.name.encode("utf-8", "surrogateescape")).hexdigest()
            length = 8
            while (name := f"{source.name}-{digest[:length]}-{part:05d}") in files:
                length += 8
            files[name] = file
    return files, notices


def _check_counts(
    sources: list[Source],
    files: Mapping[str, SourceFile],
    tables: Mapping[str, Fragment],
    notices: Mapping[str, Notices],
) -> None:
    """Check the rows of each source, and add the notices of its files to those of its folder.

    Raises:
        RecipeError: a source has no row, or no row has what the recipe says where to look for.
        StoreError: no file of a source can be read.
    """
    for source in sources:
        names = [name for name, file in files.items() if file.source.name == source.name]
        if all(tables[name].stats.get("unreadable") for name in names):
            stats = tables[names[0]].stats
            # Work tables of earlier versions name the fix in the message.
            fix = stats.get("unreadable_fix", "")
            raise StoreError(Detail(stats["unreadable"], fix=fix))
        noted = notices[source.name]
        add_notices(noted, (tables[name].stats["notices"] for name in names))
        for name in names:
            if tables[name].rows == 0 and not files[name].members:
                note(noted, Notice("empty_file", files[name].display_name))
        rows = sum(tables[name].rows for name in names)
        if rows == 0:
            others = "".join(f" {entry['count']:,} {code}." for code, entry in noted.items())
            raise RecipeError(
                f"Source {source.name!r}: {source.path!r} has no rows in {len(names)} file(s).{others}",
                fix="Set `path` to files with rows, or remove the source from the recipe",
            )
        filled = {field for name in names for field in tables[name].stats["filled"]}
        _check_filled(source, filled)
        check_usable(source, [tables[name] for name in names])
        if source.count is not None and source.count != rows:
            logger.warning(
                "Source %r has %d rows, but its `count` is %d", source.name, rows, source.count
            )


def _check_filled(source: Source, filled: set[str]) -> None:
    """Check that settings that name parts of samples have an effect."""
    entry = FORMATS[source.reader]
    if entry.optional_columns is None or entry.is_table:
        return
    wanted: dict[str, tuple[str, str]] = {
        f"columns.{name}": (name, column) for name, column in source.columns.items()
    }
    if source.image is not None:
        wanted["image"] = ("member", source.image)
    for setting, (field, value) in wanted.items():
        if field not in filled:
            raise RecipeError(
                f"Source {source.name!r}: no sample has what `{setting}` names, {value!r}",
                fix="Correct it, or remove it from the source",
            )


def _staged_fragments(files: Mapping[str, SourceFile], tables: Mapping[str, Fragment]) -> Staged:
    """Return each file of the work tables as a fragment of its own, by source file."""
    staged: Staged = {}
    for name, file in files.items():
        stem, part = name.rsplit("-", 1)
        staged[name] = []
        # A part of a folder has at most the rows of one fragment; other files have one part.
        first = int(part) if file.members else 0
        table = tables[name]
        for number, entry in enumerate(table.record.files, start=first):
            record = replace(table.record, name=f"{stem}-{number:05d}", files=(entry,), counts={})
            staged[name].append(replace(table, record=record))
    return staged
