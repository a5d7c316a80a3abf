"""Sources at http addresses are read from any server, by the policy of all requests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError, StoreError
from curation.media.files.web_file import WebFile, WebFileError
from curation.recipe import parse_recipe
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import OPEN
from tests.fetch.web_lists import (
    JPEG,
    LIST,
    LISTS,
    URLS,
    listed,
    of_parquet,
    ranged,
    redirect,
    unsized,
)
from tests.ingest.helpers import run, source, table

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.mark.parametrize("serve", [ranged, answer, unsized])
@pytest.mark.parametrize("kind", LISTS)
def test_a_source_is_read_from_any_server(tmp_path: Path, web: Web, kind: str, serve: Any) -> None:
    web.pages["/list"] = serve(LISTS[kind][0])
    rows = listed(tmp_path / "store", web.url("/list"), kind)
    assert [r["status"] for r in rows] == ["ok"] * 3
    if kind != "webdataset":
        assert sorted(r["url"] for r in rows) == URLS
    assert {h["user-agent"] for h in web.headers} == {"curation/0.1 (+tests@curation.example)"}
    assert web.visits(robots=True)[0].path == "/robots.txt"


def test_parts_are_requested_and_not_the_whole(web: Web, tmp_path: Path) -> None:
    table = pa.table({"url": URLS * 100_000, "n": range(300_000)})
    out = io.BytesIO()
    pq.write_table(table, out, compression="none", use_dictionary=False)
    web.pages["/big"] = ranged(out.getvalue(), ETag='"1"')
    params = parse_recipe({"name": "t", "sources": [source("x")], "fetch": OPEN}).fetch
    with WebFile(web.url("/big"), params) as file:
        assert file.size == len(out.getvalue()) and file.version
        read = pq.ParquetFile(pa.PythonFile(io.BufferedReader(file), mode="r"))
        assert read.read(["n"]).column(0).to_pylist() == list(range(300_000))
    ranges = [h["range"].removeprefix("bytes=").split("-") for h in web.headers]
    sizes = [int(end) - int(start) + 1 for start, end in ranges]
    assert sum(sizes) < len(out.getvalue()) / 2
    assert max(sizes) == 2 * 2**20


@pytest.mark.parametrize("serve", [answer, unsized])
def test_a_file_of_a_server_without_parts_is_copied_up_to_a_limit(web: Web, serve: Any) -> None:
    web.pages = {f"/{size}": serve(b"x" * size) for size in (2**20, 2**20 + 1)}
    params = parse_recipe({"name": "t", "sources": [source("x")], "fetch": OPEN}).fetch
    with WebFile(web.url(f"/{2**20}"), params) as file:
        assert len(file.read()) == file.size == 2**20
    with (
        pytest.raises(WebFileError, match="its server gives no parts of files"),
        WebFile(web.url(f"/{2**20 + 1}"), params) as file,
    ):
        file.read()


@pytest.fixture
def with_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    """An environment that names a proxy and holds a password for every host."""
    proxy = Web()
    (tmp_path / "netrc").write_text("default login u password S3CR3T\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    yield proxy


def test_neither_proxies_nor_credentials_nor_cookies_are_sent(
    tmp_path: Path, web: Web, with_credentials: Web
) -> None:
    moved = redirect(web.url("/list", "127.0.0.2"), Set_Cookie="id=1; Path=/; Domain=127.0.0.2")
    web.pages = {"/moved": moved, "/list": answer(b"\n".join([web.url("/p").encode()]))}
    web.pages["/p"] = redirect(web.url("/q", "127.0.0.2"), Set_Cookie="id=1; Path=/")
    web.pages["/q"] = answer(JPEG, Set_Cookie="id=2")
    spec = source(web.url("/moved"), format="txt", columns={})
    run(tmp_path / "store", spec, until="fetch", fetch=OPEN)
    (row,) = table(tmp_path / "store", "images").read().to_pylist()
    assert row["status"] == "ok"
    assert set(web.requests) == {"/moved", "/list", "/p", "/q"}
    sent = {name for head in web.headers for name in head}
    assert not sent & {"cookie", "authorization", "proxy-authorization", "referer"}


def test_an_error_says_that_the_proxy_is_not_used(
    tmp_path: Path, web: Web, with_credentials: Web
) -> None:
    with pytest.raises(StoreError, match=r"proxy that .*http_proxy.* is not used"):
        listed(tmp_path / "store", "http://127.0.0.1:9/list.txt")


def test_images_that_a_list_on_the_web_names_are_requested_as_all_others(
    tmp_path: Path, web: Web
) -> None:
    names = ["a b.jpg", "deep/c#1.jpg", "unwilling.jpg", "forbidden.jpg", "gone.jpg", "../out.jpg"]
    names += [
        "\ud800.jpg",
        "nul\x00.jpg",
        "?sig=1",
        "http://10.0.0.1/x.jpg",
        "//10.0.0.1/x.jpg",
        "/etc/passwd",
    ]
    web.pages = {
        "/lists/l.jsonl?sig=S3CR3T": answer(
            "".join(json.dumps({"p": name}) + "\n" for name in names).encode()
        ),
        "/lists/a%20b.jpg": answer(JPEG),
        "/lists/deep/c%231.jpg": answer(JPEG),
        "/lists/unwilling.jpg": answer(JPEG, X_Robots_Tag="noai"),
        "/robots.txt": answer(b"User-agent: *\nDisallow: /lists/forbidden"),
    }
    spec = source(web.url("/lists/l.jsonl?sig=S3CR3T"), format="jsonl", columns={"path": "p"})
    run(tmp_path / "store", spec, until="fetch", fetch=OPEN)
    listed = table(tmp_path / "store", "pairs").read().to_pylist()
    images = table(tmp_path / "store", "images").read().to_pylist()
    assert "S3CR3T" not in f"{listed}{images}"
    reasons = {r["final_url"] or r["pair_id"]: r["reason"] for r in images}
    assert sorted(str(reason) for reason in reasons.values()) == sorted(
        [
            "None",
            "None",
            "opted_out_x_robots_tag",
            "robots_disallowed",
            *["http_404"] * 4,
            *["outside_folder"] * 4,
        ]
    )
    assert {h["user-agent"] for h in web.headers} == {"curation/0.1 (+tests@curation.example)"}
    assert all(r["location"] is None for r in listed)


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_a_signed_archive_is_read_again_though_no_table_holds_its_signature(
    tmp_path: Path, web: Web, kind: str
) -> None:
    content = {
        "webdataset": LISTS["webdataset"][0],
        "parquet": of_parquet([{"i": JPEG, "k": str(n)} for n in range(3)]),
    }[kind]
    web.pages["/a.bin?se=1&sig=S3CR3T&x=1"] = ranged(content)
    columns = {"image": "i", "key": "k"} if kind == "parquet" else {}
    spec = source(web.url("/a.bin?se=1&sig=S3CR3T&x=1"), format=kind, columns=columns)
    run(tmp_path / "store", spec, until="fetch", fetch=OPEN)
    listed = table(tmp_path / "store", "pairs").read().to_pylist()
    images = table(tmp_path / "store", "images").read().to_pylist()
    assert [r["status"] for r in images] == ["ok"] * 3
    assert "S3CR3T" not in f"{listed}{images}"
    assert all("/a.bin?se=***&sig=***&x=1#" in r["location"] for r in listed)


def test_a_server_may_name_the_version_of_a_file_in_any_bytes(tmp_path: Path, web: Web) -> None:
    async def latin(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        write = writer.write
        writer.write = lambda data: write(bytes(data).replace(b"TAG", b"caf\xe9"))  # type: ignore[method-assign]
        await ranged(LIST, ETag='"TAG"')(head, writer)

    web.pages["/l"] = latin
    assert [r["status"] for r in listed(tmp_path / "store", web.url("/l"))].count("ok")


def test_a_file_that_changes_is_read_again_and_never_mixed(tmp_path: Path, web: Web) -> None:
    store, counts = tmp_path / "store", []
    for urls, tag in ((URLS[:1], "1"), (URLS[1:2], "2")):
        web.pages["/l"] = ranged("\n".join(urls).encode(), ETag=f'"{tag}"')
        counts.append([r["url"] for r in listed(store, web.url("/l")) if r["status"] == "ok"])
    assert counts == [URLS[:1], URLS[1:2]]
    versions = iter(range(100))

    async def changing(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await ranged(LIST, ETag=f'"{next(versions)}"')(head, writer)

    web.pages["/l"] = changing
    with pytest.raises(CurationError, match="changed while it was read"):
        listed(store, web.url("/l"))
