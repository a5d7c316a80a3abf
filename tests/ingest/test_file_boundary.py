"""Whatever stands in a row, a member or a file costs itself, and says why."""

from __future__ import annotations

import errno
import gzip
import io
import json
import lzma
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import StoreError
from curation.media.files import location
from curation.media.files.location import FileSystemError
from curation.media.web.urls import UrlRules
from curation.stages.ingest.formats import boundary, jsonl, parquet, quoting, source_row
from curation.stages.ingest.formats.boundary import FileBoundary
from curation.stages.ingest.formats.quoting import Line, Lines, doubled
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.sources import FORMATS, source_file
from curation.stages.ingest.sources.listing import source_files
from curation.stages.ingest.sources.source import Source
from curation.stages.ingest.sources.source_file import SourceFile
from tests.ingest.helpers import jpeg, noted, pairs, source, tar_of, write
from tests.ingest.test_presets import page, wat

MARKS = {"csv": b",", "tsv": b"\t"}
GOOD = b'{"url": "http://a.example/1", "caption": "c"}\n'


def nested(depth: int) -> bytes:
    return b'{"url": "http://a.example/2", "more": ' + b"[" * depth + b"]" * depth + b"}\n"


ODD_LINES = {
    "nested": nested(100_000),
    "nested as deep as may be read": nested(480),
    "a large integer": b'{"url": "http://a.example/2", "n": %s}\n' % (b"9" * 5000),
    "boxes of large integers": b'{"url": "u", "faces": [[%s, 0, 1, 1]]}\n' % (b"9" * 400),
    "many boxes": b'{"url": "u", "faces": [%s[0,0,1,1]]}\n' % (b"[0,0,1,1]," * 2000),
    "a key twice": b'{"url": "u", "%s": 1, "%s": 2}\n' % (b"k" * 5000, b"k" * 5000),
    "surrogates": b'{"url": "\\ud800", "caption": "\\udfff\\ud800"}\n',
    "infinity": b'{"url": 1e400, "caption": -Infinity, "n": NaN}\n',
    "a long caption": b'{"url": "u", "caption": "%s"}\n' % (b"x" * 200_000),
    "a host that is none": b'{"url": "http://[]@"}\n',
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_an_odd_row_costs_itself(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(GOOD + ODD_LINES[kind] + GOOD)
    columns = {"url": "url", "caption": "caption"}
    if "faces" in ODD_LINES[kind].decode():
        columns["faces"] = "faces"
        path.write_bytes(GOOD.replace(b"}", b', "faces": null}') + ODD_LINES[kind] + GOOD)
    rows = pairs(tmp_path / "store", source(path, format="jsonl", columns=columns))
    good = [row["reason"] for row in rows if row["url"] == "http://a.example/1"]
    assert sorted(map(str, good)) == ["None", "duplicate_url"]
    (odd,) = (row for row in rows if row["url"] != "http://a.example/1")
    message = json.loads(odd["metadata"] or "{}").get("unreadable", "")
    assert len(message) < 500
    assert odd["reason"] in ("bad_row", "bad_url", "bad_scheme", None)
    assert odd["reason"] != "bad_row" or "line 2" in message


TEXTS = st.none() | st.text(
    st.characters() | st.sampled_from("\ud800\udfff\udc80\0/:#%"), max_size=8
)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), max_size=4), st.booleans())
def test_rows_with_any_text_are_staged(rows: list[tuple[str | None, ...]], bad: bool) -> None:
    file = SourceFile(Source(name="s", role="pool", format="txt", path="/x/l"), "/x", "l", 1, 1)
    made = [
        SourceRow(
            url=u and f"http://h.example/{u}",
            caption=c,
            key=k,
            where=w or "",
            bad=bad,
            unreadable=n,
        )
        for u, c, k, w, n in rows
    ]
    staged = list(source_row.stage_rows(file, made, UrlRules()))
    assert sum(batch.num_rows for batch in staged) == len(rows)
    for batch in staged:
        batch.validate(full=True)


