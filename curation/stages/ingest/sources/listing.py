"""Which files a source has, in the order in which rows are counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pyarrow import fs

from curation.errors import RecipeError
from curation.media.files.location import filesystem_of
from curation.stages.ingest.sources import FORMATS, IMAGE_ENDINGS
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import Member, SourceFile

_WILD = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """A file by its path within a folder, with its size in bytes."""

    name: str
    size: int
    mtime_ns: int


def source_files(source: Source, rows_per_fragment: int) -> list[SourceFile]:
    """Return the files of a source by name; a folder of images comes in parts of so many files.

    Raises:
        RecipeError: there is none, or the address of the source cannot be used.
    """
    root, query, found = _list_uri(source) if "://" in source.path else _list_local(source)
    if source.reader == "folder":
        return _folder_parts(source, root, query, found, rows_per_fragment)
    if not found:
        raise _nothing(source, f"no {' or '.join(FORMATS[source.reader].endings[:2])} file")
    return [SourceFile(source, root, f.name, f.size, f.mtime_ns, query) for f in found]


def _nothing(source: Source, what: str) -> RecipeError:
    return RecipeError(
        f"Source {source.name!r}: {what} at {source.path!r}. Give `path` a {source.format} file, a "
        "folder of such files or a glob; a relative path starts where the command was given."
    )


def _list_local(source: Source) -> tuple[str, str, list[Found]]:
    path = Path(source.path).absolute()
    if path.is_file() and source.reader != "folder":
        return str(path.parent), "", [_stat(path.parent, path.name)]
    if path.is_dir():
        return str(path), "", [f for f in _walk(path) if _wanted(source, f.name)]
    base, pattern = _split_glob(str(path))
    if pattern is None or not Path(base).is_dir():
        raise _nothing(source, "nothing stands")
    return base, "", [f for f in _walk(Path(base)) if pattern.fullmatch(f.name)]


def _list_uri(source: Source) -> tuple[str, str, list[Found]]:
    parts = urlsplit(source.path)
    if parts.scheme == "file":
        return _list_local(source.model_copy(update={"path": unquote(parts.path)}))
    if parts.password:
        raise RecipeError(
            f"Source {source.name!r}: its address holds a password, which tables would show. Give "
            "credentials by the environment, as the file system's own tools take them."
        )
    query = f"?{parts.query}" if parts.query else ""
    address = source.path.removesuffix(query).rstrip("/")
    base, pattern = _split_glob(address)
    try:
        filesystem, path = filesystem_of((base if pattern else address) + query)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            root, _, name = address.rpartition("/")
            return root, query, [Found(unquote(name), info.size, info.mtime_ns or 0)]
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        files = [i for i in filesystem.get_file_info(selector) if i.type == fs.FileType.File]
    except (OSError, ValueError) as error:
        raise _nothing(source, f"nothing can be listed ({error})") from error
    found = sorted(Found(i.path[len(path) :].strip("/"), i.size, i.mtime_ns or 0) for i in files)
    if pattern:
        return base, query, [f for f in found if pattern.fullmatch(f.name)]
    return address, query, [f for f in found if _wanted(source, f.name)]


def _wanted(source: Source, name: str) -> bool:
    """Whether a file of a listed folder holds rows; names with `.` or `_` first are tools' own."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/"))
    if source.reader == "folder":
        return not any(part.startswith(".") for part in name.split("/"))
    return not hidden and name.lower().endswith(FORMATS[source.reader].endings)


def _walk(folder: Path) -> Iterator[Found]:
    """Yield the files under a local folder by name; links to folders are not followed."""
    names = []
    for where, _, files in os.walk(folder):
        home = Path(where).relative_to(folder).as_posix()
        names += [name if home == "." else f"{home}/{name}" for name in files]
    for name in sorted(names):
        yield _stat(folder, name)


def _stat(folder: Path, name: str) -> Found:
    try:
        status = (folder / name).stat()
    except OSError:
        # A dangling link is a row that fails, not a source that cannot be listed.
        status = (folder / name).lstat()
    return Found(name, status.st_size, status.st_mtime_ns)


def _split_glob(path: str) -> tuple[str, re.Pattern[str] | None]:
    """Return the folder before the first wildcard, and what names under it must match."""
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _WILD.search(part)), None)
    if first is None:
        return path, None
    expression = ""
    for i, part in enumerate(parts[first:]):
        last = first + i == len(parts) - 1
        if part == "**":
            expression += ".*" if last else "(?:[^/]+/)*"
        else:
            expression += _segment(part) + ("" if last else "/")
    return "/".join(parts[:first]) or "/", re.compile(expression)


def _segment(part: str) -> str:
    """Return the regular expression of one glob segment."""
    out, i = "", 0
    while i < len(part):
        char = part[i]
        end = part.find("]", i + 2) if char == "[" else -1
        if end > 0:
            inner = part[i + 1 : end].replace("\\", "\\\\")
            out += "[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]"
            i = end
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        i += 1
    return out


def _folder_parts(
    source: Source, root: str, query: str, found: list[Found], rows: int
) -> list[SourceFile]:
    if "key" in source.columns:
        raise RecipeError(
            f"Source {source.name!r}: the key of an image in a folder is its path; take key out of "
            "`columns`."
        )
    beside = source.columns.get("caption", "txt")
    texts = {f.name: f for f in found if f.name.endswith(f".{beside}")}
    members = []
    for file in found:
        if not file.name.lower().endswith(FORMATS["folder"].endings):
            continue
        text = texts.get(f"{file.name.rpartition('.')[0]}.{beside}")
        members.append(
            Member(
                file.name,
                file.size,
                file.mtime_ns,
                text.name if text else None,
                text.mtime_ns if text else None,
            )
        )
    if not members:
        raise _nothing(source, f"no image ({', '.join(IMAGE_ENDINGS)})")
    return [
        SourceFile(
            source, root, "", 0, 0, query=query, members=tuple(members[start : start + rows])
        )
        for start in range(0, len(members), rows)
    ]
