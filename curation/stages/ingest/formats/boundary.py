"""The boundary round rows, members and files: what cannot be read costs itself, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from curation.errors import CurationError, Detail, StoreError
from curation.media.files import lfs_pointer
from curation.media.files.lfs_pointer import is_lfs_pointer
from curation.media.files.limits import EXPANSION_BYTES, EXPANSION_RATIO, ROWS
from curation.media.files.location import FileSystemError, shown
from curation.stages.ingest.formats.source_row import SourceRow, bad_row, described
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import SourceFile

Item = SourceRow | Notice
"""What readers yield."""
REPLACE = "Replace the file, or remove it from the source, and run again"


class UnreadableError(StoreError):
    """The content of a file cannot be read, or not to its end. The message says how to mend it."""


def unreadable(file: SourceFile, problem: str, fix: str = REPLACE) -> UnreadableError:
    """Return the error of a file that cannot be read.

    Args:
        file: the file.
        problem: what is wrong with it, after its name.
        fix: what to do.
    """
    return UnreadableError(f"{file.label} {problem}", fix=fix)


class ExcessError(ValueError):
    """A file with more rows, or more text in them, than a file of its size may have."""


def row_or_reason(make: Callable[[], SourceRow], where: str, content: bytes | str) -> SourceRow:
    """Return the row that a function makes, or a bad row with the error that it raises.

    Args:
        make: makes the row.
        where: its place within the file.
        content: distinguishes a bad row from others.
    """
    try:
        return make()
    except (CurationError, FileSystemError):
        raise
    except Exception as error:
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        return bad_row(content, where, described(error))


def items_or_reason(items: Iterable[Item], where: str, content: bytes) -> Iterator[Item]:
    """Yield what is made of one part of a file; after an error, a bad row. See `row_or_reason`."""
    try:
        yield from items
    except (CurationError, FileSystemError):
        raise
    except Exception as error:
        yield bad_row(content, where, described(error))


def _bytes_of(file: SourceFile) -> int:
    sidecars = sum(sidecar.size for image in file.members for sidecar in image.sidecars)
    return file.held_bytes + sidecars


def _measure(row: SourceRow) -> int:
    names = (row.url, row.path, row.key, row.member, row.image_key)
    texts = (*names, row.caption, row.metadata, row.faces)
    row.size = sum(len(text) for text in texts if text is not None)
    return row.size


class FileBoundary:
    """Passes the rows of one file on, and ends them with a bad row where it cannot be read further.

    Attributes:
        unreadable: why nothing of the file could be read; None if something was.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._rows = 0
        self.unreadable: Detail | None = None

    def items(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield what a reader yields.

        Raises:
            CurationError: the recipe does not fit the file, or it is missing.
            StoreError: the file system failed. The file may be whole.
        """
        try:
            self._check_is_no_pointer()
            yield from self._counted(items)
        except FileSystemError as error:
            raise StoreError(
                f"{self._file.label} cannot be read ({error})",
                fix="Put the file back, or remove it from the source, and run again",
            ) from error
        except UnreadableError as error:
            yield from self._ended(error.details[0], str(error))
        except CurationError:
            raise
        except Exception as error:
            problem = f"{self._file.label} cannot be read further ({described(error)})"
            yield from self._ended(Detail(problem, fix=REPLACE), f"{problem}. {REPLACE}.")

    def _check_is_no_pointer(self) -> None:
        """Check that the file is not what Git LFS leaves in its place: such a text may pass for a list.

        Raises:
            UnreadableError: it is.
        """
        file = self._file
        if file.members or not 0 < (file.size or 0) <= lfs_pointer.MAX_BYTES:
            return
        with file.open() as stream:
            head = bytes(stream.read(lfs_pointer.MAX_BYTES))
        if is_lfs_pointer(head):
            place = f"Source {file.source.name!r}: {file.display_name}"
            raise UnreadableError(f"{place} is a pointer of Git LFS", fix=lfs_pointer.FIX)

    def _counted(self, items: Iterable[Item]) -> Iterator[Item]:
        size, text, rows = _bytes_of(self._file), 0, 0
        most, longest = ROWS + size, EXPANSION_BYTES + EXPANSION_RATIO * size
        try:
            for item in items:
                if isinstance(item, SourceRow):
                    text += _measure(item) + item.left_out
                    if rows >= most:
                        raise ExcessError(
                            f"it has more than {most:,} rows, one a byte and {ROWS:,}"
                        )
                    if text > longest:
                        raise ExcessError(f"{size:,} bytes become more than {longest:,} of text")
                    rows += 1
                yield item
        finally:
            self._rows = rows

    def _ended(self, detail: Detail, message: str) -> Iterator[Item]:
        name = self._file.display_name
        yield Notice("unreadable_file", f"{name} after {self._rows:,} rows")
        if not self._rows:
            self.unreadable = detail
        content = f"{shown(self._file.name)} {message}".encode("utf-8", "replace")
        yield bad_row(content, f"after {self._rows:,} rows", message)
