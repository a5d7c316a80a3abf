"""The hosts that a recipe allows although they are private: names, addresses and networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from curation.media.web.host_names import canonical_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

VALID = (
    "Valid: a name (`images.example`), `*.` and a name for all its subdomains, an address (`10.0.0.7`) "
    "or a network (`10.0.0.0/8`), without scheme, port and path."
)


@dataclass(frozen=True)
class AllowList:
    """Hosts that may be requested.

    Attributes:
        names: as `canonical_host` writes them.
        parents: names whose subdomains are allowed.
        networks: addresses, and networks of addresses.
    """

    names: frozenset[str]
    parents: frozenset[str]
    networks: tuple[Network, ...]

    def has_name(self, host: str) -> bool:
        """Whether a host that is written as a name is listed."""
        labels = host.lower().removesuffix(".").split(".")
        parents = (".".join(labels[i:]) for i in range(1, len(labels)))
        return ".".join(labels) in self.names or any(p in self.parents for p in parents)

    def has_address(self, *addresses: Address) -> bool:
        """Whether one of some addresses is in a listed network."""
        return within(addresses, self.networks)


def within(addresses: Iterable[Address], networks: Iterable[Network]) -> bool:
    """Whether one of some addresses is in one of some networks."""
    networks = tuple(networks)
    return any(a in n for a in addresses for n in networks if n.version == a.version)


def parse_allow_list(entries: Iterable[str]) -> AllowList:
    """Return the hosts of `allow_hosts`.

    Raises:
        ValueError: an entry would allow nothing, or more than it says.
    """
    names: set[str] = set()
    parents: set[str] = set()
    networks: list[Network] = []
    for entry in entries:
        text = entry.strip()
        try:
            # A zone (`%eth0`) names a network interface of this machine.
            if "%" in text:
                raise ValueError("a zone")
            networks.append(ipaddress.ip_network(text.removeprefix("[").removesuffix("]"), False))
            continue
        except ValueError:
            pass
        try:
            if text.startswith(("*.", ".")):
                parents.add(_name(text.removeprefix("*").removeprefix(".")))
            else:
                names.add(_name(text))
        except ValueError as error:
            raise ValueError(f"{entry!r} names no host ({error}). {VALID}") from error
    return AllowList(frozenset(names), frozenset(parents), tuple(networks))


def _name(text: str) -> str:
    if "*" in text:
        raise ValueError("`*` is valid only before a dot at the beginning")
    return canonical_host(text)
