"""Which hosts, addresses and ports may be requested."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yarl import URL

from curation.media.web.guard import (
    BlockedPortError,
    Guard,
    PrivateAddressError,
    RefusedAddressError,
)
from curation.media.web.special_addresses import Address, is_public
from curation.media.web.urls import InvalidURLError, host_of, normalize, port_of
from curation.stages.fetch.params import FetchParams


def allows(guard: Guard, host: str, address: Address, port: int = 80) -> bool:
    try:
        guard.check_address(host, address, port)
    except RefusedAddressError:
        return False
    return True


@given(st.ip_addresses(v=4))
def test_an_allowed_ipv4_address_is_allowed_where_it_is_embedded(
    address: ipaddress.IPv4Address,
) -> None:
    for written in (f"::ffff:{address}", f"64:ff9b::{address}", address_of_6to4(address)):
        embedding = ipaddress.IPv6Address(written)
        assert allows(Guard([f"{address}/32"]), "any.example", embedding)
        assert allows(Guard(), "any.example", embedding) <= is_public(address)


def address_of_6to4(address: ipaddress.IPv4Address) -> str:
    return str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80)))


@pytest.mark.parametrize(
    ("recipe", "url", "reason"),
    [
        ({}, "http://8.8.8.8/", None),
        ({}, "https://8.8.8.8/", None),
        ({}, "https://8.8.8.8:80/", None),
        ({}, "http://8.8.8.8:443/", None),
        ({}, "http://8.8.8.8:22/", "blocked_port"),
        ({}, "http://8.8.8.8:8080/", "blocked_port"),
        ({}, "http://[2606:4700::1111]:6379/", "blocked_port"),
        ({"ports": [8080]}, "http://8.8.8.8:8080/", None),
        ({"ports": [8080]}, "http://images.example:8080/", None),
        ({"ports": [8080]}, "http://8.8.8.8:8081/", "blocked_port"),
        ({"ports": [8080]}, "http://10.0.0.7:8080/", "private_address"),
        ({}, "http://10.0.0.7:8080/", "private_address"),
        ({"allow_hosts": ["10.0.0.0/8"]}, "http://10.0.0.7:9/", None),
        ({"allow_hosts": ["10.0.0.7:8080"]}, "http://10.0.0.7:8080/", None),
        ({"allow_hosts": ["10.0.0.7:8080"]}, "http://10.0.0.7/", "blocked_port"),
        ({"allow_hosts": ["10.0.0.7:8080"]}, "http://10.0.0.8:8080/", "private_address"),
        ({"allow_hosts": ["10.0.0.7:8080", "10.0.0.7:90"]}, "http://10.0.0.7:90/", None),
        ({"allow_hosts": ["10.0.0.0/8:8080"]}, "http://10.9.9.9:8080/", None),
        ({"allow_hosts": ["[fd00::7]:8080"]}, "http://[fd00::7]:8080/", None),
        ({"allow_hosts": ["[fd00::7]:8080"]}, "http://[fd00::7]/", "blocked_port"),
        ({"allow_hosts": ["wide.example"]}, "http://wide.example:9/", None),
        ({"allow_hosts": ["wide.example:8080"]}, "http://wide.example:8080/", None),
        ({"allow_hosts": ["*.wide.example:90"]}, "http://a.wide.example:90/", None),
    ],
)
def test_ports_are_requested_that_the_recipe_names(
    recipe: dict[str, Any], url: str, reason: str | None
) -> None:
    params = FetchParams(**recipe)
    guard = Guard(params.allow_hosts, params.ports)
    try:
        guard.check(host_of(url), port_of(url))
        refused = None
    except RefusedAddressError as error:
        refused = error.reason
    assert refused == reason
    assert guard.may_request(host_of(url), port_of(url)) == (reason is None)


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("http://8.8.8.8#@10.0.0.1/", "8.8.8.8"),
        ("http://8.8.8.8?@10.0.0.1/", "8.8.8.8"),
        ("http://8.8.8.8/@10.0.0.1/", "8.8.8.8"),
        ("http://8.8.8.8/%0d%0aHost: 10.0.0.1", "8.8.8.8"),
        ("http://8.8.8.8/\r\nHost: 10.0.0.1", "8.8.8.8"),
        ("http://8.8.8.8/ HTTP/1.1", "8.8.8.8"),
        ("http://8.8.8.8/\u010d\u010aHost:10.0.0.1", "8.8.8.8"),
        ("http:/8.8.8.8/10.0.0.1", "8.8.8.8"),
        ("http://10.0.0.1#@8.8.8.8/", None),
        ("http://10.0.0.1?@8.8.8.8/", None),
        ("http:\\\\10.0.0.1/", None),
        ("http:/10.0.0.1/", None),
        ("http:10.0.0.1", None),
        ("http:///10.0.0.1/", None),
        ("http://8.8.8.8;@10.0.0.1/", None),
        ("http://8.8.8.8\\@10.0.0.1/", None),
        ("http://8.8.8.8:80\\@10.0.0.1/", None),
        ("http://8.8.8.8%2f@10.0.0.1/", None),
        ("http://8.8.8.8%23@10.0.0.1/", None),
        ("http://a@10.0.0.1/", None),
        ("http://a:b@8.8.8.8/", None),
        ("http://1.1.1.1 &@2.2.2.2# @3.3.3.3/", None),
        ("http://8.8.8.8:80:80/", None),
        ("http://[8.8.8.8]/", None),
        ("http://[::1]:80:80/", None),
        ("http://[2606:4700::1111]10.0.0.1/", None),
    ],
)
def test_the_host_that_is_checked_is_the_host_that_is_requested(
    url: str, requested: str | None
) -> None:
    """Readers of URLs differ in which of two hosts such a URL names."""
    try:
        normal = normalize(url)
    except InvalidURLError:
        assert requested is None
        return
    assert URL(normal, encoded=True).raw_host == host_of(normal)
    assert Guard().may_request(host_of(normal), port_of(normal)) == (requested is not None)
    assert requested in (host_of(normal), None)


def test_a_port_of_a_network_holds_for_names_that_lead_to_it() -> None:
    guard = Guard(["10.0.0.0/8:8080"])
    guard.check("intranet.example", 8080)
    guard.check_address("intranet.example", ipaddress.ip_address("10.1.1.1"), 8080)
    with pytest.raises(BlockedPortError):
        guard.check_address("intranet.example", ipaddress.ip_address("8.8.8.8"), 8080)
    with pytest.raises(PrivateAddressError):
        guard.check_address("intranet.example", ipaddress.ip_address("192.168.0.1"), 8080)


@pytest.mark.parametrize("port", [0, 65_536, -1, "http"])
def test_a_port_that_does_not_exist_is_refused(port: Any) -> None:
    with pytest.raises(ValidationError, match="ports"):
        FetchParams(ports=[port])


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("Images.Example", "images.example"),
        ("images.example.", "images.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("*.example", "a.b.example"),
        (".example", "b.example"),
        (" localhost ", "localhost"),
        ("10.0.0.7", "10.0.0.7"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("10.0.0.0/255.0.0.0", "10.9.9.9"),
        ("[fd00::1]", "[fd00::1]"),
        ("fd00::/8", "[fd12::1]"),
        ("images.example:8080", "images.example"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
        ("*.example:1", "a.example"),
    ],
)
def test_allowed_hosts_are_read_in_all_forms(entry: str, host: str) -> None:
    assert FetchParams(allow_hosts=[entry]).allow_hosts == [entry]
    assert Guard([entry]).is_listed(host)
    assert not Guard([entry]).is_listed("example")


@pytest.mark.parametrize(
    "entry",
    [
        "http://images.example/",
        "images.example:0",
        "images.example:65536",
        "images.example:8080/",
        "images.example:http",
        "http://images.example:8080",
        "[::1]:",
        ":8080",
        "images.example/path",
        "10.0.0.0/33",
        "10.0.0.1-10.0.0.9",
        "10.*",
        "*",
        "*.",
        "a.*.example",
        "127.1",
        "a b",
        "",
        "fe80::1%eth0/64",
    ],
)
def test_an_entry_that_allows_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError, match=r"names no host.*Valid: a name"):
        FetchParams(allow_hosts=["localhost", entry])


@pytest.mark.parametrize("entry", ["NoAI", "noai, noindex", "", "googlebot: noai", " noai"])
def test_a_directive_without_effect_is_refused(entry: str) -> None:
    with pytest.raises(ValidationError, match="no directive"):
        FetchParams(opt_out=["noai", entry])
