"""Files of this machine: those below a folder, and whether a path can be looked at."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from curation.errors import RecipeError
from curation.media.files.file_cache import changed_ns
from curation.media.files.limits import FOLDER_DEPTH
from curation.media.files.location import shown
from curation.stages.ingest.sources.notices import Notice, Notices, note
from curation.stages.ingest.sources.source_file import FileInfo

_SHOWN_CHARACTERS = 300
_FIXES = {
    errno.EACCES: "Give this user the right to enter the folders on its way, or set another `path`",
    errno.ENAMETOOLONG: "Set a `path` that this system can have",
}


def _short(path: Path) -> str:
    text = shown(str(path))
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def check_path_can_be(path: Path, name: str) -> None:
    """Check that this system and this user can look at a path, whether something is there or not.

    Args:
        path: the path, or a glob.
        name: of the source.

    Raises:
        RecipeError: the path is too long, or in a folder that this user may not enter.
    """
    try:
        path.lstat()
    except ValueError:
        pass  # No encoding has its characters, or it holds NUL: nothing is there.
    except OSError as error:
        fix = _FIXES.get(error.errno or 0)
        if fix is not None:
            raise RecipeError(
                f"Source {name!r}: {_short(path)} cannot be read ({error.strerror})", fix=fix
            ) from error


def files_below(folder: Path, follow_links: bool, notices: Notices) -> Iterator[FileInfo]:
    """Yield the files under a local folder by name."""

    def unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename or folder, folder)
        note(notices, Notice("unreadable_folder", shown(name)))

    names, entered = [], set()
    walk = os.walk(folder, onerror=unreadable, followlinks=follow_links)
    for path, folders, files in walk:
        below = os.path.relpath(path, folder)
        prefix = "" if below == "." else f"{below}/"
        if below.count("/") >= FOLDER_DEPTH:
            for name in folders:
                note(notices, Notice("unreadable_folder", shown(prefix + name)))
            folders.clear()
        if follow_links:
            # Links may lead back to a folder around them, and to one that another link has led to.
            entered.add(os.path.realpath(path))
        links = {n for n in folders if _is_link(Path(path, n))}
        left_out = {
            n for n in links if not follow_links or os.path.realpath(Path(path, n)) in entered
        }
        for name in sorted(left_out):
            note(notices, Notice("link_to_folder", shown(prefix + name)))
        # In one order, whatever that of the file system: it decides which link is entered.
        folders[:] = sorted(set(folders) - left_out)
        names += [prefix + name for name in files]
    for name in sorted(names):
        try:
            status, changed = _status(folder, name)
        except OSError:
            # It has gone, or its path is too long.
            note(notices, Notice("unreadable_file", shown(name)))
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield FileInfo(name, status.st_size, changed)
        else:
            note(notices, Notice("special_file", shown(name)))


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        # Its path is too long, or this user may not enter the folder: the walk notes it.
        return False


def file_info(path: Path) -> FileInfo:
    """Return what the system says of one file."""
    status, changed = _status(path.parent, path.name)
    return FileInfo(path.name, status.st_size, changed)


def _status(folder: Path, name: str) -> tuple[os.stat_result, int]:
    """Return the status of a file, and a number that differs if it or a link to it changed."""
    status = (folder / name).lstat()
    changed = changed_ns(status)
    if stat.S_ISLNK(status.st_mode):
        # A broken link fails one row; it must not stop the listing of the source.
        with suppress(OSError):
            status = (folder / name).stat()
        changed += changed_ns(status)
    return status, changed
