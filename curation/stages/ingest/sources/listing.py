"""Lists the files of a source, in the order of their rows."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from curation.errors import RecipeError
from curation.media.files.file_cache import changed_ns
from curation.media.files.location import filesystem_of
from curation.stages.ingest.sources import FORMATS, IMAGE_ENDINGS
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import ImageFile, SourceFile

_WILDCARD = re.compile(r"[*?\[]")


class FileInfo(NamedTuple):
    """A file: its path within a folder, size in bytes and modification time."""

    name: str
    size: int
    mtime_ns: int


def source_files(source: Source, rows_per_fragment: int) -> list[SourceFile]:
    """Return the files of a source by name.

    Args:
        source: the source.
        rows_per_fragment: images per part, for a folder of images.

    Raises:
        RecipeError: there is no file, or the path of the source is invalid.
    """
    root, query, files = _list_uri(source) if "://" in source.path else _list_local(source)
    if source.reader == "folder":
        return _folder_parts(source, root, query, files, rows_per_fragment)
    if not files:
        raise _no_files(source, f"no {' or '.join(FORMATS[source.reader].endings[:2])} file")
    return [SourceFile(source, root, f.name, f.size, f.mtime_ns, query) for f in files]


def _no_files(source: Source, problem: str) -> RecipeError:
    return RecipeError(
        f"Source {source.name!r}: {problem} at {source.path!r}. Set `path` to a {source.format} file, "
        "a folder of such files or a glob. Relative paths start at the working directory."
    )


def _list_local(source: Source) -> tuple[str, str, list[FileInfo]]:
    path = Path(source.path).absolute()
    if path.is_file() and source.reader != "folder":
        return str(path.parent), "", [_stat(path.parent, path.name)]
    if path.is_dir():
        return str(path), "", [f for f in _walk(path) if _is_listed(source, f.name)]
    base, pattern = _split_glob(str(path))
    if pattern is None or not Path(base).is_dir():
        raise _no_files(source, "no file")
    return base, "", [f for f in _walk(Path(base)) if pattern.fullmatch(f.name)]


def _list_uri(source: Source) -> tuple[str, str, list[FileInfo]]:
    parts = urlsplit(source.path)
    if parts.scheme == "file":
        return _list_local(source.model_copy(update={"path": unquote(parts.path)}))
    if parts.password:
        raise RecipeError(
            f"Source {source.name!r}: `path` contains a password, which tables would show. Set "
            "credentials in the environment, as the tools of the file system expect them."
        )
    query = f"?{parts.query}" if parts.query else ""
    address = source.path.removesuffix(query).rstrip("/")
    base, pattern = _split_glob(address)
    try:
        filesystem, path = filesystem_of((base if pattern else address) + query)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            root, _, name = address.rpartition("/")
            return root, query, [FileInfo(unquote(name), info.size, info.mtime_ns or 0)]
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        files = [i for i in filesystem.get_file_info(selector) if i.type == fs.FileType.File]
    except (OSError, ValueError) as error:
        raise _no_files(source, f"no file can be listed ({error})") from error
    listed = sorted(
        FileInfo(i.path[len(path) :].strip("/"), i.size, i.mtime_ns or 0) for i in files
    )
    if pattern:
        return base, query, [f for f in listed if pattern.fullmatch(f.name)]
    return address, query, [f for f in listed if _is_listed(source, f.name)]


def _is_listed(source: Source, name: str) -> bool:
    """Whether a file of a folder belongs to the source; names that begin with `.` or `_` do not."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    if source.reader == "folder":
        return not any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.lower().endswith(FORMATS[source.reader].endings)


def _walk(folder: Path) -> Iterator[FileInfo]:
    """Yield the files under a local folder by name; links to folders are not followed."""
    names = []
    for path, _, files in os.walk(folder):
        subfolder = Path(path).relative_to(folder).as_posix()
        names += [name if subfolder == "." else f"{subfolder}/{name}" for name in files]
    for name in sorted(names):
        yield _stat(folder, name)


def _stat(folder: Path, name: str) -> FileInfo:
    status = (folder / name).lstat()
    changed = changed_ns(status)
    if stat.S_ISLNK(status.st_mode):
        # A broken link fails one row; it must not stop the listing of the source.
        with suppress(OSError):
            status = (folder / name).stat()
        changed += changed_ns(status)
    return FileInfo(name, status.st_size, changed)


def _split_glob(path: str) -> tuple[str, re.Pattern[str] | None]:
    """Return the folder before the first wildcard, and a pattern for the names below it."""
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if first is None:
        return path, None
    expression = ""
    for i, part in enumerate(parts[first:]):
        is_last = first + i == len(parts) - 1
        if part == "**":
            expression += ".*" if is_last else "(?:[^/]+/)*"
        else:
            expression += _segment_pattern(part) + ("" if is_last else "/")
    return "/".join(parts[:first]) or "/", re.compile(expression)


def _segment_pattern(part: str) -> str:
    """Return the regular expression of one segment of a glob."""
    pattern, i = "", 0
    while i < len(part):
        char = part[i]
        end = part.find("]", i + 2) if char == "[" else -1
        if end > 0:
            inner = part[i + 1 : end].replace("\\", "\\\\")
            pattern += "[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]"
            i = end
        else:
            pattern += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        i += 1
    return pattern


def _folder_parts(
    source: Source, root: str, query: str, files: list[FileInfo], rows: int
) -> list[SourceFile]:
    """Return the images of a folder in parts of `rows` files."""
    if "key" in source.columns:
        raise RecipeError(
            f"Source {source.name!r}: the key of an image in a folder is its path; remove key from "
            "`columns`."
        )
    caption_ending = source.columns.get("caption", "txt")
    texts = {f.name: f for f in files if f.name.endswith(f".{caption_ending}")}
    members = []
    for file in files:
        if not file.name.lower().endswith(FORMATS["folder"].endings):
            continue
        text = texts.get(f"{file.name.rpartition('.')[0]}.{caption_ending}")
        members.append(
            ImageFile(
                file.name,
                file.size,
                file.mtime_ns,
                text.name if text else None,
                text.mtime_ns if text else None,
            )
        )
    if not members:
        raise _no_files(source, f"no image ({', '.join(IMAGE_ENDINGS)})")
    return [
        SourceFile(
            source, root, "", 0, 0, query=query, members=tuple(members[start : start + rows])
        )
        for start in range(0, len(members), rows)
    ]
