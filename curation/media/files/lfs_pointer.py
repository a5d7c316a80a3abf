"""Pointers of Git LFS: small texts that stand for files which a clone has not downloaded."""

from __future__ import annotations

MAX_BYTES = 1024
"""Larger files are no pointers."""
_START = b"version https://git-lfs.github.com/spec/"
FIX = "Run `git lfs pull` in its folder, which downloads the file itself"


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins with these bytes, and has at most MAX_BYTES, is a pointer."""
    return head.startswith(_START)
