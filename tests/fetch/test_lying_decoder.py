"""A decoder that a picture has taken over costs that picture, whatever it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import RecipeError
from curation.media.pictures import decoder
from curation.media.pictures.blank_picture import blank_picture
from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Message, unpacked
from curation.media.pictures.decoder_worker import Limits
from curation.media.pictures.jpeg import MANY_SCANS
from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch import sample_writer
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import COLUMNS, columns_of, detail_of, is_stored
from curation.stages.fetch.sample_schema import SCHEMA
from tests.fetch.conftest import Web
from tests.fetch.helpers import encoded, fetched, picture, served
from tests.pictures import poison

LIMITS = Limits(memory_bytes=2**28, processor_s=2, wall_s=20.0)
SOUND: dict[str, Any] = {
    "format": "jpeg",
    "original_width": 10,
    "original_height": 10,
    "width": 10,
    "height": 10,
    "faces_blurred": 0,
    "has_c2pa": False,
}
odd = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.sampled_from(["\ud800", "x" * 20_000, '{"signal": 1}', "[]", '{"a":' * 2_000]),
    st.integers(),
    st.sampled_from([-1, 2**31, 2**63, 10**30, True, None, 1.5, float("nan"), float("inf")]),
)
columns = st.dictionaries(st.sampled_from([*COLUMNS, "status", "key", "image"]), odd)
answers = st.dictionaries(st.sampled_from(["columns", "reason", "error", "x"]), odd | columns)


@pytest.fixture(autouse=True, scope="module")
def _no_decoder_is_left() -> Iterator[None]:
    yield
    decoder._IDLE.close()


@pytest.mark.parametrize("examples", [200, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_tables_hold_what_any_answer_gives(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(answers)
    def holds(header: dict[str, Any]) -> None:
        answer = unpacked(json.dumps(header).encode(), b"")
        given = columns_of(answer)
        assert given.keys() <= {*COLUMNS, "reason"}
        for name, value in (given | {"detail": detail_of(answer)}).items():
            assert pa.array([value], SCHEMA.field(name).type).to_pylist() == [value]
        if given.get("opt_out") is not None:
            assert set(json.loads(given["opt_out"])) == {"signal", "place", "text"}

    holds()


@pytest.mark.parametrize(
    "header", [b"[" * 2**20, b'{"a":' * 200_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_a_header_that_cannot_be_read_is_no_answer(header: bytes) -> None:
    with pytest.raises(ValueError):
        unpacked(header, b"")


@pytest.mark.parametrize("missing", ["width", "format", None])
def test_an_image_is_stored_with_its_columns_alone(missing: str | None) -> None:
    content = blank_picture()
    sound = SOUND | {"width": 32, "height": 32}
    sample = dict.fromkeys(SCHEMA.names) | {n: v for n, v in sound.items() if n != missing}
    assert is_stored(Message({}, content), sample, 1024) == (missing is None)
    others = (b"", b"GIF89a", content[:30], content[2:], b"\xff\xd8" + b"\xff\x00" * 100_000)
    assert not any(is_stored(Message({}, other), sample, 1024) for other in others)
    assert not is_stored(Message({}, content), sample | {"width": 33}, 10**6)
    assert not is_stored(Message({}, content), sample, 1023)
    # Each scan may take as long as all pixels, and the stages after this one have no limits.
    scans = content[:-2] + b"\xff\xda\x00\x02" * MANY_SCANS + content[-2:]
    assert not is_stored(Message({}, scans), sample, 1024)


def test_lies_cost_their_rows_and_the_others_are_stored(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_writer, "store_picture", poison.lie)
    lies: list[dict[str, Any]] = [
        {"reason": None},
        {"reason": None, "columns": SOUND},
        {"reason": None, "columns": SOUND | {"width": 2**40}, "stored": 1},
        {"reason": "\ud800", "columns": {"rights": "\ud800"}, "error": "\ud800"},
        {"reason": "undecodable", "columns": {"opt_out": "[]", "format": 5}, "error": "\ud800"},
        {"refused": "RecipeError", "message": "end"},
        {"failed": ["x"]},
    ]
    plain = encoded(picture())
    urls = [served(web, b"LIE " + json.dumps(lie).encode()) for lie in lies]
    rows = fetched(tmp_path, [*urls, served(web, plain)])
    reasons = ["decoder_died"] * 4 + ["undecodable"] + ["decoder_died"] * 2
    assert [row["reason"] for row in rows] == [*reasons, None]
    assert rows[-1]["image"] == plain


def test_an_error_that_ends_a_run_is_one_of_every_picture() -> None:
    outcomes: list[Outcome] = []
    with Decoder(poison.refuse_words, LIMITS) as asked:
        for content in (b"\xff\xd8a", b"words", b"\xff\xd8b", b"words", b"\xff\xd8c"):
            asked.ask(Message({}, content), outcomes.append)
    assert [isinstance(each, FetchError) and each.reason for each in outcomes] == [
        False,
        "decoder_died",
        False,
        "decoder_died",
        False,
    ]
    with pytest.raises(RecipeError, match="no network"), Decoder(poison.act, LIMITS) as asked:
        asked.ask(Message({"act": "refuse"}, b"words"), outcomes.append)


def test_no_recipe_refuses_the_picture_of_nobody_for_its_size() -> None:
    (least,) = (m.ge for m in FetchParams.model_fields["max_pixels"].metadata if hasattr(m, "ge"))
    assert make_upright(blank_picture(), least).width == 32
