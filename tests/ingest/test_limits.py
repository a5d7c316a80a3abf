"""Limits of lists, at their last value and one beyond it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curation.media.files import tar
from curation.media.files.limits import BOXES, MEMBER_HEADER_BYTES
from curation.stages.ingest.formats import quoting, wat
from curation.stages.ingest.formats.values import BadTextError, boxes
from tests.ingest.helpers import jpeg, pairs, source, write_tar
from tests.ingest.test_presets import page
from tests.ingest.test_presets import wat as wat_of


def test_boxes_of_a_row() -> None:
    box = [0.1, 0.1, 0.2, 0.2]
    for value in ([box] * BOXES, json.dumps([box] * BOXES)):
        assert json.loads(boxes(value) or "") == [box] * BOXES
    for value in ([box] * (BOXES + 1), json.dumps([box] * (BOXES + 1))):
        with pytest.raises(BadTextError, match="1,001 boxes are more than 1,000"):
            boxes(value)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extended_headers_of_a_member(tmp_path: Path, kind: Any) -> None:
    """One beyond the limit costs its member; in the other the caption shows that it was read."""
    text = "x" * (MEMBER_HEADER_BYTES // 2)
    for name, size in (("within", len(text)), ("beyond", MEMBER_HEADER_BYTES)):
        path = tmp_path / f"{name}.tar"
        with tarfile.open(path, "w", format=kind) as file:
            info = tarfile.TarInfo(f"1.{'y' * size}" if kind == tarfile.GNU_FORMAT else "1.jpg")
            info.pax_headers = {"comment": "z" * size} if kind == tarfile.PAX_FORMAT else {}
            file.addfile(info)
            file.addfile(tarfile.TarInfo("2.txt"))
        with tar.open_tar(path.open("rb")) as opened:
            problems = [member.problem for member in tar.members(opened)]
        assert ("an extended header of" in problems[0]) == (name == "beyond"), problems
        assert len(problems) == 2 and not problems[1]


def test_members_of_a_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MEMBERS", 4)
    for count in (4, 5):
        path = write_tar(tmp_path / f"{count}.tar", {f"{n}.jpg": jpeg(n) for n in range(count)})
        store = tmp_path / f"store{count}"
        rows = pairs(store, source(path, format="webdataset"))
        bad = [row["metadata"] for row in rows if row["reason"] == "bad_row"]
        assert [row["status"] for row in rows].count("ok") == 4
        assert len(bad) == (count > 4)
        assert all("more than 4 members" in text for text in bad)


def test_lines_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    with path.open("wb") as file:
        for size in (4 * 2**20, 4 * 2**20 + 1):
            text = b'{"url": "http://a.example/%d", "caption": "c"}' % size
            file.write(text.replace(b" ", b" " * (size - len(text) + 1), 1) + b"\n")
    rows = pairs(tmp_path / "store", source(path, format="jsonl"))
    (bad,) = (row["metadata"] for row in rows if row["reason"] == "bad_row")
    assert "line 2: it is too long" in bad
    assert [row["url"] for row in rows if row["status"] == "ok"] == ["http://a.example/4194304"]


@pytest.mark.parametrize("reader", [quoting.doubled, quoting.backslash])
def test_rows_of_many_lines(monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    monkeypatch.setattr(quoting, "RECORD_CHARACTERS", 1_000)
    for more in (0, 1):
        # A line counts for 64 characters besides its text.
        texts = ['"' + "x" * (867 + more) + "\n", 'y"\n']
        lines = [quoting.Line(number, text) for number, text in enumerate(texts)]
        first, *_ = reader(quoting.Lines(lines), ",")
        assert ("a row has more than 1,000 characters" in first.problem) == bool(more)
        assert bool(first.fields) != bool(more)


def test_records_of_a_wat_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    within = page([{"path": "IMG@/src", "url": "1.jpg", "alt": "c"}])
    beyond = page([{"path": "IMG@/src", "url": "10.jpg", "alt": "c"}])
    monkeypatch.setattr(wat, "WAT_RECORD_BYTES", len(json.dumps(within)))
    path = tmp_path / "l.warc.wat.gz"
    path.write_bytes(wat_of(beyond, within))
    rows = pairs(tmp_path / "store", source(path, format="wat", columns={}))
    assert [row["url"] for row in rows if row["status"] == "ok"] == ["http://a.example/dir/1.jpg"]
    (bad,) = (row["metadata"] for row in rows if row["reason"] == "bad_row")
    assert "it is larger than" in bad
