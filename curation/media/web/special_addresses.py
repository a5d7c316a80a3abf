"""Which IP addresses are public: a table of all that are not, since Python's differs by its version.

The table holds the IANA registries of special-purpose addresses (RFC 6890) for IPv4 and IPv6 as they
stood in November 2025, multicast, and addresses of hosts' own services that no registry lists. An entry
counts also where the registry calls it globally reachable: behind none of them is a host with pictures.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SpecialNetwork(NamedTuple):
    """One entry: the network, what it is for, and where that is defined."""

    network: Network
    purpose: str
    defined_in: str


def _table(*rows: tuple[str, str, str]) -> tuple[SpecialNetwork, ...]:
    return tuple(SpecialNetwork(ipaddress.ip_network(row[0]), *row[1:]) for row in rows)


SPECIAL_IPV4 = _table(
    ("0.0.0.0/8", "this network", "RFC 791"),
    ("10.0.0.0/8", "private use", "RFC 1918"),
    ("100.64.0.0/10", "shared address space; metadata of Alibaba Cloud", "RFC 6598"),
    ("127.0.0.0/8", "loopback", "RFC 1122"),
    ("168.63.129.16/32", "host agent of Azure", "Microsoft Azure"),
    ("169.254.0.0/16", "link-local; metadata of clouds", "RFC 3927"),
    ("172.16.0.0/12", "private use", "RFC 1918"),
    ("192.0.0.0/24", "IETF protocols; metadata of Oracle Cloud", "RFC 6890"),
    ("192.0.2.0/24", "documentation", "RFC 5737"),
    ("192.31.196.0/24", "AS112", "RFC 7535"),
    ("192.52.193.0/24", "AMT", "RFC 7450"),
    ("192.88.99.0/24", "relays of 6to4 and 6a44", "RFC 7526"),
    ("192.168.0.0/16", "private use", "RFC 1918"),
    ("192.175.48.0/24", "AS112", "RFC 7534"),
    ("198.18.0.0/15", "benchmarking", "RFC 2544"),
    ("198.51.100.0/24", "documentation", "RFC 5737"),
    ("203.0.113.0/24", "documentation", "RFC 5737"),
    ("224.0.0.0/4", "multicast", "RFC 5771"),
    ("240.0.0.0/4", "reserved, and broadcast", "RFC 1112"),
)
SPECIAL_IPV6 = _table(
    ("::/128", "unspecified", "RFC 4291"),
    ("::1/128", "loopback", "RFC 4291"),
    ("::/96", "IPv4-compatible", "RFC 4291"),
    ("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765"),
    ("64:ff9b:1::/48", "local NAT64", "RFC 8215"),
    ("100::/64", "discard only", "RFC 6666"),
    ("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    ("2001::/23", "IETF protocols: Teredo, AMT, AS112, ORCHID, benchmarking", "RFC 2928"),
    ("2001:db8::/32", "documentation", "RFC 3849"),
    ("2002::/16", "6to4", "RFC 3056"),
    ("2620:4f:8000::/48", "AS112", "RFC 7534"),
    ("3fff::/20", "documentation", "RFC 9637"),
    ("5f00::/16", "SRv6 segments", "RFC 9602"),
    ("fc00::/7", "unique local; metadata of clouds", "RFC 4193"),
    ("fe80::/10", "link-local", "RFC 4291"),
    ("fec0::/10", "site-local", "RFC 3879"),
    ("ff00::/8", "multicast", "RFC 4291"),
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All IPv6 addresses that are assigned to networks (RFC 4291, section 2.4); the rest is refused."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""Upper half of the interface identifiers whose lower half is an IPv4 address (RFC 5214)."""


def embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address contains, or the address itself.

    Known forms are NAT64 (RFC 6052), IPv4-mapped (RFC 4291, section 2.5.5.2), 6to4 (RFC 3056) and
    ISATAP (RFC 5214).
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, also if it is embedded in an IPv6 address.

    An address with a zone names an interface of this machine, so it is not.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not _is_in(address, SPECIAL_IPV4)
    if address.scope_id is not None:
        return False
    target = embedded_ipv4(address)
    if isinstance(target, ipaddress.IPv4Address) and not is_public(target):
        return False
    if address.ipv4_mapped or address in _NAT64:
        return True
    return address in _GLOBAL_UNICAST and not _is_in(address, SPECIAL_IPV6)


def _is_in(address: Address, table: tuple[SpecialNetwork, ...]) -> bool:
    return any(address in entry.network for entry in table)
