"""Published lists, in their original form, become pairs without any `columns`."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastwarc.stream_io import GzipWriter
from fastwarc.warc import WarcRecord, WarcRecordType

from curation.errors import RecipeError, StoreError
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.presets import PRESETS
from tests.ingest.helpers import pairs, source, write

SHA = "ab" * 32


def listed(tmp_path: Path, kind: str, path: Path, **spec: Any) -> list[dict[str, Any]]:
    return pairs(tmp_path / "store", source(path, format=kind, **({"columns": {}} | spec)))


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (
            "laion",
            {
                "SAMPLE_ID": 7.0,
                "URL": "http://a.example/1.jpg",
                "TEXT": "a cat",
                "HEIGHT": 3,
                "similarity": 0.31,
                "punsafe": 0.01,
                "pwatermark": 0.2,
                "hash": -3,
            },
            {"source_key": "7", "caption": "a cat"},
        ),
        (
            "laion",
            {"url": "http://a.example/1.jpg", "caption": "a cat", "key": "k", "similarity": 0.31},
            {"source_key": "k", "caption": "a cat"},
        ),
        (
            "datacomp",
            {
                "uid": "0af",
                "url": "http://a.example/1.jpg",
                "text": "a cat",
                "sha256": SHA,
                "face_bboxes": [[0.1, 0.2, 0.3, 0.4], [-0.1, 0.5, 0.2, 1.2]],
                "clip_l14_similarity_score": 0.2,
            },
            {
                "source_key": "0af",
                "caption": "a cat",
                "expected_sha256": SHA,
                "face_boxes": "[[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.2, 1.0]]",
            },
        ),
        (
            "coyo",
            {"id": 5, "url": "http://a.example/1.jpg", "text": "a cat", "watermark_score": 0.1},
            {"source_key": "5", "caption": "a cat"},
        ),
        (
            "url_alt",
            {"url": "http://a.example/1.jpg", "alt": "a cat", "page": "http://a.example/"},
            {"caption": "a cat"},
        ),
    ],
)
def test_columns_of_published_parquet_lists_are_mapped(
    tmp_path: Path, kind: str, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    (stored_row,) = listed(tmp_path, kind, write(tmp_path / "part-0.parquet", [row]))
    assert stored_row["status"] == "ok"
    assert stored_row["url"] == "http://a.example/1.jpg"
    assert {name: stored_row[name] for name in expected} == expected
    used = {c for candidates in PRESETS[kind].columns.values() for c in candidates}
    assert set(json.loads(stored_row["metadata"] or "{}")) == set(row) - used


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize(
    "kind", [n for n, p in PRESETS.items() if p.reader == "parquet"] + ["huggingface"]
)
def test_what_no_field_takes_of_several_columns_is_metadata(
    tmp_path: Path, kind: str, is_empty: bool
) -> None:
    """A list may have an alternative text and a caption that a model wrote; one of them is taken."""
    known = PRESETS[kind].columns if kind in PRESETS else FORMATS[kind].columns
    url = "http://a.example/{}.jpg"
    values = {
        column: url.format(column)
        if field == "url"
        else SHA
        if field == "sha256"
        else f"a {column}"
        for field, columns in known.items()
        if field != "faces"
        for place, column in enumerate(columns)
        if not (is_empty and place == 0 and len(columns) > 1)
    }
    row: dict[str, Any] = values | {c[0]: "" for c in known.values() if c[0] not in values}
    if kind == "huggingface":
        row["image"] = {"bytes": b"", "path": None}
    (stored,) = listed(tmp_path, kind, write(tmp_path / "part-0.parquet", [row]))
    kept = json.loads(stored["metadata"] or "{}")
    of_fields = ("url", "caption", "source_key", "expected_sha256")
    taken = [stored[name] for name in of_fields if stored[name] is not None]
    assert sorted([*taken, *kept.values()]) == sorted(values.values())


def test_lists_without_a_header_line(tmp_path: Path) -> None:
    url = "http://a.example/{}.jpg"
    cc3m, cc12m = tmp_path / "cc3m.tsv", tmp_path / "cc12m.tsv"
    cc3m.write_text(f'a "quoted cat\t{url.format(1)}\na dog\t{url.format(2)}\n')
    cc12m.write_text(f"{url.format(1)}\ta cat\n{url.format(2)}\ta dog\n")
    stored_rows = listed(tmp_path / "a", "cc3m", cc3m)
    assert [(r["url"], r["caption"]) for r in stored_rows] == [
        (url.format(1), 'a "quoted cat'),
        (url.format(2), "a dog"),
    ]
    stored_rows = listed(tmp_path / "b", "cc12m", cc12m)
    assert [(r["url"], r["caption"]) for r in stored_rows] == [
        (url.format(1), "a cat"),
        (url.format(2), "a dog"),
    ]


def test_wit_takes_the_first_caption_that_is_not_empty(tmp_path: Path) -> None:
    names = [
        "language",
        "image_url",
        "caption_reference_description",
        "caption_attribution_description",
        "caption_alt_text_description",
    ]
    rows = [
        ["en", "http://a.example/1.jpg", "reference", "attribution", "alt"],
        ["en", "http://a.example/2.jpg", "", '"two ""words"" in\tone field"', "alt"],
        ["en", "http://a.example/3.jpg", "", "", ""],
    ]
    text = "\n".join("\t".join(row) for row in [names, *rows]) + "\n"
    path = tmp_path / "wit.tsv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    stored_rows = listed(tmp_path, "wit", path)
    assert [r["caption"] for r in stored_rows] == ["reference", 'two "words" in\tone field', None]
    others = {"caption_attribution_description": "attribution"}
    others |= {"caption_alt_text_description": "alt"}
    assert json.loads(stored_rows[0]["metadata"]) == {"language": "en"} | others
    assert json.loads(stored_rows[2]["metadata"]) == {"language": "en"}


def test_a_text_list_has_one_url_a_line(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    text = "# mine\nhttp://a.example/1.jpg\n\n  http://a.example/2.jpg\r\nnot a url\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"http://a.example/\xff\n")
    stored_rows = listed(tmp_path, "txt", path)
    assert [r["reason"] for r in stored_rows] == [None, None, "bad_scheme", "bad_row"]


def wat(*pages: Any) -> bytes:
    """A WAT file with one metadata record per page."""
    out = io.BytesIO()
    for page in pages:
        record = WarcRecord()
        record.init_headers(record_type=WarcRecordType.metadata)
        content = page if isinstance(page, bytes) else json.dumps(page).encode()
        record.set_bytes_content(content)
        stream = GzipWriter(out)
        record.write(stream)
        stream.close()
    return out.getvalue()


def page(links: Any, base: str | None = None) -> dict[str, Any]:
    head = {"Base": base} if base else {}
    html = {"Head": head, "Links": links}
    return {
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Target-URI": "http://a.example/dir/page.html"},
            "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}},
        }
    }


def test_images_of_pages_in_common_crawl(tmp_path: Path) -> None:
    links = [
        {"path": "IMG@/src", "url": "1.jpg", "alt": " a cat "},
        {"path": "A@/href", "url": "/other.html", "text": "no image"},
        {"path": "IMG@/src", "url": "//b.example/2.jpg"},
        {"path": "IMG@/src", "url": "http://[bad/3.jpg", "alt": "x"},
        {"path": "IMG@/src"},
        "nonsense",
    ]
    text = {"Envelope": {"Payload-Metadata": {"Actual-Content-Type": "text/plain"}}}
    pages_ = [page(links), text, page(links[:1], base="/else/"), b"{no json", page(None)]
    path = tmp_path / "one.wat.gz"
    path.write_bytes(wat(*pages_))
    stored_rows = listed(tmp_path, "wat", path)
    assert [(r["url"], r["caption"], r["reason"]) for r in stored_rows] == [
        ("http://a.example/dir/1.jpg", "a cat", None),
        ("http://b.example/2.jpg", None, None),
        ("http://[bad/3.jpg", "x", "bad_url"),
        (None, None, "no_image"),
        ("http://a.example/else/1.jpg", "a cat", None),
        (None, None, "bad_row"),
    ]
    assert json.loads(stored_rows[0]["metadata"]) == {"page_url": "http://a.example/dir/page.html"}


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("\\img\\a.jpg", "http://a.example/img/a.jpg"),
        ("img\\a.jpg", "http://a.example/dir/img/a.jpg"),
        ("..\\a.jpg", "http://a.example/a.jpg"),
        ("\\\\b.example\\a.jpg", "http://b.example/a.jpg"),
        ("a.jpg?", "http://a.example/dir/a.jpg?"),
        ("w=80/https://c.example//b.jpg", "http://a.example/dir/w=80/https://c.example//b.jpg"),
        ("http:/a.jpg", "http://a.example/a.jpg"),
        ("http:a.jpg", "http://a.example/dir/a.jpg"),
        ("https:b.example/a.jpg", "https://b.example/a.jpg"),
        ("//B.example/a b.jpg", "http://b.example/a%20b.jpg"),
        ("?n=1", "http://a.example/dir/page.html?n=1"),
        ("a;b=1.jpg", "http://a.example/dir/a;b=1.jpg"),
        ("HTTP://b.example/x/../a.jpg#top", "http://b.example/a.jpg"),
        ("//u:p@b.example/a.jpg", None),
        ("data:image/gif;base64,R0lGOD", None),
    ],
)
def test_an_image_of_a_page_is_where_browsers_ask_for_it(
    tmp_path: Path, url: str, requested: str | None
) -> None:
    path = tmp_path / "one.wat.gz"
    path.write_bytes(
        wat(page([{"path": "IMG@/src", "url": url}, {"path": "IMG@/src", "url": "1"}]))
    )
    row, other = listed(tmp_path, "wat", path)
    assert row["url_normalized"] == requested and (row["reason"] is None) == (requested is not None)
    assert other["url_normalized"] == "http://a.example/dir/1"


def test_half_of_a_surrogate_pair_in_the_text_of_an_image_is_noted(tmp_path: Path) -> None:
    texts = ("cut \ud83d", "whole \U0001f600", None)
    links = [{"path": "IMG@/src", "url": f"{n}.jpg", "alt": t} for n, t in enumerate(texts)]
    (tmp_path / "one.wat.gz").write_bytes(wat(page(links)))
    stored_rows = listed(tmp_path, "wat", tmp_path / "one.wat.gz")
    assert [r["caption"] for r in stored_rows] == ["cut \ufffd\ufffd\ufffd", *texts[1:]]
    notes = [json.loads(r["metadata"]).get("unreadable", "") for r in stored_rows]
    assert "image 0 of http://a.example/dir/page.html: alt: halves of surrogate pairs" in notes[0]
    assert notes[1:] == ["", ""]


def test_of_a_truncated_wat_file_the_pages_before_the_end_are_read(tmp_path: Path) -> None:
    path = tmp_path / "one.wat.gz"
    whole = wat(*(page([{"path": "IMG@/src", "url": f"{n}.jpg"}]) for n in range(50)))
    path.write_bytes(whole[: len(whole) * 2 // 3 + 7])
    *stored_rows, last = listed(tmp_path, "wat", path)
    assert {r["url"] for r in stored_rows} == {
        f"http://a.example/dir/{n}.jpg" for n in range(len(stored_rows))
    }
    assert len(stored_rows) in range(20, 40)
    assert last["reason"] == "bad_row" and "one.wat.gz cannot be read as WAT" in last["metadata"]
    path.write_bytes(whole[:20])
    with pytest.raises(StoreError, match=r"one\.wat\.gz"):
        listed(tmp_path / "alone", "wat", path)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("laion", {"LINK": "http://a.example/1.jpg"}, r"is not a laion list.*URL, url.*LINK"),
        ("coyo", {"uri": "http://a.example/1.jpg"}, r"is not a coyo list"),
        ("tsvv", {"url": "x"}, r"unknown format 'tsvv'.*parquet.*datacomp"),
    ],
)
def test_an_error_names_the_columns_of_a_list_in_another_format(
    tmp_path: Path, kind: str, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        listed(tmp_path, kind, write(tmp_path / "l.parquet", [row]))


def test_columns_of_the_recipe_override_those_of_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", [{"URL": "http://a.example/1", "TEXT": "a", "ALT": "b"}])
    (stored_row,) = listed(tmp_path, "laion", path, columns={"caption": "ALT"})
    assert stored_row["caption"] == "b"


@pytest.mark.parametrize(
    "boxes",
    [
        *(
            "[[0.1, 0.2, 0.3]]",
            "[[0.5, 0.2, 0.3, 0.4]]",
            "[[0, 0, 1, NaN]]",
            "faces",
            "[1, 2, 3, 4]",
        ),
        # Pixels: clipped to the image, nothing would be left of them, and no face would be blurred.
        *(
            "[[10, 20, 100, 200]]",
            "[[0.1, 0.2, 0.3, 0.4], [0, 0, 64, 64]]",
            "[[-9, 0.1, 0.2, 0.3]]",
        ),
    ],
)
def test_invalid_boxes_make_a_bad_row(tmp_path: Path, boxes: str) -> None:
    path = tmp_path / "l.jsonl"
    rows = [{"u": "http://a.example/1", "f": boxes}, {"u": "http://a.example/2", "f": None}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stored_rows = listed(tmp_path, "jsonl", path, columns={"url": "u", "faces": "f"})
    assert [r["reason"] for r in stored_rows] == ["bad_row", None]


def test_lists_on_file_systems_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    table = pa.table({"URL": ["http://a.example/1.jpg"], "TEXT": ["a cat"]})
    with fsspec.open("memory://lists/part-0.parquet", "wb") as file:
        pq.write_table(table, file)
    spec = source("memory://lists", format="laion", columns={})
    (stored_row,) = pairs(tmp_path / "store", spec)
    assert stored_row["caption"] == "a cat"
    with pytest.raises(RecipeError, match="nosuch"):
        pairs(tmp_path / "other", source("nosuch://lists", format="laion", columns={}))


def test_every_format_has_a_reader() -> None:
    for name, entry in FORMATS.items():
        assert callable(getattr(FORMATS.load(name), entry.function)), name
    assert {preset.reader for preset in PRESETS.values()} <= set(FORMATS)
