"""Two pictures never share a pair_id, whatever keys a list brings and however they repeat."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages.ingest.formats import source_row
from tests.ingest.helpers import run, source, table, write

KEYS = (
    st.sampled_from(
        [
            "1",
            "01",
            " 1",
            "1\n",
            "a/b",
            "a#b",
            "a%23b",
            "é",
            "e\u0301",
            "😀",
            "img/0",
            "file:0.parquet",
        ]
        + ["path:0-0.jpg", "row 1", "member:0.tar#0.jpg", "null", "None", "0", "-1", '["web"]']
    )
    | st.none()
)
"""Keys with odd characters, and keys that look like what the product makes itself."""
DAYS = st.lists(
    st.lists(st.tuples(KEYS, st.sampled_from(["c", None])), min_size=1, max_size=5),
    min_size=1,
    max_size=3,
)
Row = tuple[str | None, str | None]
Day = Sequence[Row]


def inline(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write images in a column, with keys."""
    write(
        folder / f"{day}.parquet",
        [{"k": k, "c": c, "img": f"picture {day} {n}".encode()} for n, (k, c) in enumerate(rows)],
    )
    columns = {"image": "img", "key": "k", "caption": "c"}
    return source(folder, columns=columns)


def inline_and_url(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write images in a column, with URLs that repeat."""
    listed = [
        {"u": "http://h.example/" + (k or ""), "c": c, "img": f"picture {day} {n}".encode()}
        for n, (k, c) in enumerate(rows)
    ]
    write(folder / f"{day}.parquet", listed)
    return source(folder, columns={"image": "img", "url": "u", "caption": "c"})


def paths(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write a list of files, with keys."""
    listed = []
    for n, (k, c) in enumerate(rows):
        (folder / f"{day}-{n}.jpg").write_bytes(f"picture {day} {n}".encode())
        listed.append({"k": k, "c": c, "p": f"{day}-{n}.jpg"})
    write(folder / f"{day}.parquet", listed)
    return source(folder, columns={"path": "p", "key": "k", "caption": "c"})


def urls(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write a list of URLs, with keys."""
    listed = [{"u": f"http://h.example/{day}/{n}", "k": k, "c": c} for n, (k, c) in enumerate(rows)]
    write(folder / f"{day}.parquet", listed)
    return source(folder, columns={"url": "u", "key": "k", "caption": "c"})


def tars(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write a tar; the names of its members are those of every other one."""
    with tarfile.open(folder / f"{day}.tar", "w") as tar:
        for n in range(len(rows)):
            content = f"picture {day} {n}".encode()
            member = tarfile.TarInfo(f"{n}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return source(folder, format="webdataset")


def files(folder: Path, day: int, rows: Day) -> dict[str, Any]:
    """Write image files; their names are those of every other folder."""
    (folder / str(day)).mkdir()
    for n in range(len(rows)):
        (folder / str(day) / f"{n}.jpg").write_bytes(f"picture {day} {n}".encode())
    return source(folder, format="folder")


@pytest.mark.parametrize("form", [inline, inline_and_url, paths, urls, tars, files])
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(days=DAYS)
def test_no_two_pictures_share_an_identity(
    form: Callable[[Path, int, Day], dict[str, Any]], days: list[list[Row]]
) -> None:
    with TemporaryDirectory() as name:
        folder, before = Path(name), set[str]()
        (folder / "web").mkdir()
        for day, rows in enumerate(days):
            spec = form(folder / "web", day, rows)
            run(folder / "store", spec)
            stored_rows = table(folder / "store", "pairs").read().to_pylist()
            pictures = sum(map(len, days[: day + 1]))
            assert [r["status"] for r in stored_rows] == ["ok"] * pictures
            ids = {r["pair_id"] for r in stored_rows}
            assert len(ids) == pictures
            # What was listed before keeps its identity.
            assert before <= ids
            before = ids
            if "key" in spec.get("columns", {}):
                listed = [k for rows in days[: day + 1] for k, _ in rows]
                assert sorted(map(str, listed)) == sorted(str(r["source_key"]) for r in stored_rows)


def test_a_picture_that_is_listed_twice_is_one_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    rows = [{"p": "a.jpg", "k": "1"}, {"p": "./a.jpg", "k": "1"}, {"p": "a.jpg", "k": "2"}]
    path = write(tmp_path / "l.parquet", rows)
    run(tmp_path / "store", source(path, columns={"path": "p", "key": "k"}))
    stored_rows = table(tmp_path / "store", "pairs").read().to_pylist()
    assert [r["reason"] for r in stored_rows] == [None, "duplicate_pair", None]


def test_a_path_with_a_link_and_dots_is_another_path(tmp_path: Path) -> None:
    """`link/../a.jpg` is the file beside the folder that the link leads to."""
    for name in ("web/deep", "web/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "web" / "x" / "link").symlink_to("../deep/", target_is_directory=True)
    (tmp_path / "web" / "a.jpg").write_bytes(b"one")
    (tmp_path / "web" / "x" / "a.jpg").write_bytes(b"two")
    path = write(tmp_path / "web" / "l.parquet", [{"p": "x/link/../a.jpg"}, {"p": "x/a.jpg"}])
    run(tmp_path / "store", source(path, columns={"path": "p"}))
    rows = table(tmp_path / "store", "pairs").read().to_pylist()
    assert [r["status"] for r in rows] == ["ok", "ok"]
    assert len({r["location"] for r in rows}) == len({r["pair_id"] for r in rows}) == 2


def test_a_file_of_more_pictures_than_can_be_told_apart_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of a Parquet file may be millions of rows with the same picture."""
    monkeypatch.setattr(source_row, "PICTURES", 3)
    (tmp_path / "web").mkdir()
    spec = inline(tmp_path / "web", 0, [("a", "c"), ("b", "c"), ("a", "c"), ("d", "c"), ("e", "c")])
    run(tmp_path / "store", spec)
    rows = table(tmp_path / "store", "pairs").read().to_pylist()
    assert sorted(str(r["reason"]) for r in rows) == ["None"] * 4 + ["bad_row"]
    assert len({r["pair_id"] for r in rows}) == 5
    (bad,) = (r["metadata"] for r in rows if r["reason"] == "bad_row")
    assert "one file holds more than 3 pictures; split it" in bad
