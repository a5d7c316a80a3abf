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

from curation.media.web.allow_list import parse_allow_list
from curation.media.web.lookups import Lookups
from curation.media.web.special_addresses import Address, embedded_ipv4, is_public

WEB_PORTS = frozenset({80, 443})
"""Ports that may be requested at any public host."""
_MAX_PERMITTED = 10_000
"""Hosts, each with a port, of which it is kept that they may be requested."""


class RefusedAddressError(OSError):
    """A host and port may not be requested; `reason` is the code that its row gets."""

    reason = "private_address"


class PrivateAddressError(RefusedAddressError):
    """A host has no address that may be requested."""


class BlockedPortError(RefusedAddressError):
    """A host may be requested, but not at this port."""

    reason = "blocked_port"


def parse_address(host: str) -> Address | None:
    """Return the address that a host is written as, with its zone, or None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


class Guard:
    """Decides which hosts, addresses and ports may be requested.

    Args:
        allow_hosts: names, addresses or networks (CIDR) that may be requested even if private: at the
            port of an entry, or at all ports if it names none.
        ports: ports that may be requested at all public hosts, besides WEB_PORTS.
    """

    def __init__(self, allow_hosts: Iterable[str] = (), ports: Iterable[int] = ()) -> None:
        self._allowed = parse_allow_list(allow_hosts)
        self._ports = WEB_PORTS | frozenset(ports)
        self._permitted: set[tuple[str, int]] = set()

    def is_listed(self, host: str, port: int | None = None) -> bool:
        """Whether `allow_hosts` contains a name, or the address that a host is written as.

        Args:
            host: a name or an address.
            port: at which it is allowed; None for any.
        """
        address = parse_address(host)
        return self._allowed.has_name(host, port) or (
            address is not None
            and self._allowed.has_address((address, embedded_ipv4(address)), port)
        )

    def may_request(self, host: str, port: int) -> bool:
        """Whether a host may be requested, as far as this is known before its name is resolved."""
        try:
            self.check(host, port)
        except RefusedAddressError:
            return False
        return True

    def check(self, host: str, port: int) -> None:
        """Check a host and a port before a request; of a name, the resolver checks its addresses.

        Raises:
            RefusedAddressError: it may not be requested.
        """
        if (host, port) in self._permitted:
            return
        address = parse_address(host)
        if address is not None:
            self.check_address(host, address, port)
        if len(self._permitted) >= _MAX_PERMITTED:
            self._permitted.clear()
        self._permitted.add((host, port))

    def may_request_port(self, port: int) -> bool:
        """Whether any host may be requested at a port, though `allow_hosts` does not name the host."""
        return port in self._ports or self._allowed.names_port(port)

    def check_address(self, host: str, address: Address, port: int) -> None:
        """Check one address of `host`.

        Raises:
            PrivateAddressError: it is not public, and not allowed.
            BlockedPortError: it may be requested at other ports.
        """
        places = (address, embedded_ipv4(address))
        if self._allowed.has_name(host, port) or self._allowed.has_address(places, port):
            return
        public = is_public(address)
        if public and port in self._ports:
            return
        if public or self._allowed.has_name(host, None) or self._allowed.has_address(places, None):
            raise BlockedPortError(None, f"port {port} of {host}")
        raise PrivateAddressError(None, f"{host} has no public address")


class GuardedResolver(AbstractResolver):
    """Returns the addresses of a name that the guard allows."""

    def __init__(self, guard: Guard, lookups: Lookups) -> None:
        self._guard, self._lookups = guard, lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the allowed addresses of `host`.

        Raises:
            RefusedAddressError: it has addresses, but none is allowed.
            OSError: it has no address.
        """
        try:
            addresses = await self._lookups.addresses(host)
        except OSError:
            self._check_port(host, port)
            raise
        results, refusal = [], None
        for kind, protocol, text in addresses:
            try:
                self._check(host, text, port)
            except RefusedAddressError as error:
                refusal = error
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
            raise refusal or OSError(None, f"{host} has no address")
        return results

    def _check_port(self, host: str, port: int) -> None:
        """Say of a name without addresses that its port is refused, as it would be with one."""
        if not (self._guard.may_request_port(port) or self._guard.is_listed(host, port)):
            raise BlockedPortError(None, f"port {port} of {host}")

    def _check(self, host: str, resolved: str, port: int) -> None:
        address = parse_address(resolved)
        if address is None:
            raise PrivateAddressError(None, f"{host} has no public address")
        self._guard.check_address(host, address, port)

    async def close(self) -> None:
        """Do nothing: look-ups that still run end with the process."""
