"""Lists the files of a source, in the order of their rows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from curation.errors import Detail, RecipeError, StoreError, start_of_paths
from curation.masking import has_secret, mask_address
from curation.media.files.location import OutsideFolderError, inside, shown
from curation.media.web.params import OutboundParams
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.folder_images import images_of_folder
from curation.stages.ingest.sources.globs import spells_out, split_glob
from curation.stages.ingest.sources.local_files import check_path_can_be, file_info, files_below
from curation.stages.ingest.sources.notices import Notice, Notices, note
from curation.stages.ingest.sources.remote_files import remote_files
from curation.stages.ingest.sources.shards import shards_of
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import FileInfo, ImageFile, SourceFile
from curation.stages.ingest.sources.table_logs import check_is_no_table
from curation.stages.ingest.sources.web_source import web_source_file
from curation.store.access import RETRY

_SYSTEM_FILES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"),
    *("$recycle.bin", "system volume information", "@eadir", "lost+found"),
)
"""Names, in lower case, of what systems leave in folders, besides names that begin with a dot."""


@dataclass
class Listing:
    """The files of a source, in the order of their rows, and what else is in its folder."""

    files: list[SourceFile] = field(default_factory=list)
    notices: Notices = field(default_factory=dict)


class _Listed(NamedTuple):
    """The files at the path of a source.

    Attributes:
        root: the folder.
        query: query string of the URI, if it has one.
        files: all files below the folder, by name.
        pattern: of the names of files, if the path is a glob.
        single: the path names one file, and `files` holds no other.
    """

    root: str
    query: str
    files: list[FileInfo]
    pattern: re.Pattern[str] | None = None
    single: bool = False


def list_source(
    source: Source, rows_per_fragment: int, outbound: OutboundParams | None = None
) -> Listing:
    """Return the files of a source by name, and notices of all others.

    Args:
        source: the source.
        rows_per_fragment: images per part, for a folder of images.
        outbound: how files on the web are requested; by default only public hosts are.

    Raises:
        RecipeError: there is no file, or the path of the source is invalid.
        StoreError: the server of the files does not answer now.
    """
    outbound = outbound or OutboundParams()
    if source.is_web:
        return Listing([web_source_file(source, outbound)])
    listing = Listing()
    notices = listing.notices
    listed = (_list_uri if "://" in source.path else _list_local)(source, notices)
    if FORMATS[source.reader].is_folder:
        files = [f for f in listed.files if not _is_noted_hidden(source, f, None, notices)]
        listed = listed._replace(files=files)
        parts = _folder_parts if source.reader == "folder" else _shards
        listing.files = parts(source, listed, rows_per_fragment, notices)
        return listing
    if listed.pattern is None:
        check_is_no_table(source, listed.files)
    _note_matched_folders(source, listed, notices)
    wanted = (f for f in listed.files if listed.single or _is_taken(source, f, listed, notices))
    taken = [f for f in wanted if _is_within(source, f, listed, notices)]
    if not taken:
        endings = " or ".join(FORMATS[source.reader].endings[:2])
        raise _no_files(source, f"no {endings} file", notices)
    listing.files = [
        SourceFile(source, listed.root, f.name, f.size, f.mtime_ns, listed.query) for f in taken
    ]
    return listing


def source_files(
    source: Source, rows_per_fragment: int, outbound: OutboundParams | None = None
) -> list[SourceFile]:
    """Return the files of a source; see `list_source`."""
    return list_source(source, rows_per_fragment, outbound).files


_FILE_FOR_FOLDER = "a file in place of a folder"


def _no_files(source: Source, problem: str, notices: Notices | None = None) -> RecipeError:
    notices, hint = notices or {}, ""
    others = "".join(f"; {code}: {noted['example']}" for code, noted in notices.items())
    if "in_matched_folder" in notices:
        hint = " A glob that matches folders takes their files with `/**` after it."
    if re.search(r"\{.*(,|\.\.).*\}", source.path):
        hint = (
            " Braces are not expanded: write a glob, as `shards/*.tar` for `shards/{000..099}.tar`."
        )
    if "link_out_of_folder" in notices:
        hint = (
            " Links that lead out of their folder are read with `follow_links: true` of the source."
        )
    if source.path.startswith("~") or "$" in source.path:
        hint = " `~` and variables such as `$HOME` are not replaced: write the path out."
    if problem == _FILE_FOR_FOLDER:
        hint = " Unpack an archive; a tar of samples is read with `format: webdataset`."
    wanted = f"a {source.format} file, a folder of such files or a glob"
    if source.reader == "folder":
        wanted = "a folder of images, or a glob of them"
    elif FORMATS[source.reader].is_folder:
        wanted = "the folder of an output, or a glob of its Parquet files"
    path = shown(mask_address(source.path))
    return RecipeError(
        Detail(
            f"{problem} at {path!r}{others}",
            f"Source {source.name!r}",
            path,
            fix=f"Set `path` to {wanted}. {start_of_paths()}.{hint}",
        )
    )


def _list_local(source: Source, notices: Notices) -> _Listed:
    path = Path(source.path).absolute()
    check_path_can_be(path, source.name)
    if path.is_file() and not FORMATS[source.reader].is_folder:
        return _Listed(str(path.parent), "", [file_info(path)], None, True)
    if path.is_dir():
        return _Listed(str(path), "", list(files_below(path, source.follow_links, notices)))
    base, pattern = split_glob(str(path), os.path.isdir)
    if pattern is None or not Path(base).is_dir():
        problem = "no folder" if path.exists() else "no file"
        raise _no_files(source, _FILE_FOR_FOLDER if path.is_file() else problem)
    return _Listed(base, "", list(files_below(Path(base), source.follow_links, notices)), pattern)


def _list_uri(source: Source, notices: Notices) -> _Listed:
    parts = urlsplit(source.path)
    if parts.scheme in ("file", "local"):
        return _list_local(source.model_copy(update={"path": unquote(parts.path)}), notices)
    if has_secret(source.path):
        raise RecipeError(
            f"Source {source.name!r}: `path` contains a password or another secret "
            f"({mask_address(source.path)}), which tables would show",
            fix="Set credentials in the environment, as the tools of the file system expect them",
        )
    query = f"?{parts.query}" if parts.query else ""
    address = source.path.removesuffix(query).rstrip("/")
    base, pattern = split_glob(address)
    try:
        is_file, files = remote_files((base if pattern else address) + query)
    except (OSError, ValueError) as error:
        problem = f"no file can be listed ({mask_address(str(error))})"
        if isinstance(error, OSError):
            raise StoreError(f"Source {source.name!r}: {address}: {problem}", fix=RETRY) from error
        raise _no_files(source, problem) from error
    if is_file:
        root, _, name = address.rpartition("/")
        return _Listed(root, query, [files[0]._replace(name=unquote(name))], None, True)
    return _Listed(base if pattern else address, query, files, pattern)


def _note_matched_folders(source: Source, listed: _Listed, notices: Notices) -> None:
    """Note the files in folders that a glob matches: `*.parquet` may mean what Spark writes, too."""
    pattern = listed.pattern
    if pattern is None:
        return
    for file in listed.files:
        if pattern.fullmatch(file.name) or is_hidden(source, file.name, pattern):
            continue
        parts = file.name.split("/")
        if any(pattern.fullmatch("/".join(parts[:end])) for end in range(1, len(parts))):
            note(notices, Notice("in_matched_folder", shown(file.name)))


def _is_taken(source: Source, file: FileInfo, listed: _Listed, notices: Notices) -> bool:
    """Whether a file of a folder is one of a list; if not, it is noted."""
    if listed.pattern and not listed.pattern.fullmatch(file.name):
        return False
    if _is_noted_hidden(source, file, listed.pattern, notices):
        return False
    if listed.pattern or file.name.lower().endswith(FORMATS[source.reader].endings):
        return True
    note(notices, Notice("other_file", shown(file.name)))
    return False


def _is_within(source: Source, file: FileInfo, listed: _Listed, notices: Notices) -> bool:
    """Whether a file is in the folder, and no link to one elsewhere; if not, it is noted."""
    try:
        if "://" not in listed.root:
            inside(listed.root, file.name, source.follow_links)
    except OutsideFolderError:
        note(notices, Notice("link_out_of_folder", shown(file.name)))
        return False
    return True


def _is_noted_hidden(
    source: Source, file: FileInfo, pattern: re.Pattern[str] | None, notices: Notices
) -> bool:
    """Whether a file is hidden; if it is, it is noted."""
    if not is_hidden(source, file.name, pattern):
        return False
    note(notices, Notice("hidden_file", shown(file.name)))
    return True


def is_hidden(source: Source, name: str, pattern: re.Pattern[str] | None = None) -> bool:
    """Whether the name of a file, or of a folder around it, says that it is no data.

    A glob that spells such a name out means it.
    """
    marks = (".",) if source.reader == "folder" else (".", "_")
    for part in name.split("/"):
        is_column = part.startswith("_") and "=" in part
        hidden = (part.startswith(marks) and not is_column) or part.lower() in _SYSTEM_FILES
        if hidden and not (pattern and spells_out(pattern, part[:2])):
            return True
    return False


def _shards(source: Source, listed: _Listed, rows: int, notices: Notices) -> list[SourceFile]:
    """Return the shards of an output of img2dataset by name, then pictures without a shard."""

    def is_within(file: FileInfo) -> bool:
        return _is_within(source, file, listed, notices)

    shards = shards_of(listed.files, listed.pattern)
    for other in shards.others:
        note(notices, Notice("other_file", shown(other.name)))
    tars: list[tuple[FileInfo, tuple[FileInfo, ...]]] = [(tar, ()) for tar in shards.tars]
    files = [
        SourceFile(source, listed.root, f.name, f.size, f.mtime_ns, listed.query, beside=pictures)
        for f, beside in sorted(shards.tables + tars)
        if is_within(f)
        for pictures in [tuple(filter(is_within, beside))]
    ]
    if not files and not shards.pictures:
        raise _no_files(source, "no Parquet or tar of img2dataset", notices)
    return files + _parts(source, listed, images_of_folder(shards.pictures), rows)


def _parts(source: Source, listed: _Listed, files: list[ImageFile], rows: int) -> list[SourceFile]:
    return [
        SourceFile(source, listed.root, "", 0, 0, listed.query, tuple(files[start : start + rows]))
        for start in range(0, len(files), rows)
    ]


def _folder_parts(source: Source, listed: _Listed, rows: int, notices: Notices) -> list[SourceFile]:
    """Return the images of a folder in parts of `rows` files."""
    if "key" in source.columns:
        raise RecipeError(
            f"Source {source.name!r}: the key of an image in a folder is its path",
            fix="Remove `key` from `columns`",
        )
    _note_matched_folders(source, listed, notices)
    members = images_of_folder(listed.files, listed.pattern)
    if not members:
        raise _no_files(source, "no image", notices)
    return _parts(source, listed, members, rows)
