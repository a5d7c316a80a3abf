"""Outputs of img2dataset: a Parquet for each shard, with the pictures in a tar, in files or in it.

A row that img2dataset did not get is a row with its status as reason; `metadata` has the error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from curation.errors import RecipeError
from curation.media.files.location import FileSystemError, shown
from curation.media.files.parquet_images import is_bytes, plain_type
from curation.media.files.tar import TAR_DAMAGE, Member, members, open_tar, what_follows
from curation.media.web.failure_reasons import LISTED_FAILURES, OTHER_LISTED_FAILURE
from curation.stages.ingest.formats import folder, webdataset
from curation.stages.ingest.formats.boundary import Item
from curation.stages.ingest.formats.mapped import (
    Columns,
    listed_names,
    mapped_columns,
    row_from_columns,
    set_text,
)
from curation.stages.ingest.formats.parquet import Layout, read_table
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import as_json, shortened, text
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.folder_images import ending_of, stem_of
from curation.stages.ingest.sources.notices import Notice, Notices, note
from curation.stages.ingest.sources.source_file import SourceFile

_KEY, _STATUS, _ERROR = "key", "status", "error_message"
_SUCCESS = "success"
_TEXTS = ("txt", "json")
_MAX_DIGITS = 18
"""Digits of a key that may be a number."""


def read(file: SourceFile) -> Iterator[Item]:
    """Yield the rows of a shard in the order of its Parquet; without one, those of its pictures.

    Raises:
        RecipeError: the Parquet is not one of img2dataset, or lacks a mapped column.
        UnreadableError: the Parquet is damaged.
    """
    if file.members or file.name.endswith(".tar"):
        yield Notice("no_statuses", file.display_name)
        read_pictures = folder.read if file.members else webdataset.read
        yield from map(_with_listed_fields, read_pictures(file))
        return
    shard = _Shard(file)
    yield from shard.scan()
    yield from read_table(file, shard.layout)
    for place in shard.unlisted():
        yield Notice("unlisted_picture", place)


def _with_listed_fields(item: Item) -> Item:
    """Take the URL and the key of a row from the JSON beside its picture."""
    if isinstance(item, SourceRow) and item.metadata is not None:
        values = json.loads(item.metadata)
        if isinstance(values.get(_KEY), str):
            item.key = values.pop(_KEY)
        set_text(item, "url", "url", values.pop("url", None))
        item.metadata = as_json(values)
    return item


@dataclass
class _Shard:
    """One shard.

    Attributes:
        file: its Parquet.
        places: where the picture of each key is: in the tar, or in a file.
        used: keys whose pictures belong to rows.
    """

    file: SourceFile
    places: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def tar(self) -> str | None:
        """Name of the tar with the pictures."""
        names = (beside.name for beside in self.file.beside)
        return next((name for name in names if name.endswith(".tar")), None)

    def scan(self) -> Iterator[Item]:
        """Find the pictures, and yield what else is beside them."""
        if self.tar is not None:
            yield from self._scan_tar(self.tar)
            return
        for beside in self.file.beside:
            key = _key_of(beside.name)
            if key in self.places:
                yield Notice("unlisted_picture", shown(self.places[key]))
            self.places[key] = beside.name

    def _scan_tar(self, name: str) -> Iterator[Item]:
        notices: Notices = {}
        texts: list[str] = []
        damage: str | None
        with self.file.open(name) as stream:
            try:
                tar = open_tar(stream)
                for member in members(tar):
                    if member.problem:
                        place = shortened(shown(member.place))
                        content = f"{shown(name)} {place}".encode()
                        yield bad_row(content, f"member {place} of {name}", member.problem)
                    else:
                        self._add(member, texts, notices)
                damage = what_follows(tar)
            except FileSystemError:
                raise
            except TAR_DAMAGE as error:
                damage = f"{type(error).__name__}: {error}"
        for beside in texts:
            if _key_of(beside) not in self.places:
                note(notices, Notice("other_member", shown(beside)))
        for code, entry in notices.items():
            yield Notice(code, entry["example"], entry["count"])
        if damage:
            yield Notice("unreadable_file", f"{shown(name)} after {len(self.places):,} pictures")
            problem = f"{shown(name)} cannot be read further ({damage})"
            yield bad_row(problem.encode(), f"after {len(self.places):,} pictures", problem)

    def _add(self, member: Member, texts: list[str], notices: Notices) -> None:
        info = member.info
        if not info.isreg():
            note(notices, Notice("directory" if info.isdir() else "special_file", shown(info.name)))
        elif ending_of(info.name) in IMAGE_ENDINGS:
            key = _key_of(info.name)
            if key in self.places:
                note(notices, Notice("replaced_member", shown(info.name)))
            self.places[key] = member.place
        elif ending_of(info.name) in _TEXTS:
            texts.append(info.name)
        else:
            note(notices, Notice("other_member", shown(info.name)))

    def layout(self, file: SourceFile, schema: pa.Schema) -> Layout:
        """Return the layout of the Parquet.

        Raises:
            RecipeError: it is not one of img2dataset, or lacks a mapped column.
        """
        if not {_KEY, _STATUS} <= set(schema.names):
            raise RecipeError(
                f"{file.label} was not written by img2dataset: it lacks {_KEY} or {_STATUS}; it has: "
                f"{listed_names(schema.names)}",
                fix="Set another `format`",
            )
        columns = dict(mapped_columns(file, schema.names))
        inline = [f.name for f in schema if f.name in IMAGE_ENDINGS and _holds_bytes(f)]
        if inline and not self.file.beside:
            columns["image"] = (inline[0],)
        return Layout(columns, self._row, is_complete=True)

    def _row(self, columns: Columns, values: Mapping[str, Any]) -> SourceRow:
        error = values.get(_ERROR)
        if isinstance(error, str):
            values = {**values, _ERROR: shortened(error)}
        row = row_from_columns(columns, values)
        status = values.get(_STATUS)
        if status != _SUCCESS:
            row.reason = status if status in LISTED_FAILURES else OTHER_LISTED_FAILURE
        elif "image" not in columns:
            self._place(row, values.get(_KEY))
        return row

    def _place(self, row: SourceRow, key: Any) -> None:
        """Say where the picture of a row is."""
        name = self._name_of(key)
        place = None if name is None else self.places.get(name)
        if name is None or place is None:
            row.reason = "no_image"
            row.unreadable = row.unreadable or "its picture is not beside the Parquet"
            return
        if name in self.used:
            # Nothing says whose picture it is, and a caption must not meet the picture of another row.
            row.reason = "no_image"
            row.unreadable = row.unreadable or "an earlier row has its key and the picture"
            return
        self.used.add(name)
        if self.tar is None:
            row.path = place
        else:
            row.container, row.member = self.tar, place

    def _name_of(self, key: Any) -> str | None:
        """Return the name of the picture with a key, which may have become a number."""
        name = text(key)
        number = None if name is None or name in self.places else _number(name)
        return name if number is None else self._names_by_number.get(number)

    @cached_property
    def _names_by_number(self) -> dict[int, str]:
        """The names that are numbers with zeros before them, as img2dataset writes its keys."""
        numbers = {name: n for name in self.places if (n := _number(name)) is not None}
        times = Counter(numbers.values())
        return {number: name for name, number in numbers.items() if times[number] == 1}

    def unlisted(self) -> Iterator[str]:
        """Yield the places of pictures that no row has."""
        yield from (shown(place) for key, place in self.places.items() if key not in self.used)


def _key_of(name: str) -> str:
    """Return the key in the name of a picture: a tar that was packed again may hold folders."""
    return stem_of(name).rpartition("/")[2]


def _number(name: str) -> int | None:
    return int(name) if name.isdecimal() and len(name) <= _MAX_DIGITS else None


def _holds_bytes(column: pa.Field) -> bool:
    return is_bytes(plain_type(column.type))
