"""What sites and pictures forbid is not stored: real requests to a server on loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.media.web.opt_outs.robots_cache import RobotsCache
from tests.fetch.conftest import HOSTS, Handler, Web, answer
from tests.fetch.helpers import OPEN, encoded, fetched, images, picture, reason, served
from tests.ingest.helpers import source, write
from tests.pictures.metadata_files import jpeg

JPEG = encoded(picture())
TDMREP = "/.well-known/tdmrep.json"
RESERVED = json.dumps([{"location": "/closed/", "tdm-reservation": 1}]).encode()
PROHIBITED = b"""<rsl xmlns="https://rslstandard.org/rsl"><content url="/closed/"><license>
  <prohibits type="usage">ai-train</prohibits></license></content></rsl>"""


@pytest.fixture
def site(web: Web) -> Web:
    for path in ("/open/a.jpg", "/closed/a.jpg", "/closed/b.jpg"):
        web.pages[path] = answer(JPEG)
    return web


def robots(*lines: str) -> bytes:
    return answer("\n".join(["User-agent: *", "Allow: /", *lines]).encode())


def reasons(tmp_path: Path, site: Web, host: str = HOSTS[0], **fetch: Any) -> list[str | None]:
    """The reasons of an open page and of two closed ones."""
    paths = ("/open/a.jpg", "/closed/a.jpg", "/closed/b.jpg")
    rows = fetched(tmp_path, [site.url(path, host) for path in paths], **fetch)
    for row in rows:
        signal = json.loads(row["opt_out"])["signal"] if row["opt_out"] else None
        assert (row["reason"] or "").removeprefix("opted_out_") == (signal or "")
    return [row["reason"] for row in rows]


def count(site: Web, path: str) -> int:
    return [visit.path for visit in site.log].count(path)


def both(name: str) -> list[str | None]:
    return [None, f"opted_out_{name}", f"opted_out_{name}"]


def test_what_tdmrep_reserves_is_not_requested_and_the_file_once(site: Web, tmp_path: Path) -> None:
    site.pages[TDMREP] = answer(RESERVED)
    assert reasons(tmp_path, site) == both("tdmrep")
    assert [v.path for v in site.log] == ["/robots.txt", TDMREP, "/open/a.jpg"]
    assert reasons(tmp_path / "b", site, opt_out_signals=["rsl"]) == [None] * 3
    assert count(site, TDMREP) == 1
    site.log.clear()
    assert reasons(tmp_path / "c", site, robots=False) == both("tdmrep")
    assert [v.path for v in site.log] == [TDMREP, "/open/a.jpg"]


def endless(head: dict[str, str], writer: asyncio.StreamWriter) -> Any:
    async def handler() -> None:
        writer.write(answer(b"[", length=None))
        while True:
            writer.write(b" " * 60_000)
            await writer.drain()

    return handler()


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (answer(status="404 Not Found"), None),
        (answer(status="500 Oops"), None),
        (answer(status="429 Slow down"), None),
        (answer(b"<html>no such page"), None),
        (answer(RESERVED[:-3]), None),
        (answer(b" " * 600_000 + RESERVED), None),
        (answer(RESERVED, X_Robots_Tag="noindex"), "opted_out_tdmrep"),
        (answer(status="302 Found", Location="/policy.json"), "opted_out_tdmrep"),
        (answer(status="302 Found", Location=TDMREP), None),
        (answer(status="302 Found", Location="http://10.0.0.1/t"), None),
        (b"no http at all\r\n\r\n", None),
        (b"", None),
        (endless, None),
    ],
)
def test_a_tdmrep_file_that_cannot_be_read_reserves_nothing(
    site: Web, tmp_path: Path, page: bytes | Handler, expected: str | None
) -> None:
    site.pages |= {TDMREP: page, "/policy.json": answer(RESERVED)}
    assert reasons(tmp_path, site) == [None, expected, expected]


def test_a_tdmrep_file_that_robots_txt_forbids_is_not_requested(site: Web, tmp_path: Path) -> None:
    site.pages |= {TDMREP: answer(RESERVED), "/robots.txt": robots("Disallow: /.well-known/")}
    assert reasons(tmp_path, site) == [None] * 3
    assert not count(site, TDMREP)


@pytest.mark.parametrize(
    ("line", "signal"),
    [
        ("Content-Usage: /closed/ train-ai=n", "content_usage"),
        ("Content-Signal: /closed/ search=yes, ai-train=no", "content_signal"),
    ],
)
def test_usage_preferences_of_robots_txt(site: Web, tmp_path: Path, line: str, signal: str) -> None:
    site.pages["/robots.txt"] = robots(line)
    assert reasons(tmp_path, site) == both(signal)
    assert not site.requests["/closed/a.jpg"]
    others = ["x_robots_tag", "tdmrep", "rsl"]
    assert reasons(tmp_path / "b", site, opt_out_signals=others) == [None] * 3


def test_usage_preferences_of_headers_name_place_and_text(site: Web, tmp_path: Path) -> None:
    pages: dict[str, tuple[dict[str, Any], str]] = {
        "/usage": ({"Content_Usage": "train-ai=n"}, "content_usage"),
        "/signal": ({"Content_Signal": "search=yes, ai-train=no"}, "content_signal"),
        "/tag": ({"X_Robots_Tag": "CCBot: noai"}, "x_robots_tag"),
        "/tdm": ({"TDM_Reservation": "1"}, "tdmrep"),
    }
    for path, (headers, _) in pages.items():
        target = f"/end?token=S3CR3T&of={path}"
        site.pages[path] = answer(status="302 Found", Location=target)
        site.pages[target] = answer(JPEG, **headers)
    rows = fetched(tmp_path, [site.url(path) for path in pages])
    for row, (headers, signal) in zip(rows, pages.values(), strict=True):
        (header,), (value,) = headers, headers.values()
        assert row["opt_out"], (row["url"], row["reason"], row["final_url"])
        opt_out = json.loads(row["opt_out"])
        assert row["reason"] == f"opted_out_{signal}" and opt_out["signal"] == signal
        assert opt_out["text"] == value and "S3CR3T" not in row["opt_out"]
        name = header.replace("_", "-").lower()
        assert opt_out["place"].lower().startswith(f"header {name} of http://127.0.0.1:")


def test_a_licence_that_prohibits_training_withholds_what_it_is_for(
    site: Web, tmp_path: Path
) -> None:
    """It lies on another host, as a licence that many sites share does."""
    address = site.url("/rsl.xml", HOSTS[1])
    site.pages |= {
        f"{HOSTS[0]}/robots.txt": robots(f"License: {address}"),
        "/rsl.xml": answer(PROHIBITED),
    }
    assert reasons(tmp_path, site) == both("rsl")
    assert site.requests["/rsl.xml"] == 1 and not site.requests["/closed/a.jpg"]
    (row,) = fetched(tmp_path / "b", [site.url("/open/a.jpg")])
    assert row["rsl_license"] == address and row["status"] == "ok"
    (row,) = fetched(tmp_path / "c", [site.url("/open/a.jpg", HOSTS[2])])
    assert row["rsl_license"] is None
    assert reasons(tmp_path / "d", site, opt_out_signals=[]) == [None] * 3


@pytest.mark.parametrize(
    "order", [("/open.xml", "/rsl.xml"), ("/gone.xml", "/rsl.xml", "/open.xml")]
)
def test_of_several_licences_the_strictest_counts(
    site: Web, tmp_path: Path, order: tuple[str, ...]
) -> None:
    lines = [f"License: {path}" for path in (*order, order[0])]
    site.pages |= {
        "/robots.txt": robots(*lines),
        "/rsl.xml": answer(PROHIBITED),
        "/open.xml": answer(PROHIBITED.replace(b"ai-train", b"search")),
    }
    assert reasons(tmp_path, site) == both("rsl")
    assert [count(site, path) for path in order] == [1] * len(order)
    (row,) = fetched(tmp_path / "b", [site.url("/open/a.jpg")])
    assert row["rsl_license"] == site.url(order[0])


@pytest.mark.parametrize(
    "address",
    [
        "http://10.9.8.7/rsl.xml",
        "http://127.0.0.1:1/rsl.xml",
        "http://nowhere.invalid/rsl.xml",
        "/missing.xml",
        "/broken.xml",
    ],
)
def test_a_licence_that_cannot_be_read_is_recorded(site: Web, tmp_path: Path, address: str) -> None:
    site.pages |= {"/robots.txt": robots(f"License: {address}"), "/broken.xml": answer(b"<rsl")}
    (row,) = fetched(tmp_path, [site.url("/open/a.jpg", HOSTS[3])])
    assert row["reason"] is None
    assert row["rsl_license"].endswith(address)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('</l.xml>; rel="license"; type="application/rsl+xml"', "/l.xml"),
        ("<l.xml>;rel=license;type=application/rsl+xml", "/open/l.xml"),
        ('</a>; rel="next", </l.xml>; type="Application/RSL+XML"; rel="License"', "/l.xml"),
        ('</l.html>; rel="license"', None),
        ('</l.xml>; rel="next"; type="application/rsl+xml"', None),
        ('<http://[>; rel="license"; type="application/rsl+xml"', None),
        ("<<;;,>>", None),
    ],
)
def test_a_licence_of_a_header_is_recorded(
    site: Web, tmp_path: Path, link: str, expected: str | None
) -> None:
    site.pages["/open/a.jpg"] = answer(JPEG, Link=link)
    (row,) = fetched(tmp_path, [site.url("/open/a.jpg", HOSTS[5])])
    assert row["reason"] is None
    assert row["rsl_license"] == (None if expected is None else site.url(expected, HOSTS[5]))
    assert not count(site, "/l.xml")
    named = site.url("/r.xml", HOSTS[6])
    site.pages["/robots.txt"] = robots(f"License: {named}")
    (row,) = fetched(tmp_path / "b", [site.url("/open/a.jpg", HOSTS[6])])
    assert row["rsl_license"] == named


@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://u:p@127.0.0.1/", "http://["])
def test_an_address_that_may_not_be_requested_is_no_licence(
    site: Web, tmp_path: Path, address: str
) -> None:
    site.pages["/robots.txt"] = robots(f"License: {address}")
    (row,) = fetched(tmp_path, [site.url("/open/a.jpg", HOSTS[4])])
    assert (row["reason"], row["rsl_license"]) == (None, None)


def test_a_picture_that_prohibits_data_mining_is_not_stored(web: Web, tmp_path: Path) -> None:
    (row,) = fetched(tmp_path, [served(web, jpeg())])
    assert (row["status"], row["reason"]) == ("failed", "opted_out_data_mining")
    assert row["image"] is None and row["data_mining"] == "DMI-PROHIBITED-AIMLTRAINING"
    assert json.loads(row["opt_out"])["text"] == "DMI-PROHIBITED-AIMLTRAINING"
    others = ["data_mining_genai", "rsl"]
    assert reason(tmp_path / "b", served(web, jpeg()), opt_out_signals=others) is None


def test_an_opt_out_that_is_seen_later_keeps_fetched_rows_out(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "l.parquet", tmp_path / "store"
    urls = [site.url(p) for p in ("/open/a.jpg", "/closed/a.jpg", "/closed/b.jpg")]
    rows = [{"url": url, "caption": f"c{n}"} for n, url in enumerate(urls)]
    write(path, rows[:2])
    assert [r["reason"] for r in images(store, source(path))] == [None, None]
    site.pages[TDMREP] = answer(RESERVED)
    # The process has read the rules today; another one, or a later one, reads them again.
    monkeypatch.setattr("curation.stages.fetch.robots_gate.ROBOTS_CACHE", RobotsCache())
    write(path, rows)
    site.log.clear()
    later = {r["caption"]: r for r in images(store, source(path))}
    assert [later[f"c{n}"]["reason"] for n in range(3)] == both("tdmrep")
    assert later["c1"]["image"] is None and later["c1"]["image_id"] is None
    assert [v.path for v in site.log] == ["/robots.txt", TDMREP]
    again = {r["caption"]: r for r in images(store, source(path))}
    assert again == later


def test_an_opt_out_that_is_seen_later_holds_for_targets_of_redirects(
    site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that another host's URL leads to is withheld by the site that has the picture."""
    path, store = tmp_path / "l.parquet", tmp_path / "store"
    target = site.url("/closed/a.jpg", HOSTS[1])
    site.pages["/moved.jpg"] = answer(b"", "302 Found", Location=target)
    site.pages["/signed.jpg"] = answer(b"", "302 Found", Location=f"{target}?token=secret")
    site.pages["/closed/a.jpg?token=secret"] = answer(JPEG)
    urls = [site.url("/moved.jpg"), site.url("/signed.jpg"), site.url("/open/a.jpg")]
    urls.append(site.url("/closed/b.jpg", HOSTS[1]))
    rows = [{"url": url, "caption": f"c{n}"} for n, url in enumerate(urls)]
    write(path, rows[:3])
    assert [r["reason"] for r in images(store, source(path))] == [None] * 3
    site.pages[f"{HOSTS[1]}/robots.txt"] = answer(b"User-agent: *\nDisallow: /closed/")
    monkeypatch.setattr("curation.stages.fetch.robots_gate.ROBOTS_CACHE", RobotsCache())
    write(path, rows)
    later = {r["caption"]: r for r in images(store, source(path))}
    no = "robots_disallowed"
    assert [later[f"c{n}"]["reason"] for n in range(4)] == [no, no, None, no]
    assert later["c0"]["image"] is None and HOSTS[1] in later["c0"]["opt_out"]


