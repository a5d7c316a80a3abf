from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.media.web.guard import Guard, is_public
from curation.stages.fetch.params import FetchParams

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_private_and_reserved_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_as_public_as_itself(
    address: ipaddress.IPv4Address,
) -> None:
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    assert is_public(mapped) == is_public(address)
    assert Guard([f"{address}/32"]).allows("any.example", mapped)


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
        "images.example:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
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
