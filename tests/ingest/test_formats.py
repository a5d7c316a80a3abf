"""Lists of pairs in every text format, and in Parquet."""

from __future__ import annotations

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import RecipeError, StoreError
from tests.ingest.helpers import jpeg, pairs, source, tar_of, write

LIST = {"url": "url", "caption": "text", "key": "uid", "sha256": "hash"}
ROWS = [
    {"url": "http://a.example/1", "text": "first, with comma", "uid": "7", "size": "12"},
    {"url": "http://a.example/2", "text": 'a "quoted" word', "uid": "8", "size": "13"},
]


def as_text(rows: list[dict[str, str]], mark: str) -> str:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if mark == "," else value

    lines = [mark.join(rows[0]), *(mark.join(map(quoted, r.values())) for r in rows)]
    return "\n".join(lines) + "\n"


CONTENTS = {
    "csv": as_text(ROWS, ",").encode(),
    "tsv": as_text(ROWS, "\t").encode(),
    "jsonl": "".join(json.dumps(r) + "\n" for r in ROWS).encode(),
}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
def test_lists_give_the_same_pairs_in_every_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"list.{kind}"
    if kind == "parquet":
        write(path, ROWS)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(CONTENTS[kind.removesuffix(".gz")]))
    else:
        path.write_bytes(CONTENTS[kind])
    columns = {"url": "url", "caption": "text", "key": "uid"}
    rows = pairs(tmp_path / "store", source(path, format=kind.removesuffix(".gz"), columns=columns))
    assert [(r["url"], r["caption"], r["source_key"]) for r in rows] == [
        (r["url"], r["text"], r["uid"]) for r in ROWS
    ]
    assert [json.loads(r["metadata"]) for r in rows] == [{"size": "12"}, {"size": "13"}]
    assert {r["status"] for r in rows} == {"ok"}
    assert {len(r["pair_id"]) for r in rows} == {32}
    reference = pairs(
        tmp_path / "other", source(write(tmp_path / "ref.parquet", ROWS), columns=columns)
    )
    assert [r["pair_id"] for r in rows] == [r["pair_id"] for r in reference]


def test_csv_keeps_quoted_line_ends_and_drops_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(
        b"\xef\xbb\xbfurl,caption\r\n"
        b'http://a.example/1,"two\nlines"\r\n'
        b"http://a.example/2,one,too many\r\n"
        b"http://a.example/3\r\n"
        b"http://a.example/4,caf\xe9\r\n"
        b"\r\n"
        b"http://a.example/5," + b"x" * 200_000 + b"\r\n"
        b'http://a.example/6,"fine, ""really"""'
    )
    rows = pairs(tmp_path / "store", source(path, format="csv"))
    assert [(r["status"], r["caption"]) for r in rows] == [
        ("ok", "two\nlines"),
        ("dropped", None),
        ("dropped", None),
        ("dropped", None),
        ("dropped", None),
        ("ok", 'fine, "really"'),
    ]
    assert {r["reason"] for r in rows} == {None, "bad_row"}


def test_an_unbalanced_quote_loses_rows_but_not_the_file(tmp_path: Path) -> None:
    good = b"".join(b"http://a.example/%d,plain words here\n" % i for i in range(20_000))
    path = tmp_path / "list.csv"
    path.write_bytes(b'url,caption\nhttp://a.example/x,"never closed\n' + good)
    rows = pairs(tmp_path / "store", source(path, format="csv"))
    assert rows[0]["reason"] == "bad_row"
    assert rows[-1]["url"] == "http://a.example/19999"
    assert sum(r["status"] == "ok" for r in rows) > 15_000


def test_tsv_reads_quotes_as_plain_characters(tmp_path: Path) -> None:
    path = tmp_path / "list.tsv"
    path.write_text('url\tcaption\nhttp://a.example/1\t"half a quote\nhttp://a.example/2\tb\n')
    rows = pairs(tmp_path / "store", source(path, format="tsv"))
    assert [r["caption"] for r in rows] == ['"half a quote', "b"]


