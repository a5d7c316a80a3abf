"""Private copies of the files of a model: what is loaded is what was hashed.

A file in a folder that others can write may change between its checksum and its load, and a model may
consist of several files. So they are copied to a folder of this process, and the copies are both hashed
and loaded. A copy takes no space where the disk shares blocks between files.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from curation.errors import RecipeError
from curation.media.encoders.checksum import compare_sha256
from curation.media.files import lfs_pointer
from curation.media.files.lfs_pointer import is_lfs_pointer
from curation.store.digest import digest, file_sha256

MAX_BYTES = 64 * 2**30
"""Bytes of all files of a model."""
MAX_TEXT_BYTES = {".json": 16 * 2**20, ".txt": 64 * 2**20}
"""Bytes of a file that is text, by its ending."""
MAX_TOKENIZER_BYTES = 256 * 2**20
_STEP, _PART = 2**30, 2**20


class PrivateCopy:
    """Copies of the files of a model, as a context manager that removes them.

    Args:
        path: a file, or the folder of a model.
        names: files of the folder that are loaded, by their paths in it, as far as they are there;
            None if a folder will not do.

    Attributes:
        shown: the path of the original, for messages.
        path: the copy of the file, or the folder with the copies.

    Raises:
        RecipeError: a file is missing, no regular file, or too large.
    """

    def __init__(self, path: str, names: Iterable[str] | None = None) -> None:
        self.shown, self._source = path, Path(path)
        if not (self._source.is_file() or (names is not None and self._source.is_dir())):
            raise RecipeError(
                f"No weights file {path!r}",
                fix="Put the file there, or correct `weights`",
            )
        self._folder = tempfile.TemporaryDirectory(prefix="curation-model-")
        self._sums: dict[str, str] = {}
        self._bytes = 0
        self.path = Path(self._folder.name)
        if not self._source.is_dir():
            self.path /= self._source.name
            self._copy(self._source, self._source.name)
        self.add(names or ())

    def add(self, names: Iterable[str]) -> None:
        """Copy further files of the folder."""
        for name in names:
            # A graph may name one file twice, or name itself.
            is_copied = Path(self._folder.name, name).exists()
            if self._source.is_dir() and (self._source / name).is_file() and not is_copied:
                self._copy(self._source / name, name)

    def check(self, sha256: str | None, program: bool = False) -> str:
        """Return the SHA-256 of the copies: of the only one, or of their names and contents.

        Args:
            sha256: that the file must have, or all files of the folder together; None for any.
            program: whether `sha256` must be given, since the file is a program.

        Raises:
            RecipeError: it has another one, or has no expected one.
        """
        if self._source.is_dir() and sha256 is not None:
            files = sorted(p for p in self._source.rglob("*") if p.is_file())
            names = [(p.relative_to(self._source).as_posix(), p) for p in files]
            sums = [[name, self._sums.get(name) or file_sha256(p)] for name, p in names]
            compare_sha256(self.shown, digest(sums, 64), sha256)
        elif not self._source.is_dir():
            compare_sha256(self.shown, self.sha256_of(self.path.name), sha256, program)
        if len(self._sums) == 1:
            return next(iter(self._sums.values()))
        return digest(sorted(self._sums.items()), 64)

    def sha256_of(self, name: str) -> str:
        """Return the SHA-256 of one copy."""
        return self._sums[name]

    def close(self) -> None:
        """Remove the copies. What was mapped into memory stays there."""
        self._folder.cleanup()

    def __enter__(self) -> PrivateCopy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _copy(self, source: Path, name: str) -> None:
        target = Path(self._folder.name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A pipe would let the process wait for ever.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream, target.open("xb") as copy:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecipeError(
                    f"{str(source)!r} is no regular file",
                    fix="Put the file itself there",
                )
            _check_size(source, status.st_size)
            self._bytes += status.st_size
            if self._bytes > MAX_BYTES:
                raise RecipeError(
                    f"The files of {self.shown!r} have more than {MAX_BYTES:,} bytes together",
                    fix="Put the files of the hub there",
                )
            _copy_content(stream.fileno(), copy.fileno(), status.st_size)
        _check_is_no_pointer(source, target)
        self._sums[name] = file_sha256(target)


def _check_is_no_pointer(source: Path, copy: Path) -> None:
    with copy.open("rb") as stream:
        if is_lfs_pointer(stream.read(lfs_pointer.MAX_BYTES)):
            raise RecipeError(f"{str(source)!r} is a pointer of Git LFS", fix=lfs_pointer.FIX)


def _check_size(file: Path, size: int) -> None:
    limit = MAX_TEXT_BYTES.get(file.suffix, MAX_BYTES)
    if file.name == "tokenizer.json":
        limit = MAX_TOKENIZER_BYTES
    if size > limit:
        raise RecipeError(
            f"{str(file)!r} has {size:,} bytes; such a file of a model has at most {limit:,}",
            fix="Put the file of the hub there",
        )


def _copy_content(source: int, target: int, size: int) -> None:
    """Copy the bytes that a file has now; it may grow meanwhile."""
    left = size
    while left > 0:
        copied = _copy_range(source, target, left)
        if not copied:
            return
        left -= copied


def _copy_range(source: int, target: int, size: int) -> int:
    """Copy some bytes; where the disk can, both files share them."""
    with suppress(OSError, AttributeError):
        return os.copy_file_range(source, target, min(size, _STEP))
    content = os.read(source, min(size, _PART))
    left = memoryview(content)
    while left:
        left = left[os.write(target, left) :]
    return len(content)
