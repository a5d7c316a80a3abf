"""A large JSON object is read item by item: what is read is what json reads of the whole."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.media.files import json_items as module
from curation.media.files.json_items import DamagedJsonError, JsonItem, json_items

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.text(max_size=4), JSON | st.lists(JSON, max_size=4), max_size=4)


class Blocks:
    """A stream that gives a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._stream, self._size = io.BytesIO(content), size

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, self._size))


def expected(document: dict[str, Any]) -> Iterator[JsonItem]:
    for key, value in document.items():
        if isinstance(value, list):
            yield from (JsonItem(key, number, item) for number, item in enumerate(value))


@settings(max_examples=150, deadline=None)
@given(document=DOCUMENTS, size=st.integers(1, 40), indent=st.none() | st.integers(0, 3))
def test_items_are_those_of_the_document(
    document: dict[str, Any], size: int, indent: int | None
) -> None:
    content = json.dumps(document, indent=indent, ensure_ascii=size % 2 == 0)
    encoded = content.encode("utf-8", "replace")
    document = json.loads(encoded)
    assert list(json_items(Blocks(encoded, size))) == list(expected(document))


@settings(max_examples=150, deadline=None)
@given(document=DOCUMENTS, size=st.integers(1, 40), cut=st.integers(0, 60))
def test_a_document_that_is_cut_is_damaged_after_its_first_items(
    document: dict[str, Any], size: int, cut: int
) -> None:
    content = json.dumps(document).encode()
    cut = min(cut, len(content) - 1)
    read: list[JsonItem] = []
    with pytest.raises(DamagedJsonError):
        read.extend(json_items(Blocks(content[:cut], size)))
    every = list(expected(document))
    read = []
    with pytest.raises(DamagedJsonError):
        for item in json_items(Blocks(content[:cut], size)):
            read.append(item)
    assert [item for item in read if item.problem is None] == every[: len(read)]


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=80) | st.text('{}[]",:\\ a1', max_size=60).map(str.encode))
def test_any_bytes_are_items_or_damage(content: bytes) -> None:
    for start in (b"", b'{"images":[', b'{"a": 1, "images":[{"x":'):
        try:
            for item in json_items(Blocks(start + content, 7)):
                assert item.problem is None or item.value is None
        except DamagedJsonError:
            pass


@pytest.mark.parametrize(
    "item",
    [
        b'"' + b"x" * 200 + b'"',
        b"[" * 100 + b"]" * 100,
        b'{"a": "\\"]}", "b": [' + b"1," * 100 + b"2]}",
        b'{"a": nonsense, "b": "]"}',
        b"[" * 30_000 + b"]" * 30_000,
    ],
)
def test_an_item_that_cannot_be_read_is_passed(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JSON_FILE_BYTES", 60)
    content = b'{"images": [1, ' + item + b', {"id": 2}], "more": [3]}'
    for size in (5, 1 << 20):
        items = list(json_items(Blocks(content, size)))
        assert [(i.array, i.number, i.value) for i in items] == [
            ("images", 0, 1),
            ("images", 1, None),
            ("images", 2, {"id": 2}),
            ("more", 0, 3),
        ]
        assert [bool(i.problem) for i in items] == [False, True, False, False]


@settings(max_examples=100, deadline=None)
@given(
    document=DOCUMENTS,
    more=st.sampled_from(["x", "{}", ",", "}", " \n\x00"]) | DOCUMENTS.map(json.dumps),
    size=st.integers(1, 40),
)
def test_what_follows_the_object_is_damage(document: dict[str, Any], more: str, size: int) -> None:
    content, read = (json.dumps(document) + more).encode(), list[JsonItem]()
    with pytest.raises(DamagedJsonError, match="more follows"):
        for item in json_items(Blocks(content, size)):
            read.append(item)
    assert read == list(expected(document))