def test_the_command_counts_opt_outs_by_signal_and_host(site: Web, tmp_path: Path) -> None:
    site.pages |= {
        f"{HOSTS[1]}{TDMREP}": answer(RESERVED),
        f"{HOSTS[2]}/robots.txt": robots("Disallow: /closed/", "License: /rsl.xml"),
    }
    paths = ("/open/a.jpg", "/closed/a.jpg", "/closed/b.jpg")
    urls = [site.url(path, host) for host in HOSTS[:3] for path in paths]
    fetched(tmp_path, [*urls, served(site, jpeg())])
    store = str(tmp_path / "store")
    result = CliRunner().invoke(app, ["opt-outs", "--store", store, "--json"])
    counts = json.loads(result.output)
    assert (counts["rows"], counts["withheld"], counts["licensed"]) == (10, 5, 1)
    assert counts["signals"] == {"tdmrep": 2, "robots": 2, "data_mining": 1}
    assert counts["hosts"] == {
        HOSTS[1]: {"tdmrep": 2},
        HOSTS[2]: {"robots": 2},
        HOSTS[0]: {"data_mining": 1},
    }
    assert counts["examples"]["robots"] == [
        {"place": site.url("/robots.txt", HOSTS[2]), "text": "User-agent: *; Disallow: /closed/"}
    ]
    sources = [source(tmp_path / "list.parquet")]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "test", "sources": sources, "fetch": OPEN}))
    of_recipe = CliRunner().invoke(app, ["opt-outs", str(recipe), "--store", store, "--json"])
    assert json.loads(of_recipe.output) == counts
    shown = CliRunner().invoke(app, ["opt-outs", "--store", store, "--hosts", "1"])
    assert shown.exit_code == 0
    for text in ("5 of 10 pictures", "1 stored pictures", "2 more hosts", "Disallow: /closed/"):
        assert text in " ".join(shown.output.split())