def test_a_page_whose_address_is_no_unicode_costs_itself(tmp_path: Path) -> None:
    link = {"path": "IMG@/src", "url": "\udfffa.jpg", "alt": "\ud800"}
    pages = [page([link, {**link, "url": "http://a.example/1.jpg"}]) for _ in range(2)]
    pages[1]["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"] = "http://p.example/\ud800/b/c"
    (tmp_path / "l.wat").write_bytes(wat(*pages))
    found = pairs(tmp_path / "store", source(tmp_path / "l.wat", format="wat", columns={}))
    assert len(found) == 4
    assert Counter(row["reason"] for row in found) == {None: 3, "duplicate_url": 1}


def test_an_error_of_any_kind_is_the_reason_of_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = UrlRules.check

    def failing(rules: UrlRules, url: str) -> tuple[str | None, str | None]:
        if url.endswith("/2"):
            raise KeyError("k" * 5000)
        return check(rules, url)

    monkeypatch.setattr(UrlRules, "check", failing)
    rows = [{"url": f"http://a.example/{i}", "caption": "c"} for i in range(4)]
    stored_rows = pairs(tmp_path / "store", source(write(tmp_path / "l.parquet", rows)))
    (bad,) = (row for row in stored_rows if row["reason"])
    assert len(stored_rows) == 4 and bad["reason"] == "bad_row"
    message = json.loads(bad["metadata"])["unreadable"]
    assert "KeyError" in message and len(message) < 500


def test_a_reader_that_fails_costs_the_rest_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(file: SourceFile) -> Iterator[SourceRow]:
        yield SourceRow(url="http://a.example/1")
        raise RuntimeError("odd")

    (tmp_path / "l.jsonl").write_bytes(GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "read", failing)
        rows = pairs(tmp_path / "s1", source(tmp_path, format="jsonl"))
    good, bad = sorted(rows, key=lambda row: str(row["reason"]))
    assert (good["reason"], bad["reason"]) == (None, "bad_row")
    assert "RuntimeError: odd" in bad["metadata"]
    assert noted(tmp_path / "s1")["unreadable_file"] == 1


def test_a_file_system_that_fails_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(file: SourceFile) -> Iterator[SourceRow]:
        yield SourceRow(url="http://a.example/1")
        raise FileSystemError(5, "the disk has failed")

    (tmp_path / "l.jsonl").write_bytes(GOOD)
    monkeypatch.setattr(jsonl, "read", failing)
    with pytest.raises(StoreError, match="the disk has failed"):
        pairs(tmp_path / "store", source(tmp_path, format="jsonl"))


def test_of_several_files_the_damaged_cost_themselves(tmp_path: Path) -> None:
    folder = tmp_path / "l"
    rows = [{"url": f"http://a.example/{i}", "caption": "c"} for i in range(3)]
    whole = write(folder / "a.parquet", rows).read_bytes()
    (folder / "b.parquet").write_bytes(whole[:-20])
    (folder / "c.parquet").write_bytes(b"PAR1")
    (folder / "d.parquet").write_bytes(b"")
    stored_rows = pairs(tmp_path / "store", source(folder))
    assert Counter(row["reason"] for row in stored_rows) == {None: 3, "bad_row": 3}
    assert noted(tmp_path / "store")["unreadable_file"] == 3
    (folder / "a.parquet").unlink()
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        pairs(tmp_path / "store", source(folder))


def test_a_file_has_no_more_rows_than_its_size_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "ROWS", 100)
    urls = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000), pa.array(["http://a.example/1"]))
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table({"url": urls, "caption": urls}), path)
    rows = pairs(tmp_path / "store", source(path))
    assert len(rows) == 100 + path.stat().st_size + 1
    (bad,) = (row for row in rows if row["reason"] == "bad_row")
    assert "more than" in bad["metadata"]


