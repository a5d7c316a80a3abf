"""robots.txt and opt-out headers are followed: the log of the server shows it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.fetch.conftest import HOSTS, Handler, Web, answer
from tests.fetch.helpers import encoded, fetched, picture, reason

JPEG = encoded(picture())
TAGGED = "opted_out_x_robots_tag"
EVERYTHING = b"User-agent: *\nDisallow: /\n"


@pytest.fixture
def site(web: Web) -> Web:
    web.pages["/open.jpg"] = web.pages["/closed/a.jpg"] = answer(JPEG)
    return web


def test_disallowed_paths_are_not_requested(site: Web, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /closed\n")
    urls = [site.url(p) for p in ("/open.jpg", "/closed/a.jpg", "/closed/b.jpg", "/open.jpg?2")]
    site.pages["/open.jpg?2"] = answer(JPEG)
    rows = fetched(tmp_path, urls)
    assert [r["reason"] for r in rows] == [None, "robots_disallowed", "robots_disallowed", None]
    assert [v.path for v in site.log].count("/robots.txt") == 1
    assert not any("closed" in v.path for v in site.log)
    assert site.log[0].path == "/robots.txt"


def test_rules_for_the_crawler_override_those_for_all_robots(site: Web, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = answer(EVERYTHING + b"\nUser-agent: our-bot\nAllow: /\n")
    assert reason(tmp_path / "a", site.url("/open.jpg")) == "robots_disallowed"
    site.pages["/robots.txt"] = answer(b"User-agent: our-bot\nDisallow: /\n")
    url = site.url("/open.jpg", HOSTS[1])
    assert reason(tmp_path / "b", url, user_agent="our-bot/3") == "robots_disallowed"
    assert reason(tmp_path / "c", site.url("/open.jpg", HOSTS[2]), user_agent="other/3") is None


def test_robots_txt_is_ignored_only_if_the_recipe_says_so(site: Web, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = answer(EVERYTHING)
    assert reason(tmp_path, site.url("/open.jpg"), robots=False) is None
    assert "/robots.txt" not in {v.path for v in site.log}


def endless(body: bytes) -> Handler:
    async def handler(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, length=None))
        while True:
            writer.write(b"# and so on\n" * 1000)
            await writer.drain()

    return handler


@pytest.mark.parametrize(
    ("robots", "expected"),
    [
        (answer(status="404 Not Found"), None),
        (answer(status="403 Forbidden"), None),
        (answer(b""), None),
        (answer(b"<!DOCTYPE html><p>no such page"), None),
        (answer(b"\xff\xfe\0nonsense\0" * 1000), None),
        (answer(status="500 Oops"), "robots_unreachable"),
        (answer(status="429 Slow down"), "robots_unreachable"),
        (answer(status="999 Denied"), "robots_unreachable"),
        (answer(status="300 Choose"), None),
        (answer(EVERYTHING, status="202 Accepted"), "robots_disallowed"),
        (answer(EVERYTHING, status="206 Partial Content"), "robots_disallowed"),
        (answer(status="204 No Content", length=None), None),
        (answer(EVERYTHING.decode().encode("utf-16")), "robots_disallowed"),
        (
            answer(pa.compress(EVERYTHING, "zstd", asbytes=True), Content_Encoding="zstd"),
            "robots_unreachable",
        ),
        (answer(EVERYTHING, Content_Encoding="zstd"), "robots_disallowed"),
        (answer(status="302 Found", Location="/robots.txt"), None),
        (answer(status="302 Found", Location="http://10.0.0.1/robots.txt"), "robots_unreachable"),
        (answer(status="302 Found", Location="/elsewhere"), "robots_disallowed"),
        (answer(EVERYTHING + b"# long\n" * 1_500_000), "robots_disallowed"),
        (answer(b"# long\n" * 1_500_000 + EVERYTHING), None),
        (endless(EVERYTHING), "robots_disallowed"),
        (b"no http at all\r\n\r\n", "robots_unreachable"),
        (b"", "connection_error"),
    ],
)
def test_unusual_robots_txt_follow_the_rfc(
    site: Web, tmp_path: Path, robots: bytes | Handler, expected: str | None
) -> None:
    site.pages |= {"/robots.txt": robots, "/elsewhere": answer(EVERYTHING)}
    assert reason(tmp_path, site.url("/open.jpg")) == expected
    assert site.requests["/open.jpg"] == (expected is None)


def test_redirects_to_disallowed_paths_fail(site: Web, tmp_path: Path) -> None:
    site.pages[f"{HOSTS[1]}/robots.txt"] = answer(b"User-agent: *\nDisallow: /closed\n")
    for name, target in (("a", "/closed/a.jpg"), ("b", "/open.jpg")):
        there = site.url(target, HOSTS[1])
        site.pages[f"{HOSTS[0]}/{name}"] = answer(status="301 Moved", Location=there)
    rows = fetched(tmp_path, [site.url("/a"), site.url("/b")])
    assert [r["reason"] for r in rows] == ["robots_disallowed", None]
    assert not site.requests["/closed/a.jpg"]


def test_crawl_delay_is_kept(site: Web, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = answer(b"User-agent: *\nCrawl-delay: 0.2\n")
    site.pages |= {f"/{n}": answer(JPEG) for n in range(4)}
    rows = fetched(tmp_path, [site.url(f"/{n}") for n in range(4)])
    assert {r["reason"] for r in rows} == {None}
    came = [v.started for v in site.log]
    assert min(b - a for a, b in pairwise(came)) > 0.15


def test_rows_beyond_patience_s_fail_as_too_slow(site: Web, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = answer(b"User-agent: *\nCrawl-delay: 0.1\n")
    site.pages |= {f"/{n}": answer(JPEG) for n in range(9)}
    rows = fetched(tmp_path, [site.url(f"/{n}") for n in range(9)], patience_s=0.35)
    reasons = [r["reason"] for r in rows]
    assert reasons == [None] * 3 + ["host_too_slow"] * 6
    assert len(site.visits()) == 3


def opting(**headers: Any) -> bytes:
    return answer(JPEG, **headers)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (opting(X_Robots_Tag="noai"), TAGGED),
        (opting(X_Robots_Tag="NoImageAI, max-snippet: 3"), TAGGED),
        (opting(X_Robots_Tag="nofollow, noindex"), TAGGED),
        (opting(X_Robots_Tag="noarchive"), None),
        (opting(X_Robots_Tag="otherbot: noai, noindex"), None),
        (opting(X_Robots_Tag="curation: noai"), TAGGED),
        (
            opting(X_Robots_Tag="unavailable_after: 1 Jan 2030 00:00:00 GMT, noai"),
            TAGGED,
        ),
        (opting(X_Robots_Tag="otherbot: noai\r\nX-Robots-Tag: noai"), TAGGED),
        (opting(tdm_reservation="1"), "opted_out_tdmrep"),
        (opting(tdm_reservation="0"), None),
    ],
)
def test_opted_out_images_are_not_stored(
    site: Web, tmp_path: Path, page: bytes, expected: str | None
) -> None:
    site.pages["/page"] = page
    assert reason(tmp_path / "a", site.url("/page")) == expected
    assert reason(tmp_path / "b", site.url("/page"), opt_out_signals=[]) is None


def test_the_recipe_lists_the_opt_out_directives(site: Web, tmp_path: Path) -> None:
    site.pages["/page"] = opting(X_Robots_Tag="noarchive")
    assert reason(tmp_path, site.url("/page"), opt_out=["noarchive"]) == (TAGGED)
