"""What is read from a file is kept in a process only while the file stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache, update_wrapper
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

from curation.engine.shipped_files import local_path

P = ParamSpec("P")
R = TypeVar("R")

FileState = tuple[tuple[str, int, int, int], ...] | None


def changed_ns(status: os.stat_result) -> int:
    """Return a number that differs after every change of a local file: a sum of its times.

    The time of modification alone can be set, and copies of files often keep it. The kernel sets the
    time of change, also where a file takes the place of another.
    """
    return status.st_mtime_ns + status.st_ctime_ns


def file_state(path: str | None) -> FileState:
    """Return what a file changes with, or each file of a folder; None for no file."""
    if path is None or not Path(path).exists():
        return None
    return tuple(
        (file, status.st_ino, status.st_size, changed_ns(status))
        for file in _files(path)
        for status in [Path(file).stat()]
    )


def _files(path: str) -> Iterator[str]:
    if not Path(path).is_dir():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders.sort()
        # A broken link has no content that could change.
        files = (os.path.join(folder, name) for name in sorted(names))  # noqa: PTH118
        yield from (file for file in files if Path(file).exists())


class CachedByFile(Generic[P, R]):
    """A function whose results are kept, by its arguments and the state of the file that it reads.

    Args:
        function: reads a file.
        path: returns the file for the same arguments; None where they name none.
        maxsize: results that are kept.
    """

    def __init__(
        self, function: Callable[P, R], path: Callable[P, str | None], maxsize: int
    ) -> None:
        def call(state: FileState, /, *args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **kwargs)

        self._cached = lru_cache(maxsize)(call)
        self._path = path
        self.cache_clear = self._cached.cache_clear
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result for the file as it is now."""
        path = self._path(*args, **kwargs)
        state = file_state(path and local_path(path))
        return self._cached(state, *args, **kwargs)  # type: ignore[arg-type]


def cached_by_file(
    path: Callable[P, str | None], maxsize: int
) -> Callable[[Callable[P, R]], CachedByFile[P, R]]:
    """Decorate a function as `CachedByFile` does."""
    return lambda function: CachedByFile(function, path, maxsize)
