"""Sources at http addresses keep the policy of all requests, whatever their servers do."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError, RecipeError
from curation.media.files.location import filesystem_of
from curation.media.web.source_client import _redirected
from curation.media.web.web_file import WebFile
from curation.recipe import parse_recipe
from tests.fetch.conftest import Handler, Web, answer
from tests.fetch.helpers import OPEN, encoded, picture
from tests.ingest.helpers import run, source, table

JPEG = encoded(picture())
URLS = [f"http://127.0.0.1:9/{n}.jpg" for n in range(3)]
PRIVATE = "http://10.9.8.7/latest/meta-data"


def ranged(body: bytes, status: str = "206 Partial Content", **headers: Any) -> Handler:
    """A page whose server gives parts."""

    async def page(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", head.get("range", ""))
        if asked is None:
            writer.write(answer(body, **headers))
            return
        start, end = int(asked[1]), min(int(asked[2]), len(body) - 1)
        if start >= len(body):
            writer.write(answer(status="416 Range Not Satisfiable", **headers))
            return
        given = f"bytes {start}-{end}/{len(body)}"
        writer.write(answer(body[start : end + 1], status, Content_Range=given, **headers))

    return page


def unsized(body: bytes) -> Handler:
    """A page without a length, whose server gives no parts."""

    async def page(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, length=None))

    return page


def of_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def of_tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


LISTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "txt": ("\n".join(URLS).encode(), {"columns": {}}),
    "jsonl": ("".join(json.dumps({"url": u}) + "\n" for u in URLS).encode(), {}),
    "csv": (gzip.compress("\n".join(["url", *URLS]).encode()), {}),
    "parquet": (of_parquet([{"url": u, "caption": "c"} for u in URLS]), {}),
    "webdataset": (of_tar({f"{n}.jpg": JPEG for n in range(3)}), {}),
}


def listed(store: Path, address: str, kind: str = "txt", **fetch: Any) -> list[dict[str, Any]]:
    """The rows of `pairs` of one source."""
    columns = {"txt": {}, "webdataset": {}}.get(kind, {"url": "url"})
    spec = source(address, format=kind, columns=columns)
    run(store, spec, fetch=OPEN | fetch)
    rows: list[dict[str, Any]] = table(store, "pairs").read().to_pylist()
    return rows


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
    sent = sum(
        int(end) - int(start) + 1
        for start, end in (h["range"].removeprefix("bytes=").split("-") for h in web.headers)
    )
    assert sent < len(out.getvalue()) / 2


def redirect(to: str, **headers: Any) -> bytes:
    return answer(status="302 Found", Location=to, **headers)


async def silent(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def dripping(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(length=1000))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(length=None))
    while True:
        writer.write(b"http://a.example/\n" * 4096)
        await writer.drain()


LIST = LISTS["txt"][0]
REFUSED: dict[str, tuple[bytes | Handler, str]] = {
    "inwards": (redirect(PRIVATE), "no public address.*fetch.allow_hosts"),
    "to-a-port": (redirect("http://8.8.8.8:6379/"), "fetch.ports"),
    "to-a-file": (redirect("file:///etc/passwd"), "bad_redirect"),
    "to-gopher": (redirect("gopher://10.0.0.1/"), "bad_redirect"),
    "with-a-user": (redirect("http://u:S3CR3T@127.0.0.1/"), "bad_redirect"),
    "broken-target": (redirect("http://[]@/"), "bad_redirect"),
    "nowhere": (answer(status="302 Found"), "bad_redirect"),
    "to-a-private-name": (redirect("http://private.example/"), "no public address"),
    "round": (redirect("/round"), "too_many_redirects"),
    "forbidden": (answer(LIST), "robots.txt"),
    "to-forbidden": (redirect("/forbidden"), "robots.txt"),
    "unwilling": (answer(LIST, X_Robots_Tag="noai"), "opts out.*opt_out"),
    "reserved": (answer(LIST, tdm_reservation="1"), "opts out"),
    "unwilling-to-redirect": (redirect("/fine", X_Robots_Tag="noai"), "opts out"),
    "gone": (answer(status="410 Gone"), "http_410.*download the file"),
    "broken": (answer(status="500 Oops"), "http_500"),
    "silent": (silent, "timeout"),
    "dripping": (dripping, "timeout"),
    "endless": (endless, "GiB|timeout"),
    "no-http": (b"SSH-2.0-OpenSSH\r\n\r\n", "bad_response"),
    "hangs-up": (b"", "connection_error"),
    "half": (answer(LIST, length=len(LIST) + 9), "connection_error|bad_response"),
    "flood": (answer(LIST, X_Long="x" * 100_000), "bad_response"),
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.media.web.source_client._FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("curation.media.web.web_file.MAX_WITHOUT_RANGES", 2**20)


@pytest.fixture
def private_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has `private.example` lead to a private address."""
    lookup = socket.getaddrinfo

    def answered(host: str, port: Any = None, *rest: Any, **options: Any) -> Any:
        if host == "private.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.9.8.7", port or 0))]
        return lookup(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answered)


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_may_not_be_read_is_refused_with_a_reason(
    tmp_path: Path, web: Web, name: str, private_name: None
) -> None:
    web.pages = {f"/{key}": page for key, (page, _) in REFUSED.items()}
    web.pages |= {f"/{name}?sig=S3CR3T": REFUSED[name][0], "/fine": answer(LIST)}
    web.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /forb")
    address = web.url(f"/{name}?sig=S3CR3T")
    with pytest.raises(CurationError, match="(?s)Source 'web'.*" + REFUSED[name][1]) as caught:
        listed(tmp_path / "store", address, timeout_s=0.3)
    assert "S3CR3T" not in str(caught.value)
    if name not in ("forbidden", "to-forbidden"):
        assert not web.requests["/forbidden"]