def test_jsonl_drops_bad_and_overlong_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    lines = [
        b'{"url": "http://a.example/1", "caption": "ok", "nan": NaN, "deep": {"b": [1, null]}}',
        b"not json",
        b"[1, 2]",
        b'{"url": "http://a.example/\xff"}',
        b"[" * 100_000,
        b'{"url": "' + b"x" * (6 << 20) + b'"}',
        b"",
        b'{"url": "http://a.example/2", "caption": "half \\ud800 pair"}',
    ]
    path.write_bytes(b"\n".join(lines))
    rows = pairs(tmp_path / "store", source(path, format="jsonl"))
    assert [r["reason"] for r in rows] == [None, *["bad_row"] * 5, None]
    assert json.loads(rows[0]["metadata"]) == {"nan": None, "deep": {"b": [1, None]}}
    assert rows[-1]["caption"] == "half \ufffd pair".replace("\ufffd", "\ufffd" * 3)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_error_names_a_missing_column_and_the_existing_ones(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"list.{kind}"
    if kind == "parquet":
        write(path, ROWS)
    else:
        path.write_bytes(CONTENTS[kind])
    with pytest.raises(RecipeError, match=r"list\.\w+ has no column 'TEXT'.*size, text, uid, url"):
        pairs(
            tmp_path / "store",
            source(path, format=kind, columns={"url": "url", "caption": "TEXT"}),
        )


@pytest.mark.parametrize("first", [999, 1000, 2500])
def test_a_field_that_comes_late_in_json_lines_is_read(tmp_path: Path, first: int) -> None:
    path = tmp_path / "list.jsonl"
    rows = [{"url": f"http://a.example/{i}", "sïze": i} for i in range(first)]
    late = [{"url": "http://a.example/x", "caption": "late", "uid": "7"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *late]))
    columns = {"url": "url", "caption": "caption", "key": "uid"}
    read = pairs(tmp_path / "store", source(path, format="jsonl", columns=columns))
    assert {row["url"]: (row["caption"], row["source_key"]) for row in read} == {
        **{row["url"]: (None, None) for row in rows},
        "http://a.example/x": ("late", "7"),
    }
    with pytest.raises(RecipeError, match=r"list\.jsonl has no column 'TEXT'.*sïze, uid, url"):
        pairs(
            tmp_path / "store",
            source(path, format="jsonl", columns={"url": "url", "key": "uid", "caption": "TEXT"}),
        )


def test_an_error_names_a_truncated_parquet_file(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.parquet", ROWS).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    with pytest.raises(StoreError, match=r"cut\.parquet cannot be read as Parquet.*Replace"):
        pairs(
            tmp_path / "store",
            source(tmp_path / "cut.parquet", columns={"url": "url", "caption": "text"}),
        )


def test_an_error_names_a_file_with_damaged_compression(tmp_path: Path) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(b"url,caption\n" + b"http://a.example/1,b\n" * 9999)[:11])
    with pytest.raises(StoreError, match=r"list\.csv\.gz is damaged"):
        pairs(tmp_path / "store", source(path, format="csv"))


def test_parquet_columns_of_all_types_become_json_metadata(tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "url": "http://a.example/1",
        "caption": "c",
        "float": float("nan"),
        "number": 3,
        "when": date(2026, 1, 2),
        "price": Decimal("1.50"),
        "raw": b"\xff",
        "nested": {"bytes": b"\xff", "list": [1.0, float("inf")]},
        "naïve": "ü",
    }
    (stored_row,) = pairs(tmp_path / "store", source(write(tmp_path / "l.parquet", [row])))
    assert json.loads(stored_row["metadata"]) == {
        "float": None,
        "number": 3,
        "when": "2026-01-02",
        "price": "1.50",
        "nested": {"list": [1.0, None]},
        "naïve": "ü",
    }
    assert list(json.loads(stored_row["metadata"])) == sorted(json.loads(stored_row["metadata"]))


def test_text_that_is_not_utf8_makes_a_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"bad \xff"]).cast(pa.binary())
    captions = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    urls = pa.array(["http://a.example/1", "http://a.example/2"])
    pq.write_table(pa.table({"url": urls, "caption": captions}), tmp_path / "l.parquet")
    rows = pairs(tmp_path / "store", source(tmp_path / "l.parquet"))
    assert [r["reason"] for r in rows] == [None, "bad_row"]


@pytest.mark.parametrize("as_struct", [False, True])
def test_locations_of_inline_images_name_their_row(tmp_path: Path, as_struct: bool) -> None:
    pictures = [jpeg(1), None, jpeg(2), jpeg(1)]
    values = [{"bytes": p, "path": "x.jpg"} if as_struct else p for p in pictures]
    path = write(tmp_path / "p#1.parquet", [{"img": v, "caption": "c"} for v in values])
    rows = pairs(tmp_path / "store", source(path, columns={"image": "img", "caption": "caption"}))
    assert [r["location"] for r in rows] == [
        f"{tmp_path}/p%231.parquet#img/0",
        None,
        f"{tmp_path}/p%231.parquet#img/2",
        f"{tmp_path}/p%231.parquet#img/3",
    ]
    assert [r["reason"] for r in rows] == [None, "no_image", None, "duplicate_pair"]
    assert rows[0]["pair_id"] != rows[2]["pair_id"]
    assert rows[3]["duplicate_of"] == rows[0]["pair_id"]