def test_a_file_has_no_more_text_than_its_size_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundary, "EXPANSION_BYTES", 1000)
    monkeypatch.setattr(boundary, "EXPANSION_RATIO", 2)
    path = tmp_path / "l.txt.gz"
    path.write_bytes(gzip.compress(b"http://a.example/1\n" * 1000))
    rows = pairs(tmp_path / "store", source(path, format="txt", columns={}))
    (bad,) = (row for row in rows if row["reason"] == "bad_row")
    assert 40 < len(rows) < 100 and "of text" in bad["metadata"]


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl"])
def test_a_line_without_an_end_is_not_read_to_the_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"l.{kind}"
    head = {"txt": b"http://a.example/1\n", "jsonl": GOOD}
    table = b"url,caption\nhttp://a.example/1,c\n".replace(b",", MARKS.get(kind, b","))
    path.write_bytes(head.get(kind, table))
    # A download that reserves its place leaves zeros, which take no room: here a TiB.
    os.truncate(path, 1 << 40)
    columns = {} if kind == "txt" else {"columns": {"url": "url"}}
    start = time.monotonic()
    rows = pairs(tmp_path / "store", source(path, **{"format": kind, "columns": {}} | columns))
    assert time.monotonic() - start < 60
    assert [row["url"] for row in rows] == ["http://a.example/1", None]
    assert "a line of more than" in rows[1]["metadata"] and rows[1]["reason"] == "bad_row"
    assert noted(tmp_path / "store") == {"unreadable_file": 1}


HOLED = {
    "coco": b'{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_na',
    "wat": b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 999999999999\r\n\r\n",
}
"""What stands before the holes of a file whose download was not finished."""


@pytest.mark.parametrize("kind", HOLED)
@pytest.mark.parametrize("compression", ["", "xz"])
def test_holes_of_a_file_are_not_read_to_the_end(
    tmp_path: Path, kind: str, compression: str
) -> None:
    path = tmp_path / "l.json"
    path.write_bytes(lzma.compress(HOLED[kind]) if compression else HOLED[kind])
    os.truncate(path, 1 << 40)
    start = time.monotonic()
    (file,) = source_files(Source(name="s", role="pool", format=kind, path=str(path)), 100)
    items = FileBoundary(file).items(FORMATS.load(kind).read(file))
    rows = [item for item in items if isinstance(item, SourceRow)]
    assert time.monotonic() - start < 60
    assert [row.path for row in rows] == [*(["a.jpg"] if kind == "coco" else []), None]
    assert "has holes" in (rows[-1].unreadable or "")


def test_holes_of_a_file_allow_no_more_lines(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_bytes(gzip.compress(b"\n" * (12 << 20) + b"http://a.example/1\n"))
    os.truncate(path, 1 << 40)
    with pytest.raises(StoreError, match="too many for its size"):
        pairs(tmp_path / "store", source(path, format="txt", columns={}))


@pytest.mark.parametrize("form", ["webdataset", "img2dataset"])
@pytest.mark.parametrize("padding", [10_240, 1 << 19, 1 << 40])
def test_zeros_after_a_tar_are_padding_or_a_download_that_was_not_finished(
    tmp_path: Path, form: str, padding: int
) -> None:
    path = tmp_path / "l" / "0.tar"
    path.parent.mkdir()
    path.write_bytes(tar_of({"1.jpg": jpeg()}).rstrip(b"\0").ljust(512 * 6, b"\0"))
    size = path.stat().st_size
    os.truncate(path, size + padding)
    if form == "img2dataset":
        row = {"key": "1", "url": "u", "caption": "c", "status": "success", "error_message": None}
        write(path.with_suffix(".parquet"), [row])
    rows = pairs(tmp_path / "store", source(path.parent, format=form, columns={}))
    bad = [row["metadata"] for row in rows if row["reason"] == "bad_row"]
    assert [row["status"] for row in rows].count("ok") == 1
    assert len(bad) == noted(tmp_path / "store").get("unreadable_file", 0) == (padding > 1 << 20)
    assert all("zeros follow: its download was not finished" in text for text in bad)


def test_rows_of_much_text_are_staged_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_row, "BATCH_BYTES", 4000)
    rows = [SourceRow(url="u", size=300) for _ in range(10)]
    assert [len(chunk) for chunk in source_row._chunks(rows)] == [4, 4, 2]


def test_nested_values_take_a_multiple_of_what_their_pages_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.parquet"
    rows = [{"url": f"https://a.example/{n}", "boxes": [{"x": n, "y": [n]}]} for n in range(6)]
    write(path, rows)
    listed = source(path, columns={"url": "url"})
    assert [row["reason"] for row in pairs(tmp_path / "whole", listed)] == [None] * 6
    monkeypatch.setattr(parquet, "VALUES_RATIO", 0)
    with pytest.raises(StoreError, match="its nested values take more than 0 bytes"):
        pairs(tmp_path / "small", listed)


