"""Hosts of every hostile kind beside good ones: the run ends, each row has its status."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile_server import BAD_NAMES, host_of_kind
from benchmarks.soak import running_server
from tests.fetch.helpers import fetched

REASONS: dict[str, set[str | None]] = {
    "drip_body": {"timeout"},
    "drip_head": {"timeout"},
    "drip_interim": {"timeout"},
    "fill_and_hang": {"timeout", "too_large"},
    "hang": {"timeout"},
    "hang_up": {"connection_error"},
    "endless": {"too_large"},
    "headers": {"bad_response"},
    "cookies": {None},
    "bombs": {"too_large", "bad_response"},
    "no_http": {"bad_response"},
    "lengths": {"bad_response", "timeout", None},
    "locations": {"bad_redirect", "bad_url", "dns_error", "too_many_redirects"},
    "loop": {"too_many_redirects"},
    "inwards": {"private_address"},
    "pauses": {"http_503", "host_too_slow"},
    "errors": {"http_500", "http_404", "http_999"},
    "no_picture": {"not_an_image", "truncated", "empty", "undecodable"},
    "poison": {None, "undecodable", "decoder_memory"},
    "opted_out": {"opted_out_x_robots_tag", "opted_out_tdmrep"},
    "robots_rate": {"host_too_slow"},
    "robots_delay": {"host_too_slow"},
    "robots_agents": {None},
    "robots_wildcards": {None},
    "robots_stars": {None},
    "robots_large": {"robots_disallowed"},
    "robots_binary": {None},
    "robots_disallow": {"robots_disallowed"},
    "robots_drip": {"timeout"},
    "robots_endless": {None},
    "dead_name": {"dns_error", "timeout"},
}
ROWS = 3


@pytest.fixture
def port() -> Iterator[int]:
    with running_server() as port:
        yield port


def test_every_kind_of_host_costs_its_rows_alone(port: int, tmp_path: Path) -> None:
    assert set(REASONS) == set(BAD_NAMES)
    hosts = [host_of_kind(kind, 0) for kind in BAD_NAMES] + [
        host_of_kind("good", n) for n in range(30)
    ]
    urls = [f"http://{host}:{port}/{n}" for n in range(ROWS) for host in hosts]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    limits = {
        "patience_s": 1,
        "max_bytes": 2**20,
        "per_host": {"concurrency": 2, "per_second": None},
    }
    rows = fetched(tmp_path, urls, timeout_s=2, retries=1, concurrency=64, **limits)
    assert time.monotonic() - started < 60
    assert len(rows) == len(urls)
    reasons = defaultdict(set)
    for row in rows:
        reasons[row["url"].split("/")[2].split(":")[0]].add(row["reason"])
    for host in hosts[len(BAD_NAMES) :]:
        assert reasons[host] == {None}
    wrong = {
        kind: reasons[host]
        for kind, host in zip(BAD_NAMES, hosts, strict=False)
        if not reasons[host] <= REASONS[kind] | {"host_unreachable"}
    }
    assert not wrong
    # In KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024
