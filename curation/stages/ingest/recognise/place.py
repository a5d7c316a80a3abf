"""What lies at a path that somebody names as a source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from curation.errors import RecipeError, start_of_paths
from curation.masking import mask_address
from curation.media.files.limits import FOLDER_DEPTH
from curation.media.files.location import OutsideFolderError, inside, shown
from curation.media.web.params import OutboundParams, is_web
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.globs import split_glob
from curation.stages.ingest.sources.listing import source_files
from curation.stages.ingest.sources.presets import PRESETS
from curation.stages.ingest.sources.remote_files import remote_files
from curation.stages.ingest.sources.source import Role, Source, check_path
from curation.stages.ingest.sources.source_file import FileInfo, SourceFile

MARKER, PICTURES, LIST = 3, 2, 1
"""How sure a format may be: its own marks are there, pictures are, or a list that leads to pictures."""
MOST_FILES = 100_000
"""Files that are looked at; a larger folder is recognised by its first ones."""


@dataclass(frozen=True)
class Recognised:
    """What a format makes of the files at a place.

    Attributes:
        fields: fields of the source: `format`, and `columns` and others as the format needs.
        certainty: MARKER, PICTURES or LIST.
        files: number of files that are of this format.
        notes: what a reader of the recipe should know, one sentence each.
    """

    fields: Mapping[str, Any]
    certainty: int
    files: int
    notes: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """The format of the files."""
        name = str(self.fields["format"])
        return PRESETS[name].reader if name in PRESETS else name


@dataclass(frozen=True)
class Place:
    """A file, a folder, a glob or an address, and the files there.

    Attributes:
        path: as it was given.
        files: the files, without hidden ones; names are relative to the folder.
        outbound: how files on the web are requested.
        links: all files are links that lead out of the folder, as in the cache of a model hub.
    """

    path: str
    files: tuple[FileInfo, ...]
    outbound: OutboundParams = field(default=OutboundParams(), repr=False)
    links: bool = False

    @property
    def folder(self) -> str | None:
        """The local folder of a source here: of a file, the one around it; None for an address."""
        if "://" in self.path:
            return None
        path = Path(self.path).absolute()
        return str(path.parent) if path.is_file() else split_glob(str(path), os.path.isdir)[0]

    def named(self, form: str) -> list[FileInfo]:
        """Return the files whose names end as those of a format."""
        endings = FORMATS[form].endings
        return [file for file in self.files if file.name.lower().endswith(endings)]

    def source(self, role: Role = "pool", name: str = "source", **fields: Any) -> Source:
        """Return a source at this place.

        Args:
            role: its role.
            name: its name.
            fields: its other fields.
        """
        return Source(name=name, role=role, path=self.path, follow_links=self.links, **fields)

    def first_file(self, form: str) -> SourceFile:
        """Return the first file of a format.

        Raises:
            RecipeError: there is none.
        """
        needs_columns = FORMATS[form].optional_columns is None
        columns: dict[str, Any] = {"columns": {"url": "url"}} if needs_columns else {}
        files = source_files(self.source(format=form, **columns), 10_000, self.outbound)
        return next((file for file in files if file.size), files[0])


def place_of(path: str, outbound: OutboundParams | None = None) -> Place:
    """Return the files at a path.

    Args:
        path: a local path, a glob, or a URI.
        outbound: how files on the web are requested.

    Raises:
        RecipeError: nothing is there, or it cannot be listed.
    """
    outbound = outbound or OutboundParams()
    try:
        path.encode()
    except UnicodeEncodeError as error:
        fix = "Make a link to it with a name in UTF-8, and give that"
        raise RecipeError(f"{shown(path)!r} is no path in UTF-8", fix=fix) from error
    try:
        check_path(path)
        place = Place(path, tuple(islice(_files(path), MOST_FILES)), outbound)
        return replace(place, links=_are_links(place.folder, place.files))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{shown(mask_address(path))!r} cannot be listed ({mask_address(str(error))})",
            fix=f"Name a file, a folder or a glob. {start_of_paths()}",
        ) from error


def _files(path: str) -> Iterator[FileInfo]:
    if is_web(path):
        name = path.partition("?")[0].partition("#")[0].rpartition("/")[2]
        return iter([FileInfo(name, 1, 0)])
    if "://" in path:
        return _remote_files(path)
    return _local_files(path)


def _local_files(path: str) -> Iterator[FileInfo]:
    absolute = Path(path).absolute()
    if absolute.is_file():
        yield FileInfo(absolute.name, absolute.stat().st_size, 0)
        return
    base, pattern = split_glob(str(absolute), os.path.isdir)
    if not Path(base).is_dir():
        is_there = os.path.lexists(absolute)
        raise FileNotFoundError(
            "it is a pipe, a device, or a link that leads nowhere"
            if is_there
            else "nothing is there"
        )
    for folder, folders, names in os.walk(base):
        below = Path(folder).relative_to(base)
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        if len(below.parts) >= FOLDER_DEPTH:
            folders.clear()
        for name in sorted(n for n in names if not n.startswith((".", "_SUCCESS"))):
            file = Path(folder, name)
            wanted = pattern is None or pattern.fullmatch(str(below / name))
            # Never a pipe or a device.
            if wanted and file.is_file():
                yield FileInfo(str(below / name), file.stat().st_size, 0)


def _are_links(folder: str | None, files: Sequence[FileInfo]) -> bool:
    """Whether there are files, and each is a link that leads out of the folder of the source."""
    if folder is None or not files:
        return False
    return all(_leads_out(folder, file.name) for file in files)


def _leads_out(folder: str, name: str) -> bool:
    try:
        inside(folder, name)
    except OutsideFolderError:
        return True
    return False


def _remote_files(path: str) -> Iterator[FileInfo]:
    base, pattern = split_glob(path.rstrip("/"))
    is_file, files = remote_files(base)
    if not files:
        raise FileNotFoundError("nothing is there")
    if is_file:
        yield files[0]._replace(name=path.rpartition("/")[2])
        return
    for file in files:
        hidden = any(part.startswith((".", "_")) for part in file.name.split("/"))
        if not hidden and (pattern is None or pattern.fullmatch(file.name)):
            yield file
