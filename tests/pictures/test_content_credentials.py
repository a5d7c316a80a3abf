"""What manifests of C2PA say of training is recorded, and withholds pictures where a recipe says so."""

from __future__ import annotations

import json
import random
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from curation.errors import RecipeError
from curation.media.pictures.decoder import Decoder, Outcome
from curation.media.pictures.decoder_messages import Message
from curation.media.pictures.decoder_worker import Limits
from curation.media.pictures.metadata import content_credentials
from curation.media.web.params import MANIFEST_SIGNALS
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.picture import header_of, store_picture
from curation.stages.fetch.stored_image import most_bytes
from tests.pictures import poison
from tests.pictures.asking import ask_decoder
from tests.pictures.files import PICTURE, encode
from tests.pictures.signing import CAWG, FORBIDDEN, KINDS, OLD, assertion, signed

BOTH = sorted(MANIFEST_SIGNALS)


def picture(kind: str = "jpeg") -> bytes:
    """A picture without metadata."""
    return encode(PICTURE, kind.upper())


def answer_of(content: bytes, **params: Any) -> dict[str, Any]:
    """The header of the answer for a file."""
    recipe = FetchParams.model_validate(params)
    header: dict[str, Any] = store_picture(header_of(recipe), content).header
    return header


def recorded(content: bytes) -> str | None:
    """What is kept of the manifests of a picture, which is stored."""
    header = answer_of(content, keep_metadata=["training_mining"])
    assert header["reason"] is None
    kept = header["columns"]["kept_metadata"]
    text: str | None = None if kept is None else json.loads(kept)["training_mining"]
    return text


def reason_of(content: bytes, signals: list[str]) -> str | None:
    """Why a picture is not stored, or None."""
    reason: str | None = answer_of(content, opt_out_signals=signals)["reason"]
    return reason


@pytest.mark.parametrize("kind", KINDS)
def test_manifests_are_read_in_every_format(kind: str) -> None:
    content = signed(picture(kind), kind, [assertion()])
    assert recorded(content) == "cawg.ai_training=notAllowed"
    header = answer_of(content, opt_out_signals=BOTH)
    assert header["reason"] == "opted_out_training_mining"
    columns = header["columns"]
    assert columns["has_c2pa"] and columns["format"] == kind and columns["kept_metadata"] is None
    assert json.loads(columns["opt_out"]) == {
        "signal": "training_mining",
        "place": "manifest of the picture: training-mining",
        "text": "cawg.ai_training=notAllowed",
    }
    assert recorded(picture(kind)) is None and reason_of(picture(kind), BOTH) is None


def test_manifests_are_read_only_if_a_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(content_credentials, "_loaded", refuse)
    header = answer_of(signed(picture(), assertions=[assertion()]))
    assert header["reason"] is None and header["columns"]["has_c2pa"]
    assert header["columns"]["kept_metadata"] is None
    assert not MANIFEST_SIGNALS & set(FetchParams().opt_out_signals)


