"""Rows that an earlier run fetched are reused only where this run would give the same rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from curation.media.pictures.formats import pillow_formats
from curation.media.pictures.plug_ins import PLUG_INS
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN, encoded, picture
from tests.ingest.helpers import run, source, table, write

PLAIN = encoded(picture(40))
OTHER = encoded(picture(44))


@pytest.fixture
def listed(web: Web, tmp_path: Path) -> Path:
    """A list of an image, one that is redirected twice, one for few robots, and one that is missing."""
    web.pages["/plain.jpg"] = web.pages["/kept.jpg"] = answer(PLAIN)
    web.pages["/end.jpg"] = answer(OTHER)
    first, second = web.url("/moved.jpg", "127.0.0.3"), web.url("/end.jpg", "127.0.0.4")
    web.pages["/start.jpg"] = answer(status="302 Found", Location=first)
    web.pages["/moved.jpg"] = answer(status="302 Found", Location=second)
    web.pages["127.0.0.5/robots.txt"] = answer(b"User-agent: shy\nDisallow: /\n")
    urls = [
        web.url("/plain.jpg"),
        web.url("/start.jpg", "127.0.0.2"),
        web.url("/kept.jpg", "127.0.0.5"),
        web.url("/none.jpg"),
    ]
    (tmp_path / "blocked.txt").write_text("none.example\n")
    return write(tmp_path / "l.parquet", [{"url": url, "caption": url[-9:]} for url in urls])


def rows(store: Path, path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `images`."""
    ingest = {"blocked_domains": str(path.parent / "blocked.txt")}
    ingest |= {k: v for k, v in settings.items() if k == "blocked_patterns"}
    if "blocked" in settings:
        (path.parent / "blocked.txt").write_text(settings["blocked"])
    fetch = {k: v for k, v in settings.items() if k not in ("blocked", "blocked_patterns")}
    run(store, source(path), until="fetch", ingest=ingest, fetch=OPEN | fetch)
    rows: list[dict[str, Any]] = table(store, "images").read().to_pylist()
    return rows


