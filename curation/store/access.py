"""Errors of reading a file that say nothing of its bytes: the file may be whole."""

from __future__ import annotations

import errno
import shlex

from curation.store.storage.base import Storage

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

RETRY = (
    "Give this user the right to read it, or wait until the machine and the network serve it "
    "again, and run the same command again"
)
"""What to do about a file that is out of reach."""
_NAMES = (
    *("EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "ETIMEDOUT", "ESTALE"),
    *("ENOLCK", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ECONNREFUSED"),
    *("ECONNABORTED", "ECONNRESET", "ENOTCONN", "EKEYEXPIRED", "EKEYREJECTED", "EBUSY"),
)
OUT_OF_REACH = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
"""Numbers of errors of rights, limits of the machine, and network disks."""


def set_aside_fix(uri: str, then: str) -> str:
    """Return what to do about a damaged file of a store, as a fix; a shell takes its command as it is.

    Args:
        uri: address of the store.
        then: what to do afterwards.
    """
    command = f"curation verify-store --set-aside --store {shlex.quote(uri)}"
    return f"Set damaged files aside ({command}), then {then}"


def is_out_of_reach(storage: Storage, error: OSError) -> bool:
    """Whether an error of reading the bytes of a file leaves open what they are.

    On an object store every error does: the bytes did not arrive. On a disk, one as `EIO` may be that
    of a broken sector.
    """
    return not storage.is_local or error.errno in OUT_OF_REACH
