"""Which addresses may be asked: none of this machine, its networks or its cloud, unless allowed.

Names are resolved here and only addresses that passed are connected to, so a name that changes its
address between check and connection gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import Executor

from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by number, but not for the public: Azure's host agent, and what carries other addresses.
_CLOSED: tuple[Network, ...] = tuple(
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
    """A host has no address that may be asked."""


def parse_address(host: str) -> Address | None:
    """Return the address that a host stands for literally, or None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return None


def carried(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, whatever form it is written in."""
    real = carried(address)
    if not real.is_global or real.is_multicast or real.is_reserved:
        return False
    return not any(a in n for a in (address, real) for n in _CLOSED if n.version == a.version)


class Guard:
    """Decides by host and address. `allow_hosts` are names, addresses, or networks as CIDR."""

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow_hosts:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def names(self, host: str) -> bool:
        """Whether `allow_hosts` names a host, or the network of a literal address."""
        address = parse_address(host)
        if address is None:
            return host.lower().rstrip(".") in self._names
        return any(address in n for n in self._networks if n.version == address.version)

    def may_ask(self, host: str) -> bool:
        """Whether a host may be asked at all, as far as can be told without resolving its name."""
        address = parse_address(host)
        return address is None or self.admits(host, address)

    def admits(self, host: str, address: Address) -> bool:
        """Whether `host` may be asked at `address`."""
        if is_public(address) or host.lower().rstrip(".") in self._names:
            return True
        real = carried(address)
        return any(
            a in n for a in (address, real) for n in self._networks if n.version == a.version
        )

    def check_literal(self, host: str) -> None:
        """Raise PrivateAddressError for a literal address that may not be asked.

        Such hosts never reach a resolver.
        """
        address = parse_address(host)
        if address is not None and not self.admits(host, address):
            raise PrivateAddressError(f"{host} is not public")


class GuardedResolver(AbstractResolver):
    """Resolves names by the system, and gives away only what the guard admits."""

    def __init__(self, guard: Guard, executor: Executor) -> None:
        self._guard, self._executor = guard, executor

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the admitted addresses of `host`.

        Raises:
            PrivateAddressError: it has addresses, and none is admitted.
            OSError: it has no address.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._executor, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            )
        except UnicodeError as error:
            raise OSError(None, f"{host!r} is no host name") from error
        results = []
        for kind, _, protocol, _, place in found:
            address = parse_address(str(place[0]))
            if address is None or not self._guard.admits(host, address):
                continue
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(place[0]),
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
        """Do nothing: the executor is the caller's."""
