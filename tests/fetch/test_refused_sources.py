"""Sources that may not be read are refused with a reason, which holds no secret."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import brotli
import pytest

from curation.errors import CurationError, RecipeError, StoreError
from curation.media.files.location import filesystem_of
from curation.media.files.source_client import _redirected
from curation.recipe import parse_recipe
from curation.runner.preflight import check_inputs
from curation.stages.ingest.sources.listing import list_source
from curation.stages.ingest.sources.source import Source
from tests.fetch.conftest import Handler, Web, answer
from tests.fetch.helpers import OPEN
from tests.fetch.web_lists import LIST, listed, redirect
from tests.ingest.helpers import run, source

pytestmark = pytest.mark.usefixtures("no_pauses")

PRIVATE = "http://10.9.8.7/latest/meta-data"


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
    "unwilling": (
        answer(LIST, X_Robots_Tag="noai"),
        "opts out: 'noai' in header X-Robots-Tag.*opt_out_signals",
    ),
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
    "enormous": (
        answer(b"h", "206 Partial Content", Content_Range=f"bytes 0-0/{10**18 - 1}"),
        "more than 256 GiB.*name your copy",
    ),
}


NEVER_END = ("silent", "dripping", "endless")
MAY_PASS = ("broken", "silent", "dripping", "hangs-up")
FOR_GOOD = (
    "inwards",
    "to-a-port",
    "to-a-file",
    "round",
    "forbidden",
    "unwilling",
    "gone",
    "enormous",
)
EXIT_STATUSES = dict.fromkeys(MAY_PASS, 1) | dict.fromkeys(FOR_GOOD, 2)
"""Airflow does not try again what ends with 2."""


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
        listed(tmp_path / "store", address, timeout_s=0.3 if name in NEVER_END else 60)
    assert "S3CR3T" not in str(caught.value)
    assert caught.value.exit_status == EXIT_STATUSES.get(name, caught.value.exit_status)
    if name not in ("forbidden", "to-forbidden"):
        assert not web.requests["/forbidden"]


@pytest.mark.parametrize("other", [{}, {"seed": 1}])
def test_a_source_that_does_not_answer_now_is_no_mistake_of_the_recipe(
    tmp_path: Path, web: Web, other: dict[str, Any]
) -> None:
    web.pages = {"/list": answer(status="503 Busy")}
    sources = [source(web.url("/list"))]
    if other:
        sources.append(source(tmp_path / "absent.parquet", name="absent"))
    recipe = parse_recipe({"name": "r", "sources": sources, "fetch": OPEN, **other})
    kind = RecipeError if other else StoreError
    with pytest.raises(CurationError, match="http_503") as caught:
        check_inputs(recipe)
    assert type(caught.value) is kind
    assert ("absent" in str(caught.value)) == bool(other)


def test_a_bucket_that_does_not_answer_now_is_no_mistake_of_the_recipe() -> None:
    address = "s3://bucket/lists?endpoint_override=127.0.0.1:9&scheme=http&region=x"
    with pytest.raises(StoreError, match="run the same command again"):
        list_source(Source.model_validate(source(address)), 10)


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("/.well-known/tdmrep.json", b'[{"location": "/l", "tdm-reservation": 1}]', "tdmrep.json"),
        ("/robots.txt", b"User-agent: *\nContent-Usage: train-ai=n", "Content-Usage: train-ai=n"),
    ],
)
def test_a_source_whose_site_opts_out_is_refused_with_the_text(
    tmp_path: Path, web: Web, path: str, content: bytes, text: str
) -> None:
    web.pages = {"/list": answer(LIST), path: answer(content)}
    with pytest.raises(RecipeError, match=f"opts out: .*{text}.*opt_out_signals"):
        listed(tmp_path / "store", web.url("/list"))
    assert not web.requests["/list"]
    rows = listed(tmp_path / "store", web.url("/list"), opt_out_signals=["rsl"])
    assert len(rows) == 3


FORBIDDEN = b"User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize(
    "robots",
    [
        answer(gzip.compress(FORBIDDEN), Content_Encoding="gzip"),
        answer(brotli.compress(FORBIDDEN), Content_Encoding="br"),
        answer(gzip.compress(FORBIDDEN * 40_000), Content_Encoding="x-gzip"),
        answer(FORBIDDEN, status="203 Non-Authoritative"),
        answer(FORBIDDEN, status="202 Accepted"),
        answer(FORBIDDEN.decode().encode("utf-16")),
    ],
)
def test_a_robots_txt_in_another_form_is_followed(tmp_path: Path, web: Web, robots: bytes) -> None:
    web.pages = {"/list": answer(LIST), "/robots.txt": robots}
    with pytest.raises(RecipeError, match=r"robots\.txt of its host forbids"):
        listed(tmp_path / "store", web.url("/list"))
    assert not web.requests["/list"]


def test_an_error_that_nothing_foresaw_refuses_the_source(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RecursionError("deep \x1b[2J")

    monkeypatch.setattr("curation.media.files.source_client.read_site_file", fails)
    web.pages = {"/list": answer(LIST), "/robots.txt": answer(b"User-agent: *\n")}
    with pytest.raises(StoreError, match="error_RecursionError"):
        listed(tmp_path / "store", web.url("/list"))


def test_a_policy_that_says_otherwise_lets_the_source_be_read(tmp_path: Path, web: Web) -> None:
    web.pages = {"/list": answer(LIST, X_Robots_Tag="noai")}
    web.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /")
    rows = listed(tmp_path / "store", web.url("/list"), robots=False, opt_out_signals=[])
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


def test_a_robots_txt_that_leads_inwards_is_not_followed(tmp_path: Path, web: Web) -> None:
    web.pages = {"/robots.txt": redirect(PRIVATE), "/l": answer(LIST)}
    with pytest.raises(StoreError, match=r"robots\.txt of its host cannot be read"):
        listed(tmp_path / "store", web.url("/l"))
    assert not web.requests["/l"]
