"""Pictures that somebody sends with a request are decoded apart, within limits, as all are."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import curation
from curation.media.pictures import apart, decoder
from curation.media.pictures.apart import decode_apart
from curation.media.pictures.decoder_messages import Message, reason_of
from curation.media.pictures.decoder_worker import Limits
from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.picture import columns_of
from tests.fetch.helpers import encoded, picture

ROOT = Path(curation.__file__).parent


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_the_pixels_are_those_that_fetch_shows(mode: str) -> None:
    content = encoded(picture().convert(mode), "PNG")
    assert (decode_apart(content, 10**6) == make_upright(content, 10**6).rgb).all()


def test_what_cannot_be_decoded_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, most, reason in (
        (b"", 10**6, "empty"),
        (b"words", 10**6, "not_an_image"),
        (encoded(picture()), 10, "too_many_pixels"),
    ):
        with pytest.raises(FetchError, match=reason):
            decode_apart(content, most)
    large = encoded(picture().resize((3000, 3000)), "PNG")
    monkeypatch.setattr(decoder, "Limits", lambda: Limits(memory_bytes=2**24))
    with pytest.raises(FetchError, match="decoder_memory"):
        decode_apart(large, 10**8)


@pytest.mark.parametrize("shape", [None, [], [1], ["a", "b"], [10, 10], [-1, 0], {}, 5])
def test_an_answer_with_another_shape_is_none(
    monkeypatch: pytest.MonkeyPatch, shape: object
) -> None:
    class Lying:
        def __enter__(self) -> Lying:
            return self

        def __exit__(self, *_: object) -> None:
            """End."""

        def ask(self, _: Message, done: object) -> None:
            assert callable(done)
            done(Message({"shape": shape}, b"abc"))

    monkeypatch.setattr(apart, "Decoder", lambda _, most: Lying())
    with pytest.raises(FetchError, match="decoder_died"):
        decode_apart(b"x", 1)


@pytest.mark.parametrize("reason", ["a\nb", "x" * 65, "", 5, ["undecodable"], "\x1b[2J"])
def test_a_reason_that_is_no_code_is_none(reason: object) -> None:
    assert reason_of(reason) == "decoder_died"
    assert columns_of(Message({"reason": reason}, b""))["reason"] == "decoder_died"
    assert columns_of(Message({"reason": None}, b""))["reason"] is None


def test_only_the_process_with_limits_decodes_files_of_strangers() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and "make_upright" in [alias.name for alias in node.names]
    }
    assert importers == {"media/pictures/apart.py", "stages/fetch/picture.py"}
    assert np.dtype(np.uint8) == decode_apart(encoded(picture()), 10**6).dtype