def test_a_policy_that_says_otherwise_lets_the_source_be_read(tmp_path: Path, web: Web) -> None:
    web.pages = {"/list": answer(LIST, X_Robots_Tag="noai")}
    web.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /")
    rows = listed(tmp_path / "store", web.url("/list"), robots=False, opt_out=[])
    assert len(rows) == 3
    assert not web.visits(robots=True) or "/robots.txt" not in {v.path for v in web.log}


@pytest.mark.parametrize(
    ("address", "fetch", "message"),
    [
        (PRIVATE, {}, "allow_hosts"),
        ("http://private.example/list.txt", {}, "allow_hosts"),
        ("https://private.example:8443/list.txt", {"ports": [8443]}, "allow_hosts"),
        ("http://[::ffff:10.0.0.1]/list.txt", {}, "allow_hosts"),
        ("HTTP://10.0.0.1/list.txt", {}, "allow_hosts"),
        ("http://127.0.0.1:9/list.txt", {"allow_hosts": []}, "allow_hosts"),
        ("http://127.0.0.1:9/list.txt", {"allow_hosts": ["127.0.0.1:10"]}, "fetch.ports"),
        ("http://8.8.8.8:22/list.txt", {}, "fetch.ports"),
        ("http://8.8.8.8/list.txt", {"contact": None}, "fetch.contact"),
        ("http://u:S3CR3T@127.0.0.1:9/list.txt", {}, "credentials"),
        ("http://[]@/list.txt", {}, "credentials"),
        ("http://[]/list.txt", {}, "no valid URL"),
        ("http://127.0.0.1:9/lists/", {}, "not one file"),
        ("http://127.0.0.1:9/lists/*.txt", {}, "not one file"),
        ("http://127.0.0.1:9/list.txt", {}, "connection_error"),
        ("simplecache::http://127.0.0.1:9/list.txt", {}, "by its http or https address"),
        ("zip://a.txt::https://127.0.0.1:9/a.zip", {}, "by its http or https address"),
        ("reference://::http://127.0.0.1:9/a.json", {}, "by its http or https address"),
        (" http://127.0.0.1:9/list.txt", {}, "http"),
    ],
)
def test_an_address_that_may_not_be_requested_is_refused(
    tmp_path: Path, address: str, fetch: dict[str, Any], message: str, private_name: None
) -> None:
    with pytest.raises(
        RecipeError, match=f"(?s)(Source 'web'|sources.0.path).*{message}"
    ) as caught:
        listed(tmp_path / "store", address, **fetch)
    assert "S3CR3T" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://10.0.0.1/x", "HTTPS://10.0.0.1/x", "simplecache::http://h/x"]
)
def test_no_other_file_system_requests_the_web(uri: str) -> None:
    with pytest.raises(ValueError, match="on the web"):
        filesystem_of(uri)


def test_a_redirect_from_https_to_http_is_not_followed_for_sources() -> None:
    assert _redirected("https://a.example/l", "/m") == "https://a.example/m"
    assert _redirected("http://a.example/l", "https://b.example/m") == "https://b.example/m"
    with pytest.raises(Exception, match="insecure_redirect"):
        _redirected("https://a.example/l", "http://a.example/l")


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
    with pytest.raises(RecipeError, match=r"proxy that .*http_proxy.* is not used"):
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
            "opted_out",
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


def test_sources_that_differ_only_in_secrets_are_refused(tmp_path: Path) -> None:
    one = source("https://a.example/get?key=1", name="one", format="webdataset", columns={})
    other = source("https://a.example/get?key=2", name="two", format="webdataset", columns={})
    with pytest.raises(RecipeError, match=r"get\?key=\*\*\* with different secrets"):
        run(tmp_path / "store", one, other, fetch=OPEN)


@pytest.mark.parametrize("path", ["s3://A:S3CR3T@b/l.txt", "az://c/l.txt?sig=S3CR3T"])
def test_secrets_of_other_stores_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(RecipeError, match="credentials") as caught:
        listed(tmp_path / "store", path)
    assert "S3CR3T" not in str(caught.value)


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


def test_a_robots_txt_that_leads_inwards_is_not_followed(tmp_path: Path, web: Web) -> None:
    web.pages = {"/robots.txt": redirect(PRIVATE), "/l": answer(LIST)}
    with pytest.raises(RecipeError, match=r"robots\.txt of its host cannot be read"):
        listed(tmp_path / "store", web.url("/l"))
    assert not web.requests["/l"]
