"""Rows that only mention what was taken down stay, and the store is proved clean all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.engine.table import open_table
from curation.runner.takedown.prove import prove
from curation.store.store import Store
from curation.store.url_hosts import is_address

from ..fetch.conftest import HOSTS, Web, answer
from ..fetch.helpers import OPEN, encoded, images, picture
from ..gc.helpers import gc
from ..ingest.helpers import run, source, write, write_tar
from .helpers import forget

GONE = "gone.example"
PAGE = f"https://{GONE}/page.html"
TEXTS = {
    "in words": f"a photograph, see {PAGE} for more",
    "behind words": f"from {PAGE}",
    "before words": f"{PAGE} is where it is from",
    "in quotes": f'"{PAGE}"',
    "JSON": json.dumps({"page": PAGE}),
}
NAMED: dict[str, dict[str, Any]] = {"host": {"hosts": [GONE]}, "url": {"urls": [PAGE]}}


def rows_of(store: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_table(Store(store), "images").read().to_pylist()
    return rows


def check_that_rows_stay(store: Path, *sources: dict[str, Any], **named: Any) -> dict[str, int]:
    """Take something down that no row is, and check that nothing changes, once and again.

    Returns:
        What `--prove` finds.
    """
    before = images(store, *sources)
    forget(store, **named)
    assert rows_of(store) == before
    for _ in range(2):
        assert images(store, *sources) == before
        did = run(store, *sources, until="fetch", fetch=OPEN)
        assert all(result.up_to_date for result in did.values())
        assert gc(store).left == {}
    return prove(Store(store)).left


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("text", TEXTS)
def test_captions_and_metadata_may_mention_it(
    web: Web, tmp_path: Path, text: str, named: str
) -> None:
    web.pages["/a.jpg"] = answer(encoded(picture()))
    row = {"url": web.url("/a.jpg"), "caption": TEXTS[text], "page": PAGE, "note": TEXTS[text]}
    path = write(tmp_path / "l.parquet", [row])
    assert check_that_rows_stay(tmp_path / "store", source(path), **NAMED[named]) == {}


@pytest.mark.parametrize("named", ["host", "url"])
def test_a_licence_of_another_host_may_stand_there(web: Web, tmp_path: Path, named: str) -> None:
    licence = web.url("/licence.xml", HOSTS[1])
    lines = f"User-agent: *\nAllow: /\nLicense: {licence}"
    web.pages[f"{HOSTS[0]}/robots.txt"] = answer(lines.encode())
    web.pages["/a.jpg"] = answer(encoded(picture()))
    rows = [{"url": web.url("/a.jpg", HOSTS[0]), "caption": "c"}]
    fields = {"hosts": [HOSTS[1]]} if named == "host" else {"urls": [licence]}
    path = write(tmp_path / "l.parquet", rows)
    assert check_that_rows_stay(tmp_path / "store", source(path), **fields) == {}
    assert rows_of(tmp_path / "store")[0]["rsl_license"] == licence


def test_an_opt_out_of_a_redirect_may_name_the_host(web: Web, tmp_path: Path) -> None:
    target = web.url("/a.jpg", HOSTS[1])
    web.pages["/moved.jpg"] = answer(b"", "302 Found", Location=target)
    web.pages["/a.jpg"] = answer(encoded(picture()), X_Robots_Tag="noai")
    rows = [{"url": web.url("/moved.jpg"), "caption": "c"}]
    path = write(tmp_path / "l.parquet", rows)
    assert check_that_rows_stay(tmp_path / "store", source(path), hosts=[HOSTS[1]]) == {}


def test_an_archive_may_be_on_the_host(web: Web, tmp_path: Path) -> None:
    """The recipe names it, so the descriptions of the tables that it makes do."""
    tar = write_tar(tmp_path / "pool.tar", {"1.jpg": encoded(picture()), "1.txt": b"c"})
    web.pages["/pool.tar"] = answer(tar.read_bytes())
    spec = source(web.url("/pool.tar", HOSTS[1]), format="webdataset")
    left = check_that_rows_stay(tmp_path / "store", spec, hosts=[HOSTS[1]])
    assert {path.split("/")[2] for path in left} <= {"versions", "done"}


@pytest.mark.parametrize("column", ["caption", "key"])
def test_a_caption_or_key_that_is_the_url_names_a_row_in_any_spelling(
    tmp_path: Path, column: str
) -> None:
    store, plain = tmp_path / "store", {"url": "http://127.0.0.1/a.jpg", "caption": "c", "key": "k"}
    path = write(tmp_path / "l.parquet", [plain])
    spec = source(path, columns={"url": "url", "caption": "caption", "key": "key"})
    run(store, spec)
    forget(store, urls=[PAGE])
    write(
        path,
        [
            plain,
            plain
            | {
                "url": "http://127.0.0.1/b.jpg",
                column: PAGE.upper().replace("PAGE.HTML", "%70age.html#top"),
            },
        ],
    )
    run(store, spec)
    rows = open_table(Store(store), "pairs").read().to_pylist()
    assert sorted(str(row["reason"]) for row in rows) == ["None", "forgotten"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example/x", True),
        (" HTTP://u@A.example:80?x\n", True),
        ("s3://bucket/key", True),
        ("see https://a.example/x", False),
        ("https://a.example/x and more", False),
        ('{"page":"https://a.example/x"}', False),
        ("no address", False),
        ("://a.example", False),
        ("https://", False),
    ],
)
def test_only_a_text_that_is_an_address_names_a_row(text: str, expected: bool) -> None:
    assert is_address(text) == expected
