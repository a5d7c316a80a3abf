"""The pixels of a picture that somebody sent, decoded in a process with limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Header, Message, reason_of
from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError

Pixels = npt.NDArray[np.uint8]


_CHANNELS = 3
MAX_FILE_BYTES = 2**30
"""Largest file that somebody names, in bytes: the largest `fetch.max_bytes`."""


def read_picture(path: Path) -> bytes:
    """Return a file that somebody names as a picture.

    Raises:
        FetchError: `too_large`.
        OSError: it cannot be read, or is no file.
    """
    # It imports file systems, which the process with limits does not need.
    from curation.media.files.location import open_local

    with open_local(str(path)) as stream:
        content = bytes(stream.read(MAX_FILE_BYTES + 1))
    if len(content) > MAX_FILE_BYTES:
        raise FetchError("too_large")
    return content


def decode_apart(content: bytes, max_pixels: int, formats: Sequence[str] = ()) -> Pixels:
    """Return the pixels of a file as `fetch` shows them: RGB, uint8, (height, width, 3).

    Args:
        content: the file, not trusted.
        max_pixels: largest width times height.
        formats: of PLUG_INS that are read, too.

    Raises:
        FetchError: it cannot be decoded; see `make_upright` and `Outcome`.
        StoreError: the process does not start.
    """
    outcomes: list[Outcome] = []
    with Decoder(rgb_of, most=_CHANNELS * max_pixels) as decoder:
        header = {"max_pixels": max_pixels, "formats": list(formats)}
        decoder.ask(Message(header, content), outcomes.append)
    (outcome,) = outcomes
    if isinstance(outcome, FetchError):
        raise outcome
    shape = outcome.header.get("shape")
    if shape is None:
        raise FetchError(reason_of(outcome.header.get("reason")))
    try:
        return np.frombuffer(outcome.content, np.uint8).reshape(shape[0], shape[1], _CHANNELS)
    except (TypeError, ValueError, LookupError, OverflowError):
        raise FetchError("decoder_died") from None


def rgb_of(header: Header, content: bytes) -> Message:
    """Return the pixels of a file, with their `shape`, or the `reason` why there are none."""
    try:
        rgb = make_upright(content, header["max_pixels"], header["formats"]).rgb
    except FetchError as error:
        return Message({"reason": error.reason}, b"")
    return Message({"shape": rgb.shape[:2]}, np.ascontiguousarray(rgb).tobytes())
