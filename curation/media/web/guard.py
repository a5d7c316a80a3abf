"""Which IP addresses may be requested: only public ones, and those that the recipe allows.

This prevents server-side request forgery (SSRF). Names are resolved here, and connections use only
addresses that were checked, so a name cannot change its address between the check and the connection
(DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from aiohttp.abc import AbstractResolver, ResolveResult

from curation.media.web.allow_list import Address, Network, parse_allow_list, within
from curation.media.web.lookups import Lookups

# Networks that `is_global` calls public although they are not: Azure's host agent, deprecated
# site-local addresses, and networks whose addresses contain other addresses (as 6to4 and Teredo).
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(n)
    for n in (
        "168.63.129.16/32",
        "192.88.99.0/24",
        "::/96",
        "2002::/16",
        "64:ff9b:1::/48",
        "2001::/32",
        "fec0::/10",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class PrivateAddressError(OSError):
    """A host has no address that may be requested."""


def parse_address(host: str) -> Address | None:
    """Return the address that a host is written as, or None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return None


def embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address contains, or the address itself.

    Known forms are NAT64 (RFC 6052), IPv4-mapped (RFC 4291, section 2.5.5.2) and 6to4 (RFC 3056).
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, also if it is embedded in an IPv6 address."""
    target = embedded_ipv4(address)
    if not target.is_global or target.is_multicast or target.is_reserved:
        return False
    return not within((address, target), _NOT_PUBLIC)


class Guard:
    """Decides which hosts and addresses may be requested.

    Args:
        allow_hosts: names, addresses or networks (CIDR) that may be requested even if private.
    """

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        self._allowed = parse_allow_list(allow_hosts)

    def is_listed(self, host: str) -> bool:
        """Whether `allow_hosts` contains a name, or the address that a host is written as."""
        address = parse_address(host)
        return (
            self._allowed.has_name(host) if address is None else self._allowed.has_address(address)
        )

    def may_request(self, host: str) -> bool:
        """Whether a host may be requested, as far as this is known before its name is resolved."""
        address = parse_address(host)
        return address is None or self.allows(host, address)

    def allows(self, host: str, address: Address) -> bool:
        """Whether `host` may be requested at `address`."""
        if is_public(address) or self._allowed.has_name(host):
            return True
        return self._allowed.has_address(address, embedded_ipv4(address))

    def check_literal(self, host: str) -> None:
        """Check a host that is written as an address, since no resolver sees it.

        Raises:
            PrivateAddressError: the address may not be requested.
        """
        if not self.may_request(host):
            raise PrivateAddressError(f"{host} is not public")


class GuardedResolver(AbstractResolver):
    """Returns the addresses of a name that the guard allows."""

    def __init__(self, guard: Guard, lookups: Lookups) -> None:
        self._guard, self._lookups = guard, lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the allowed addresses of `host`.

        Raises:
            PrivateAddressError: it has addresses, but none is allowed.
            OSError: it has no address.
        """
        results = []
        for kind, protocol, text in await self._lookups.addresses(host):
            address = parse_address(text)
            if address is None or not self._guard.allows(host, address):
                continue
            if family not in (socket.AF_UNSPEC, kind):
                continue
            results.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not results:
            raise PrivateAddressError(None, f"{host} has no public address")
        return results

    async def close(self) -> None:
        """Do nothing: look-ups that still run end with the process."""