USES: dict[str, tuple[Any, list[str]]] = {
    "training": ({"cawg.ai_training": "notAllowed"}, ["training_mining"]),
    "mining": ({"cawg.data_mining": "notAllowed"}, ["training_mining"]),
    "generative": ({"cawg.ai_generative_training": "notAllowed"}, ["training_mining_genai"]),
    "inference": ({"cawg.ai_inference": "notAllowed"}, []),
    "constrained": ({"c2pa.ai_training": "constrained"}, ["training_mining"]),
    "allowed": ({"cawg.ai_training": "allowed", "cawg.data_mining": "Allowed"}, []),
    "another spelling": ({"c2pa.data_mining": "not_allowed"}, ["training_mining"]),
    "own use": ({"com.example.resale": "notAllowed"}, []),
    "both": (
        {"cawg.ai_training": "constrained", "cawg.ai_generative_training": "notAllowed"},
        ["training_mining", "training_mining_genai"],
    ),
    "mixed": (
        {"c2pa.ai_training": "allowed", "c2pa.ai_generative_training": "notAllowed"},
        ["training_mining_genai"],
    ),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("label", [CAWG, OLD])
def test_each_use_is_a_signal_by_itself(name: str, label: str) -> None:
    uses, expected = USES[name]
    entries = {use: {"use": value} for use, value in uses.items()}
    content = signed(picture(), assertions=[assertion(entries, label)])
    for signal in BOTH:
        withheld = reason_of(content, [signal]) == f"opted_out_{signal}"
        assert withheld == (signal in expected)
        assert withheld or reason_of(content, [signal]) is None
    text = recorded(content) or ""
    assert set(text.split("; ")) == {f"{use}={value}" for use, value in uses.items()}


def test_constraints_are_recorded() -> None:
    entry = {"use": "constrained", "constraint_info": "see\n https://x.example/terms"}
    content = signed(picture(), assertions=[assertion({"cawg.ai_training": entry})])
    assert recorded(content) == "cawg.ai_training=constrained (see https://x.example/terms)"


def test_what_forbids_is_recorded_first_and_much_is_cut() -> None:
    entries = {f"com.example.use{n}": {"use": "allowed"} for n in range(200)}
    entries |= {"com.example.long" + "g" * 5000: {"use": "y" * 5000}, **FORBIDDEN}
    content = signed(picture(), assertions=[assertion(entries)])
    text = recorded(content) or ""
    assert text.startswith("cawg.ai_training=notAllowed; com.example.longggg")
    assert len(text) <= 1000
    permissions = content_credentials.read_manifests(content, "jpeg").permissions
    assert len(permissions) == 20
    assert max(len(text) for permission in permissions for text in permission) == 200
    assert reason_of(content, BOTH) == "opted_out_training_mining"


def test_the_strictest_of_all_manifests_counts() -> None:
    original = signed(picture(), assertions=[assertion()])
    resized = signed(picture(), parent=original)
    assert recorded(resized) == "cawg.ai_training=notAllowed"
    allowing = assertion({"cawg.ai_training": {"use": "allowed"}})
    signed_anew = signed(picture(), assertions=[allowing], parent=resized)
    assert recorded(signed_anew) == "cawg.ai_training=notAllowed; cawg.ai_training=allowed"
    assert reason_of(signed_anew, BOTH) == "opted_out_training_mining"


ODD: dict[str, Any] = {
    "no entries": {"label": CAWG, "data": {}},
    "a list": {"label": CAWG, "data": {"entries": [1]}},
    "a text": {"label": CAWG, "data": {"entries": "notAllowed"}},
    "no use": {"label": CAWG, "data": {"entries": {"cawg.ai_training": {}}}},
    "a number": {"label": CAWG, "data": {"entries": {"cawg.ai_training": {"use": 1}}}},
    "another label": {"label": "com.example.training-mining", "data": {"entries": FORBIDDEN}},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_assertions_say_nothing(name: str) -> None:
    content = signed(picture(), assertions=[ODD[name]])
    assert recorded(content) is None and reason_of(content, BOTH) is None


def test_the_first_schema_of_cawg_is_read() -> None:
    content = signed(picture(), assertions=[{"label": CAWG, "data": FORBIDDEN}])
    assert recorded(content) == "cawg.ai_training=notAllowed"


def test_signatures_and_pixels_are_not_judged() -> None:
    content = signed(picture(), assertions=[assertion()])
    at = content.rindex(b"\xff\xda") + 200
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    assert recorded(changed) == "cawg.ai_training=notAllowed"


def test_a_manifest_that_cannot_be_read_costs_no_picture_its_row() -> None:
    content = signed(picture(), assertions=[assertion()])
    at = content.index(b"jumdc2ma")
    broken = content[:at] + b"\0" * 40 + content[at + 40 :]
    assert recorded(broken) == "unreadable"
    assert reason_of(broken, BOTH) is None


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_no_damage_of_a_manifest_costs_a_picture_its_row(kind: str) -> None:
    """The library may even end the process: in no answer the picture is lost."""
    content, plain = signed(picture(kind), kind, [assertion()]), picture(kind)
    start, end = content.index(b"jumb"), content.rindex(b"cawg.training-mining")
    random.seed(1)
    outcomes: list[Outcome] = []
    params = FetchParams.model_validate({"keep_metadata": ["training_mining"]})
    with Decoder(store_picture, most=most_bytes(params)) as decoder:
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(random.choice((1, 3, 30))):
                damaged[random.randrange(start, end)] = random.randrange(256)
            if kind == "png":
                damaged = bytearray(_with_checksums(bytes(damaged)))
            header = header_of(params)
            decoder.ask(
                Message(header, bytes(damaged)),
                outcomes.append,
                Message(header | {"manifests_are_unreadable": True}, bytes(damaged)),
            )
    assert len(outcomes) == 150
    answers = [outcome for outcome in outcomes if isinstance(outcome, Message)]
    assert len(answers) == 150
    assert {answer.header["reason"] for answer in answers} == {None}
    assert {answer.content for answer in answers} == {
        store_picture(header_of(params), plain).content
    }


def _with_checksums(png: bytes) -> bytes:
    """A PNG with the right checksums of its chunks."""
    out, at = png[:8], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        body = png[at + 4 : at + 8 + size]
        out += png[at : at + 4] + body + zlib.crc32(body).to_bytes(4)
        at += 12 + size
    return out


def test_stored_pictures_have_no_manifest() -> None:
    recipe = FetchParams.model_validate({"resize": {"mode": "no"}})
    answer = store_picture(header_of(recipe), signed(picture(), assertions=[assertion()]))
    assert answer.content and b"c2pa" not in answer.content and b"jumb" not in answer.content


def test_a_package_that_does_not_work_is_an_error_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyPI has another package of this name, without a reader."""
    (tmp_path / "c2pa.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "c2pa")
    content_credentials._loaded.cache_clear()
    with pytest.raises(RecipeError, match=r"cannot be imported.*pip install 'curation\[c2pa\]'"):
        recorded(picture() + b"c2pa")
    content_credentials._loaded.cache_clear()


def test_no_shared_object_in_the_current_folder_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libc2pa_c.so").write_bytes(b"not ours")
    monkeypatch.chdir(tmp_path)
    content = signed(picture(), assertions=[assertion()])
    header = header_of(FetchParams.model_validate({"keep_metadata": ["training_mining"]}))
    # A limit of its own, so that this is a process that has not loaded the library before.
    answer = ask_decoder(store_picture, header, content, Limits(wall_s=59.0))
    assert "notAllowed" in answer.header["columns"]["kept_metadata"]
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("act", ["segfault", "abort", "loop", "library memory"])
def test_what_ends_the_process_is_asked_without(act: str) -> None:
    """A picture whose manifest ends the process is asked for again without it."""
    outcomes: list[Outcome] = []
    with Decoder(poison.act, Limits(memory_bytes=2**28, processor_s=1, wall_s=3.0)) as decoder:
        for number in range(20):
            poisoned = {"act": act} if number in (3, 4, 17) else {}
            content = bytes([number])
            decoder.ask(Message(poisoned, content), outcomes.append, Message({}, content))
    contents = [outcome.content for outcome in outcomes if isinstance(outcome, Message)]
    assert contents == [bytes([number]) for number in range(20)]
