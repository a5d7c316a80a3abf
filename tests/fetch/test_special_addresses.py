"""Which addresses are public, by the registries and not by the version of Python."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.web.guard import Guard, RefusedAddressError, parse_address
from curation.media.web.special_addresses import SPECIAL_IPV4, SPECIAL_IPV6, is_public
from curation.media.web.urls import InvalidURLError, host_of, normalize


def _words(text: str) -> list[str]:
    return text.split()


# Every entry of the IANA registries of special-purpose addresses, 2025.
REGISTRIES = _words("""
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24
198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32 ::1/128 ::/128
64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128
2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32
2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
""")
# Multicast, former uses, services of clouds, and everything that is assigned to nobody.
FURTHER = _words("""
224.0.0.0/4 233.252.0.0/24 168.63.129.16/32 100.100.100.200/32 169.254.169.254/32 192.0.0.192/32
ff00::/8 fec0::/10 ::/96 ::ffff:0:0:0/96 fd00:ec2::254/128 fd20:ce::254/128 4000::/3 6000::/3
8000::/3 a000::/3 c000::/3 e000::/4 ::ffff:10.0.0.0/104 ::ffff:169.254.0.0/112 64:ff9b::10.0.0.0/104
64:ff9b::169.254.0.0/112
""")
PUBLIC = _words("""
1.0.0.1 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255
192.0.1.0 192.0.3.0 192.31.195.255 192.31.197.0 192.52.192.255 192.88.98.255 192.88.100.0
192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255
203.0.114.0 223.255.255.255 2001:200:: 2001:4860:4860::8888 2001:db7:ffff:: 2001:db9:: 2003::
2606:4700:4700::1111 2620:4f:7fff:: 2620:4f:8001:: 2a00:1450:4001:82a::200e 3ffe:ffff:: 3fff:1000::
::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700::5efe:808:808
""")


@pytest.mark.parametrize("network", REGISTRIES + FURTHER)
def test_no_address_of_a_special_network_is_public(network: str) -> None:
    addresses = ipaddress.ip_network(network)
    for number in (0, 1, addresses.num_addresses // 2, -2, -1):
        if -addresses.num_addresses <= number < addresses.num_addresses:
            assert not is_public(addresses[number]), addresses[number]


@pytest.mark.parametrize("address", PUBLIC)
def test_what_lies_beside_special_networks_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_each_entry_says_what_it_is_for_and_where_that_is_defined() -> None:
    for table, version in ((SPECIAL_IPV4, 4), (SPECIAL_IPV6, 6)):
        networks = [entry.network for entry in table]
        assert len(set(networks)) == len(networks)
        assert {network.version for network in networks} == {version}
        assert all(entry.purpose and entry.defined_in for entry in table)


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert is_public(address) <= (address.is_global and not address.is_multicast)


@given(st.sampled_from(SPECIAL_IPV4 + SPECIAL_IPV6), st.integers(min_value=0))
def test_every_address_of_the_table_is_refused(entry: object, number: int) -> None:
    network = entry.network  # type: ignore[attr-defined]
    address = network[number % network.num_addresses]
    assert not is_public(address)
    with pytest.raises(RefusedAddressError):
        Guard().check_address("any.example", address, 80)


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_no_more_public_than_itself(
    address: ipaddress.IPv4Address,
) -> None:
    value = int(address)
    embedding = [
        (0x64FF9B << 96) | value,
        (0xFFFF << 32) | value,
        (0x2002 << 112) | (value << 80),
        (0x2001 << 112) | (value ^ 0xFFFF_FFFF),
        (0x2606_4700 << 96) | (0x5EFE << 32) | value,
        (0x2606_4700 << 96) | (0x0200_5EFE << 32) | value,
        (0x64FF_9B00_01 << 80) | value,
        value,
    ]
    for number in embedding:
        assert is_public(ipaddress.IPv6Address(number)) <= is_public(address)


@pytest.mark.parametrize(
    "address", ["fe80::1%eth0", "fe80::1%1", "2606:4700::1%eth0", "ff02::1%lo"]
)
def test_an_address_of_an_interface_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    parsed = parse_address(address)
    assert parsed is not None and not is_public(parsed)


SPELLINGS = _words("""
127.0.0.1 127.1 127.0.1 127.0.0.1. 0177.0.0.1 0x7f.0.0.1 0x7f000001 2130706433 017700000001 0
0.0.0.0 0x0 00000000 0.0.0.0. 127.0.0.01 127.000.000.001 0x7f.1 0X7F000001 ::1 127.0.0.1%00
127%2e0%2e0%2e1 %31%32%37.0.0.1 127.0.0.1%2f 127。0。0。1 １２７.0.0.1 ①②⑦.0.0.1 127.0.0.⓵
⑯⑨.254.169.254
169.254.169.254. 169.254.43518 0xa9fea9fe 2852039166 0251.0376.0251.0376 [::1] [0:0:0:0:0:0:0:1]
[::] [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:FFFF:127.0.0.1] [::127.0.0.1]
[::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:FF9B::A9FE:A9FE] [64:ff9b:1::7f00:1]
[2002:7f00:1::] [2002:a9fe:a9fe::1] [2001:0:1::80ff:fffe] [2001::80ff:fffe] [fe80::1]
[fe80::1%25eth0] [fe80::1%eth0] [::1%lo] [fec0::1] [fd00:ec2::254] [fd00:ec2:0::254] [FD00:EC2::254]
[fc00::1] [ff02::1] [100::1] [2606:4700::5efe:7f00:1] [2606:4700::200:5efe:10.0.0.1] [5f00::1]
[3fff::1] [3fff:fff::1] 192.0.0.192 100.100.100.200 168.63.129.16 [::ffff:168.63.129.16] 192.88.99.1
224.0.0.1 255.255.255.255
""")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_a_private_address_is_requested(spelling: str) -> None:
    """It is refused as a URL or by the guard, or is a name that no system reads as an address."""
    for url in (f"http://{spelling}/x", f"http://{spelling}:80/x", f"http:\\\\{spelling}/x"):
        try:
            host = host_of(normalize(url))
        except InvalidURLError:
            continue
        with suppress(RefusedAddressError):
            Guard().check(host, 80)
            with pytest.raises(OSError):
                socket.inet_aton(host)
            assert parse_address(host) is None
