"""Fetched rows are not requested again: the log of the server shows it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curation.engine.units import Chain
from curation.stages.fetch.units import chains
from curation.stages.ingest import group_by_host
from tests.fetch.conftest import HOSTS, Web, answer
from tests.fetch.helpers import OPEN, encoded, images, picture
from tests.ingest.helpers import run, source, table, write


@pytest.fixture
def listed(web: Web) -> list[dict[str, Any]]:
    """Rows of which one is missing (404) and one has a transient failure (500)."""
    rows = []
    for n in range(40):
        web.pages[f"/{n}.jpg"] = answer(encoded(picture(40 + n)))
        rows.append({"url": web.url(f"/{n}.jpg", HOSTS[n % 8]), "caption": f"c{n}"})
    web.pages["/3.jpg"] = answer(status="404 Not Found")
    web.pages["/4.jpg"] = answer(status="500 Oops")
    return rows


def asked(web: Web) -> set[str]:
    paths = {v.path for v in web.visits()}
    web.log.clear()
    return paths


def test_only_new_rows_of_a_longer_list_are_requested(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    path, store = tmp_path / "l.parquet", tmp_path / "store"
    write(path, listed[:25])
    before = {r["caption"]: r for r in images(store, source(path))}
    asked(web)
    write(path, listed[10:])
    after = {r["caption"]: r for r in images(store, source(path))}
    assert asked(web) == {f"/{n}.jpg" for n in range(25, 40)}
    assert len(after) == 40
    for n in range(10, 25):
        assert after[f"c{n}"] == before[f"c{n}"]
    assert {after[f"c{n}"]["reason"] for n in range(10)} == {"removed"}
    fresh = {r["caption"]: r for r in images(tmp_path / "fresh", source(path))}
    assert {c: r for c, r in after.items() if r["reason"] != "removed"} == fresh


def test_only_rows_of_a_new_list_of_a_source_are_requested(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    lists, store = tmp_path / "lists", tmp_path / "store"
    write(lists / "b.parquet", listed[:25])
    images(store, source(lists))
    asked(web)
    write(lists / "a.parquet", listed[20:])
    images(store, source(lists))
    assert asked(web) == {f"/{n}.jpg" for n in range(25, 40)}


@pytest.mark.parametrize("bucket_rows", [5, 1_500])
@pytest.mark.parametrize(
    "lists",
    [
        [{"a": range(20)}, {"b": range(21)}],
        [{"a": range(20)}, {"b": range(20)}, {"a": range(21)}],
        [{"a": range(20)}, {"b": range(20)}, {}, {"a": range(21)}],
        [{"a": range(8), "b": range(8, 20)}, {"c": range(20)}],
        [{"a": range(20)}, {"b": range(7), "c": range(7, 20)}],
        [{"a": range(10), "b": range(10, 20)}, {"a": range(1, 11), "b": [0, *range(11, 22)]}],
    ],
    ids=["renamed", "renamed and back", "ingest alone", "joined", "cut", "rows that moved"],
)
def test_rows_of_a_source_are_requested_once_whatever_its_lists_are_called(
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lists: list[dict[str, Sequence[int]]],
    bucket_rows: int,
) -> None:
    """Rows that failed for good (404) are rows like others, and need no decoder."""
    monkeypatch.setattr(group_by_host, "MIN_BUCKET_ROWS", bucket_rows)
    folder, store = tmp_path / "lists", tmp_path / "store"
    known = set[int]()
    for names in lists:
        if not names:
            run(store, source(folder), until="ingest")
            continue
        shutil.rmtree(folder, ignore_errors=True)
        for name, numbers in names.items():
            listed = [
                {"url": web.url(f"/{n}.jpg", HOSTS[n % 8]), "caption": f"c{n}"} for n in numbers
            ]
            write(folder / f"{name}.parquet", listed)
        rows = images(store, source(folder))
        of_lists = {n for of_list in names.values() for n in of_list}
        assert {int(Path(path).stem) for path in asked(web)} == of_lists - known
        known |= of_lists
        for name in ("pairs", "images"):
            # Stages read each fragment as a whole, and one without rows has no columns.
            assert all(fragment.rows for fragment in table(store, name).fragments.values())
        stand = {r["caption"] for r in rows if r["reason"] != "removed"}
        assert stand == {f"c{n}" for n in of_lists}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"timeout_s": 6.0}, {"/3.jpg", "/4.jpg"}),
        ({"per_host": {"concurrency": 3, "per_second": None}}, set()),
        ({"max_bytes": 2**20}, {"/3.jpg", "/4.jpg"}),
        ({"quality": 60}, {f"/{n}.jpg" for n in range(12)}),
        ({"opt_out": ["noai"]}, {f"/{n}.jpg" for n in range(12)}),
    ],
)
def test_parameters_that_change_no_image_retry_only_failures(
    web: Web,
    tmp_path: Path,
    listed: list[dict[str, Any]],
    change: dict[str, Any],
    again: set[str],
) -> None:
    path, store = write(tmp_path / "l.parquet", listed[:12]), tmp_path / "store"
    images(store, source(path))
    asked(web)
    images(store, source(path), **change)
    assert asked(web) == again


def test_transient_failures_are_retried_when_the_list_changes(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    path, store = tmp_path / "l.parquet", tmp_path / "store"
    write(path, listed[:12])
    images(store, source(path))
    asked(web)
    write(path, listed[:13])
    web.pages["/4.jpg"] = answer(encoded(picture(44)))
    rows = {r["caption"]: r for r in images(store, source(path))}
    assert asked(web) == {"/4.jpg", "/12.jpg"}
    assert rows["c4"]["status"] == "ok"
    assert rows["c3"]["reason"] == "http_404"
    stats = table(store, "images").manifest.stats
    assert stats["rows_kept"] == 11


def test_fragments_that_share_hosts_are_fetched_one_after_the_other(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]]
) -> None:
    """Two sources on the same hosts, with different numbers of buckets."""
    one = write(tmp_path / "one.parquet", listed[:8])
    two = write(tmp_path / "two.parquet", listed)
    sources = [source(one), source(two, name="other", role="seed")]
    run(tmp_path / "s", *sources, until="fetch", fetch=OPEN, ingest={"rows_per_fragment": 10})
    order = chains(table(tmp_path / "s", "pairs"))
    phases = {phase for phase, _ in order.values()}
    assert phases == {0, 2}


def test_rows_of_lists_that_name_files_too_share_their_hosts(
    web: Web, tmp_path: Path, listed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their fragments are not grouped by host, and several tasks may not ask one host."""
    (tmp_path / "a.jpg").write_bytes(encoded(picture()))
    rows = [{"path": "a.jpg", "url": None, "caption": f"f{n}"} for n in range(4)]
    # Hosts 0 and 1, 1 and 2, and 3 twice.
    rows += [{"path": None, **listed[n]} for n in (0, 1, 9, 2, 3, 11)]
    rows += [{"path": "a.jpg", **row} for row in listed[4:8]]
    path = write(tmp_path / "l.parquet", rows)
    columns = {"url": "url", "path": "path", "caption": "caption"}
    spec = source(path, columns=columns)
    run(tmp_path / "s", spec, until="fetch", fetch=OPEN, ingest={"rows_per_fragment": 2})
    pairs = table(tmp_path / "s", "pairs")
    order = chains(pairs)
    names = list(pairs.fragments)
    assert len(names) == 7 and list(order) == names[2:5]
    first, second, third = order.values()
    assert first == second != third and {chain.phase for chain in order.values()} == {-1}
    images_of = table(tmp_path / "s", "images").read(["reason"]).column(0).to_pylist()
    assert images_of == [None] * 8 + ["http_404"] + [None] * 5
    # Too many hosts are not noted, so each fragment may have any.
    monkeypatch.setattr(group_by_host, "NOTED_HOSTS", 1)
    run(tmp_path / "t", spec, until="ingest", ingest={"rows_per_fragment": 2})
    order = chains(table(tmp_path / "t", "pairs"))
    assert set(order.values()) == {Chain(-1, "all")} and len(order) == 3
