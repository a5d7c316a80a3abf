"""Opens files that somebody names, and nothing else: reading a pipe or a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO


class SpecialFileError(OSError):
    """A pipe, socket, device or folder where a file should be. Opening one may never end."""


def open_regular(path: str, follow_links: bool = True, buffering: int = -1) -> IO[bytes]:
    """Open a local file for reading, whatever its name.

    Args:
        path: the file.
        follow_links: whether it may be a link.
        buffering: as `open` takes it.

    Raises:
        OSError: it cannot be opened.
        SpecialFileError: it is no file.
    """
    _check_regular(os.stat(path, follow_symlinks=follow_links), path)  # noqa: PTH116
    # Another file may take its place: opening a pipe must not wait for its other end.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags | (0 if follow_links else os.O_NOFOLLOW))
    try:
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb", buffering)
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SpecialFileError(errno.EINVAL, "it is no regular file", path)