CHANGES: dict[str, tuple[dict[str, Any], str | None, set[str]]] = {
    "the end of redirects is blocked": (
        {"blocked": "127.0.0.4\n"},
        "blocked_domain",
        {"/start.jpg", "/moved.jpg", "/none.jpg"},
    ),
    "the way is blocked": (
        {"blocked": "127.0.0.3\n"},
        "blocked_domain",
        {"/start.jpg", "/none.jpg"},
    ),
    "a pattern blocks": (
        {"blocked_patterns": ["/end"]},
        "blocked_pattern",
        {"/start.jpg", "/moved.jpg", "/none.jpg"},
    ),
    "fewer redirects": (
        {"max_redirects": 1},
        "too_many_redirects",
        {"/start.jpg", "/moved.jpg", "/none.jpg"},
    ),
    "fewer hosts": (
        {"allow_hosts": ["127.0.0.1", "127.0.0.2", "127.0.0.4", "127.0.0.5"]},
        "private_address",
        {"/plain.jpg", "/start.jpg", "/kept.jpg", "/none.jpg"},
    ),
    "another name": (
        {"user_agent": "shy/1.0"},
        None,
        {"/plain.jpg", "/start.jpg", "/moved.jpg", "/end.jpg", "/none.jpg"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_steers_fetching_counts(web: Web, tmp_path: Path, listed: Path, change: str) -> None:
    settings, reason, requested = CHANGES[change]
    store = tmp_path / "store"
    before = rows(store, listed, {})
    assert [r["status"] for r in before] == ["ok", "ok", "ok", "failed"]
    web.log.clear()
    after = rows(store, listed, settings)
    assert {v.path for v in web.visits()} == requested
    assert after == rows(tmp_path / "fresh", listed, settings)
    moved = {r["caption"]: r for r in after}["start.jpg"]
    assert moved["reason"] == reason
    # And back, also where the file of blocked domains has the same name.
    assert rows(store, listed, {"blocked": "none.example\n"}) == before


@pytest.mark.parametrize("kind", PLUG_INS)
def test_pictures_of_a_format_that_is_no_longer_read_are_not_reused(
    web: Web, tmp_path: Path, kind: str
) -> None:
    pytest.importorskip(PLUG_INS[kind].module)
    pillow_formats((kind,))
    web.pages["/a"] = answer(encoded(picture(), PLUG_INS[kind].name))
    web.pages["/b"] = answer(PLAIN)
    listed = [{"url": web.url(path), "caption": path} for path in ("/a", "/b")]
    path = write(tmp_path / "l.parquet", listed)
    (tmp_path / "blocked.txt").write_text("none.example\n")
    store = tmp_path / "store"
    before = rows(store, path, {"formats": [kind]})
    assert [row["format"] for row in before] == [kind, "jpeg"]
    web.log.clear()
    after = rows(store, path, {})
    assert [row["reason"] for row in after] == [f"format_{kind}", None]
    assert {visit.path for visit in web.visits()} == {"/a"}
    assert after == rows(tmp_path / "fresh", path, {})
    assert rows(store, path, {"formats": [kind]}) == before


def test_the_url_that_gave_the_bytes_is_recorded(web: Web, tmp_path: Path, listed: Path) -> None:
    final_urls = {r["caption"]: r["final_url"] for r in rows(tmp_path / "store", listed, {})}
    assert final_urls == {
        "plain.jpg": web.url("/plain.jpg"),
        "start.jpg": web.url("/end.jpg", "127.0.0.4"),
        "/kept.jpg": web.url("/kept.jpg", "127.0.0.5"),
        "/none.jpg": None,
    }


GOOD, BAD = hashlib.sha256(PLAIN).hexdigest(), "0" * 64


@pytest.mark.parametrize("before", [None, GOOD, BAD])
@pytest.mark.parametrize("after", [None, GOOD, BAD])
def test_an_expected_checksum_counts(
    web: Web, tmp_path: Path, before: str | None, after: str | None
) -> None:
    web.pages["/a.jpg"] = answer(PLAIN)
    spec = source(tmp_path / "l.parquet", columns={"url": "url", "sha256": "h"})

    def fetched(store: Path, expected: str | None) -> list[dict[str, Any]]:
        # The second row changes the fragment.
        other = web.url(f"/{expected}.jpg")
        rows = [{"url": web.url("/a.jpg"), "h": expected}, {"url": other, "h": None}]
        write(tmp_path / "l.parquet", rows)
        run(store, spec, until="fetch", fetch=OPEN)
        images: list[dict[str, Any]] = table(store, "images").read().to_pylist()
        return [row for row in images if "/a.jpg" in row["url"] and row["reason"] != "removed"]

    fetched(tmp_path / "store", before)
    web.requests.clear()
    images = fetched(tmp_path / "store", after)
    (row,) = images
    assert row["reason"] == ("sha256_mismatch" if after == BAD else None)
    assert web.requests["/a.jpg"] == int((before == BAD) != (after == BAD))
    assert images == fetched(tmp_path / "fresh", after)


SLOW = {"per_second": 0.5, "concurrency": 1}
"""Slower than the patience of the tests."""


@pytest.mark.parametrize(
    "change",
    [
        {"contact": "others@curation.example"},
        {"concurrency": 1},
        {"per_host": {"concurrency": 1, "per_second": 50}},
        {"per_host": SLOW, "patience_s": 1.0},
    ],
    ids=str,
)
def test_how_hosts_are_treated_changes_no_row(
    tmp_path: Path, listed: Path, change: dict[str, Any]
) -> None:
    plain = {"patience_s": change["patience_s"]} if "patience_s" in change else {}
    before = rows(tmp_path / "store", listed, plain)
    assert rows(tmp_path / "other", listed, change) == before
    assert [r["status"] for r in before] == ["ok", "ok", "ok", "failed"]
