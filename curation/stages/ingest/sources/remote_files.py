"""The files at an address of a file system that is not the local one."""

from __future__ import annotations

from pyarrow import fs

from curation.media.files.location import filesystem_of
from curation.stages.ingest.sources.source_file import FileInfo
from curation.store.storage.reader import raising_os_errors


def remote_files(address: str) -> tuple[bool, list[FileInfo]]:
    """Return whether an address is that of a file; and that file, or all files below a folder, by name.

    Args:
        address: a URI. Names of files are relative to the folder; a file itself has none.

    Raises:
        OSError: the file system cannot be reached, or refuses to list.
        ValueError: no file system knows the address.
    """
    with raising_os_errors():
        filesystem, path = filesystem_of(address)
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return True, [_file(info, "")]
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        entries = filesystem.get_file_info(selector)
    files = (entry for entry in entries if entry.type == fs.FileType.File)
    return False, sorted(_file(entry, entry.path[len(path) :].strip("/")) for entry in files)


def _file(info: fs.FileInfo, name: str) -> FileInfo:
    return FileInfo(name, info.size, info.mtime_ns or 0)
