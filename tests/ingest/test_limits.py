"""Limits of lists, at their last value and one beyond it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curation.media.files import tar
from curation.media.files.limits import BOXES, MEMBER_HEADER_BYTES
from curation.stages.ingest.formats.values import BadTextError, boxes
from tests.ingest.helpers import jpeg, pairs, source, write_tar


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