def test_rows_that_fail_one_after_another_are_not_read_again_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quoting, "HEAD_CHARACTERS", 0)
    monkeypatch.setattr(quoting, "REREAD_RATIO", 3)
    monkeypatch.setattr(quoting, "RECORD_CHARACTERS", 20_000)
    read: list[int] = []

    def lines() -> Iterator[Line]:
        for number in range(3000):
            read.append(number)
            yield Line(number, 'a",x"y,"\n')

    source_lines = Lines(lines())
    records = list(doubled(source_lines, ","))
    assert len(records) == 3000 == len(read)
    assert [record.line.number for record in records] == list(range(3000))
    assert all(record.problem for record in records)
    assert any("too many of the file were read again" in r.problem for r in records)


def test_a_header_of_many_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("url,caption," + "x," * 3000 + "\nhttp://a.example/1,c\n")
    with pytest.raises(StoreError, match=r"has 3,003 columns, more than 2,000"):
        pairs(tmp_path / "store", source(path, format="csv"))


def test_an_error_about_columns_is_short(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(",".join(f"{'c' * 1000}{i}" for i in range(1500)) + "\nx\n")
    with pytest.raises(Exception, match="1,470 others") as error:
        pairs(tmp_path / "store", source(path, format="csv"))
    assert len(str(error.value)) < 15_000


class _Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, "the disk has failed")


@pytest.mark.parametrize("form", ["csv", "jsonl", "txt", "webdataset", "parquet", "coco"])
def test_a_file_that_this_user_may_not_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def denied(path: str, follow_links: bool = True) -> pa.NativeFile:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(source_file, "open_local", denied)
    (tmp_path / "l.list").write_bytes(GOOD)
    columns = {} if form in ("txt", "webdataset", "coco") else {"url": "url"}
    spec = source(tmp_path / "l.list", format=form, columns=columns)
    with pytest.raises(StoreError, match=r"l\.list cannot be read .*Give this user the right"):
        pairs(tmp_path / "store", spec)


@pytest.mark.parametrize("fails", ["open", "read"])
@pytest.mark.parametrize("name", ["a.txt", "a.json", "b.unknown"])
def test_a_file_system_that_fails_costs_a_folder_no_caption_and_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fails: str
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for other in ("a.jpg", "b.unknown"):
        (folder / other).write_bytes(jpeg())
    (folder / "a.txt").write_text("words")
    (folder / "a.json").write_text('{"k": 1}')
    opened = location.open_local

    def failing(path: str, follow_links: bool = True) -> pa.NativeFile:
        if path != str(folder / name):
            return opened(path, follow_links)
        if fails == "open":
            raise OSError(errno.ESTALE, "the disk has failed")
        return location._watched(_Broken())

    spec = source(folder, format="folder")
    with monkeypatch.context() as patch:
        patch.setattr(source_file, "open_local", failing)
        with pytest.raises(StoreError, match="the disk has failed"):
            pairs(tmp_path / "store", spec)
    rows = {row["source_key"]: row for row in pairs(tmp_path / "store", spec)}
    assert rows.keys() == {"a.jpg", "b.unknown"}
    assert (rows["a.jpg"]["caption"], rows["a.jpg"]["metadata"]) == ("words", '{"k": 1}')


def test_a_file_that_may_not_be_read_is_counted_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "l").mkdir()
    for name in ("a.jpg", "b.unknown", "b.txt"):
        (tmp_path / "l" / name).write_bytes(jpeg())
    opened = location.open_local

    def forbidden(path: str, follow_links: bool = True) -> pa.NativeFile:
        if path.endswith("b.unknown"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, follow_links)

    monkeypatch.setattr(source_file, "open_local", forbidden)
    (row,) = pairs(tmp_path / "store", source(tmp_path / "l", format="folder"))
    assert row["source_key"] == "a.jpg"
    assert noted(tmp_path / "store") == {"unreadable_file": 1, "other_file": 1}
