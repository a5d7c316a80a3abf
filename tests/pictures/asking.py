"""Asks a decoder about one picture, and waits for the answer."""

from __future__ import annotations

from collections.abc import Callable

from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Header, Message
from curation.media.pictures.decoder_worker import Limits
from curation.media.web.fetch_error import FetchError


def ask_decoder(
    function: Callable[..., Message], header: Header, content: bytes, limits: Limits | None = None
) -> Message:
    """Return the answer, or raise the error that stands for it."""
    outcomes: list[Outcome] = []
    with Decoder(function, limits, most=2**30) as decoder:
        decoder.ask(Message(header, content), outcomes.append)
    (outcome,) = outcomes
    if isinstance(outcome, FetchError):
        raise outcome
    return outcome