def test_inline_images_without_key_or_url_are_identified_by_their_bytes(tmp_path: Path) -> None:
    rows = [{"img": jpeg(i), "url": "" if i else "http://a.example/0"} for i in range(3)]
    path = write(tmp_path / "p.parquet", rows)
    stored_rows = pairs(tmp_path / "store", source(path, columns={"image": "img", "url": "url"}))
    assert [r["status"] for r in stored_rows] == ["ok"] * 3


def test_image_must_be_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", ROWS)
    with pytest.raises(RecipeError, match="mapped to image, has the type string"):
        pairs(tmp_path / "store", source(path, columns={"image": "url"}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"url": [1, 2]},
            r"column 'url' of .*l\.parquet, .* has the type int64\. Map url to",
        ),
        ({"url": [["http://a.example/1"]]}, "to url, has the type list"),
        (
            {"url": ["http://a.example/1"], "caption": [["a", "b"]]},
            "to caption, has the type list",
        ),
        (
            {"url": ["http://a.example/1"], "caption": [{"en": "a"}]},
            "to caption, has the type struct",
        ),
    ],
)
def test_mapped_columns_of_wrong_types_raise_an_error(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(RecipeError, match=message):
        pairs(tmp_path / "store", source(path, columns={name: name for name in columns}))


def test_numbers_may_be_captions_and_keys(tmp_path: Path) -> None:
    rows = [{"url": "http://a.example/1", "n": 7, "x": 2.5}]
    path = write(tmp_path / "l.parquet", rows)
    columns = {"url": "url", "caption": "x", "key": "n"}
    (row,) = pairs(tmp_path / "store", source(path, columns=columns))
    assert (row["status"], row["caption"], row["source_key"]) == ("ok", "2.5", "7")


def test_an_error_names_a_mapped_column_that_is_not_unique(tmp_path: Path) -> None:
    urls = [pa.array(["http://a.example/1"]), pa.array(["http://a.example/2"])]
    pq.write_table(pa.table(urls, names=["url", "url"]), tmp_path / "l.parquet")
    with pytest.raises(RecipeError, match=r"l\.parquet has more than one column 'url'"):
        pairs(tmp_path / "store", source(tmp_path / "l.parquet", columns={"url": "url"}))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_error_names_a_file_in_another_encoding(
    tmp_path: Path, kind: str, encoding: str
) -> None:
    path = tmp_path / f"l.{kind}"
    path.write_bytes(CONTENTS[kind].decode().encode(encoding))
    with pytest.raises(StoreError, match=rf"l\.{kind} is encoded in UTF-16 .*iconv"):
        pairs(tmp_path / "store", source(path, format=kind))


def test_paths_outside_the_folder_of_the_list_are_dropped(tmp_path: Path) -> None:
    home = tmp_path / "set"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    (home / "sub" / "100%#1.jpg").write_bytes(jpeg())
    (home / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    names = [
        "sub/100%#1.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "link.jpg",
        str(home / "sub" / "100%#1.jpg"),
        "file:///etc/passwd",
        "",
    ]
    path = write(
        home / "list.parquet", [{"file": n, "caption": str(i)} for i, n in enumerate(names)]
    )
    rows = pairs(tmp_path / "store", source(path, columns={"path": "file", "caption": "caption"}))
    outside = "outside_folder"
    assert [r["reason"] for r in rows] == [None, *[outside] * 3, None, outside, "no_image"]
    assert rows[0]["location"] == rows[4]["location"] == f"{home}/sub/100%25%231.jpg"


def test_a_folder_gives_one_row_per_image_with_its_caption_file(tmp_path: Path) -> None:
    home = tmp_path / "set"
    (home / "b" / "c").mkdir(parents=True)
    for name in ("z.PNG", "b/1.jpg", "b/c/2.webp", "b/skip.svg", ".hidden.jpg"):
        (home / name).write_bytes(b"x")
    (home / "b" / "1.txt").write_text(" a flower\n")
    (tmp_path / "out.jpg").write_bytes(b"x")
    (home / "a.jpg").symlink_to(tmp_path / "out.jpg")
    (home / "loop").symlink_to(home)
    rows = pairs(tmp_path / "store", source(home, format="folder"), rows_per_fragment=2)
    assert [(r["source_key"], r["caption"], r["metadata"], r["reason"]) for r in rows] == [
        ("a.jpg", None, None, "outside_folder"),
        ("b/1.jpg", " a flower", '{"folder": "b"}', None),
        ("b/c/2.webp", None, '{"folder": "b/c"}', None),
        ("z.PNG", None, None, None),
    ]


def test_expected_hashes_must_be_sha256(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"url": "http://a.example/1", "h": "AB" * 32},
        {"url": "http://a.example/2", "h": "d41d8cd98f00b204e9800998ecf8427e"},
        {"url": "http://a.example/3", "h": None},
    ]
    path = write(tmp_path / "l.parquet", rows)
    stored_rows = pairs(tmp_path / "store", source(path, columns={"url": "url", "sha256": "h"}))
    assert [r["expected_sha256"] for r in stored_rows] == ["ab" * 32, None, None]
    assert [r["reason"] for r in stored_rows] == [None, "bad_row", None]


@pytest.mark.parametrize(
    "caption", ["cut \ud83d", "\ude00 cut", "\ude00\ud83d", "whole \U0001f600"]
)
@pytest.mark.parametrize("form", ["jsonl", "webdataset", "coco"])
def test_half_of_a_surrogate_pair_in_a_caption_is_noted(
    tmp_path: Path, caption: str, form: str
) -> None:
    """As in captions that a program cut in the middle of an emoji."""
    columns: dict[str, str] = {"caption": "text"}
    if form == "jsonl":
        content = json.dumps({"url": "http://a.example/1", "text": caption}).encode()
        columns["url"] = "url"
    elif form == "coco":
        content = json.dumps({"images": [{"file_name": "a.jpg", "text": caption}]}).encode()
    else:
        text = json.dumps({"text": caption}).encode()
        content = tar_of({"a.jpg": jpeg(1), "a.json": text})
    path = tmp_path / f"l.{form}"
    path.write_bytes(content)
    (row,) = pairs(tmp_path / "store", source(path, format=form, columns=columns))
    whole = caption.encode("utf-8", "replace").decode() == caption
    assert (row["caption"] == caption) == whole and row["status"] == "ok"
    noted = json.loads(row["metadata"] or "{}").get("unreadable", "")
    assert ("halves of surrogate pairs" in noted) != whole


@pytest.mark.parametrize("form", ["jsonl", "webdataset", "coco"])
def test_a_number_of_thousands_of_digits_is_named_as_that(tmp_path: Path, form: str) -> None:
    """Python's own words name a function of Python that would allow it."""
    number = b"7" * 5000
    content = {
        "jsonl": b'{"url": "http://a.example/1", "n": %s}\n{"url": "http://a.example/2"}' % number,
        "coco": b'{"images": [{"file_name": "a.jpg", "n": %s}, {"file_name": "b.jpg"}]}' % number,
        "webdataset": tar_of({"a.jpg": jpeg(1), "a.json": b'{"n": %s}' % number, "b.jpg": jpeg(2)}),
    }[form]
    (tmp_path / "l.list").write_bytes(content)
    columns = {"url": "url"} if form == "jsonl" else {}
    rows = pairs(tmp_path / "store", source(tmp_path / "l.list", format=form, columns=columns))
    notes = [json.loads(row["metadata"] or "{}").get("unreadable", "") for row in rows]
    odd = max(notes)
    assert len(rows) == 2 and min(notes) == ""
    assert "a number of thousands of digits" in odd and "sys." not in odd


def test_a_column_with_the_name_of_a_remark_is_kept(tmp_path: Path) -> None:
    lines = [{"url": "http://a.example/1", "caption": c, "unreadable": "mine"} for c in "\ud83dx"]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = pairs(tmp_path / "store", source(tmp_path / "l.jsonl", format="jsonl"))
    cut, whole = (json.loads(row["metadata"]) for row in rows)
    assert whole == {"unreadable": "mine"}
    assert cut[".unreadable"] == "mine" and "surrogate" in cut["unreadable"]


def test_columns_with_the_names_of_a_remark_and_of_what_was_moved_are_kept(tmp_path: Path) -> None:
    line = {"url": "http://a.example/1", "caption": "\ud83d", "unreadable": "a", ".unreadable": "b"}
    (tmp_path / "l.jsonl").write_text(json.dumps(line))
    (row,) = pairs(tmp_path / "store", source(tmp_path / "l.jsonl", format="jsonl"))
    kept = json.loads(row["metadata"])
    assert (kept[".unreadable"], kept["..unreadable"]) == ("b", "a")
