"""Downloads weights: a file takes its place only if it has the SHA-256 of the recipe."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from curation.errors import RecipeError
from curation.masking import mask_address
from curation.media.encoders.private_copy import MAX_BYTES

EXECUTION_ONLY = True
"""Nothing here decides a row: weights count by their content."""

TIMEOUT_S = 60.0
"""Seconds without a byte after which a download ends."""
_PART = 2**20


def download_weights(address: str, path: str, sha256: str) -> int:
    """Download a file, check its SHA-256, then put it in its place; return its bytes.

    What is downloaded lies beside its place until then, so nobody reads the half of a file.

    Args:
        address: an https, http or file URL.
        path: where the file is wanted.
        sha256: that it must have, in lower case.

    Raises:
        RecipeError: it cannot be downloaded, is too large, or has another SHA-256.
    """
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}-")
    try:
        with os.fdopen(descriptor, "wb") as part:
            size, actual = _received(address, path, part)
        if actual != sha256:
            raise RecipeError(
                f"{mask_address(address)} is not the file that the recipe trusts: expected "
                f"sha256 {sha256}, found {actual} ({size:,} bytes). Nothing was written",
                fix=(
                    "Correct `weights_from`, or `sha256` after you have checked the source of "
                    "the file"
                ),
            )
        # A temporary file can be read by its owner alone.
        Path(name).chmod(0o644)
        Path(name).replace(place)
    finally:
        Path(name).unlink(missing_ok=True)
    return size


def _received(address: str, path: str, part: IO[bytes]) -> tuple[int, str]:
    try:
        with _opened(address) as body:
            return _copy(body, part)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{mask_address(address)} cannot be downloaded ({error})",
            fix=f"Correct `weights_from`, or put the file at {path!r} yourself",
        ) from error


def _opened(address: str) -> Any:
    response = urllib.request.urlopen(address, timeout=TIMEOUT_S)
    if urlsplit(address).scheme == "https" and urlsplit(response.url).scheme != "https":
        response.close()
        raise ValueError(f"it leads to {mask_address(response.url)}, which is not encrypted")
    return response


def _copy(body: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while part := body.read(_PART):
        size += len(part)
        if size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        digest.update(part)
        target.write(part)
    return size, digest.hexdigest()
