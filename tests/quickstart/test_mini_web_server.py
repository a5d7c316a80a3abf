"""The mini-web's server is real, as ill-mannered as the web, and keeps to its folder."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pandas as pd
import pytest

from quickstart.server import CannotServe, Server, serving

Runs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server(out: Path, port: int) -> Iterator[Server]:
    with serving(out, port) as running:
        yield running


def ask(server: Server, path: str, site: int = 0) -> tuple[int, dict[str, str], bytes]:
    """The answer to one request, its path sent exactly as given."""
    connection = http.client.HTTPConnection(f"127.0.0.{site + 1}", server.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_serves_pictures_on_every_site(server: Server, out: Path, truth: pd.DataFrame) -> None:
    file = truth[(truth.kind == "ok") & truth.file.str.endswith(".jpg")].file.iloc[0]
    for site in range(8):
        status, headers, body = ask(server, f"/{file}", site)
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert body == (out / "www" / file).read_bytes()
    assert ask(server, "/" + file.replace(".jpg", "%2Ejpg"))[0] == 200


@pytest.mark.parametrize("kind", ["moved", "loop"])
@pytest.mark.parametrize(
    "rest",
    [
        "/evil.example/x",
        "///evil.example",
        "%2F%2Fevil.example",
        "%5C%5Cevil.example",
        "\\evil.example",
        "http://evil.example/",
        "javascript:alert(1)",
        "x%0D%0ASet-Cookie:%20a=b",
        "x%0d%0a%0d%0a<script>",
        "%E9%FF%00",
    ],
)
def test_redirects_stay_on_the_site_and_in_their_header(
    server: Server, kind: str, rest: str
) -> None:
    status, headers, body = ask(server, f"/{kind}/{rest}")
    assert (status, body) == (302, b"")
    assert set(headers) == {"Server", "Date", "Content-Type", "Content-Length", "Location"}
    location = headers["Location"]
    assert urlsplit(urljoin("http://127.0.0.1/a", location)).netloc == "127.0.0.1"
    assert location.startswith("/") and not location.startswith(("//", "/\\"))
    assert location.isascii() and location.isprintable()


def test_an_absolute_address_is_no_redirect_elsewhere(server: Server) -> None:
    assert ask(server, "http://evil.example/loop/x")[1]["Location"] == "/loop/x"


def test_answers_as_badly_as_the_web_does(server: Server, out: Path, truth: pd.DataFrame) -> None:
    file = truth[truth.kind == "redirect"].file.iloc[0]
    asked = server.requests
    assert ask(server, "/p/gone/x.jpg")[0] == 404
    assert ask(server, "/status/503/x.jpg")[0] == 503
    status, headers, body = ask(server, "/html/x.jpg")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert b"<!doctype html>" in body
    status, headers, _ = ask(server, f"/moved/{file}")
    assert (status, headers["Location"]) == (302, f"/{file}")
    assert ask(server, "/inward/x.jpg")[1]["Location"] == "http://10.1.2.3/x.jpg"
    assert ask(server, "/loop/x.jpg")[1]["Location"] == "/loop/x.jpg"
    assert ask(server, f"/slow/{file}")[2] == (out / "www" / file).read_bytes()
    assert server.requests == asked + 7
    assert "/status/503/x.jpg" in server.log.read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/../truth.parquet",
        "/p/../../truth.parquet",
        "/%2e%2e/truth.parquet",
        "/..%2ftruth.parquet",
        "/slow/../../truth.parquet",
        "//etc/hostname",
        "/%2Fetc/hostname",
        "/slow//etc/hostname",
        "/p",
        "/",
        "/%00",
    ],
)
def test_serves_nothing_outside_www(server: Server, out: Path, path: str) -> None:
    assert (out / "truth.parquet").is_file()
    assert ask(server, path)[0] == 404


def test_every_row_answers_as_its_truth_says(
    server: Server, pool: pd.DataFrame, truth: pd.DataFrame
) -> None:
    rows = truth.merge(pool, on="uid").drop_duplicates("kind")
    prefix = f":{server.port}/"
    answered = rows.URL.str.contains(prefix) & (rows.kind != "refused_connection")
    row: Any
    for row in rows[answered].itertuples():
        status = ask(server, "/" + row.URL.split(prefix)[1].partition("#")[0])[0]
        expected = {"redirect": 302, "redirect_loop": 302, "redirect_to_private": 302}
        if row.kind == "dead_link":
            assert status == int(row.expected_reason)
        else:
            assert status == expected.get(row.kind, 200), row.kind


def test_serve_ends_with_the_command_s_status(
    tmp_path: Path, free_port: int, quickstart: Runs
) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/hello.txt").write_text("hello")
    (tmp_path / "stamp.json").write_text(json.dumps({"port": free_port, "complete": True}))
    fetch = (
        "import sys, urllib.request as u\n"
        f"sys.exit(len(u.urlopen('http://127.0.0.5:{free_port}/hello.txt').read()) - 2)"
    )
    ended = quickstart("serve", tmp_path, "--", sys.executable, "-c", fetch)
    assert ended.returncode == 3, ended.stderr


def test_a_taken_port_is_named_with_its_remedy(server: Server, out: Path) -> None:
    advice = r"QUICKSTART_PORT=\d+ make quickstart"
    with pytest.raises(CannotServe, match=advice), serving(out, server.port):
        pass


def test_serve_refuses_what_was_built_for_another_port(
    out: Path, port: int, quickstart: Runs
) -> None:
    ended = quickstart("serve", out, "--port", port + 1, "--", sys.executable, "-c", "exit(0)")
    assert ended.returncode == 2
    assert "build it again" in ended.stderr
