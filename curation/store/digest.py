"""Digests that are the same on every machine: of values that JSON can hold, and of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any, length: int = 32) -> str:
    """Return the first `length` hex digits of the SHA-256 of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hex; of a folder, a digest of the names and sums of its files."""
    if Path(path).is_dir():
        files = sorted(p for p in Path(path).rglob("*") if p.is_file())
        sums = [[p.relative_to(path).as_posix(), file_sha256(p)] for p in files]
        return digest(sums, 64)
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
