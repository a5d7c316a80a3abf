"""The hosts that a recipe allows although they are private: names, addresses and networks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from curation.media.web.host_names import canonical_host
from curation.media.web.special_addresses import Address, Network

VALID = (
    "Valid: a name (`images.example`), `*.` and a name for all its subdomains, an address (`10.0.0.7`) "
    "or a network (`10.0.0.0/8`), each with a port (`10.0.0.7:8080`, `[fd00::7]:8080`) if it is "
    "allowed at that one alone; without scheme and path."
)
_PORT = re.compile(r"(?P<host>[^:]+|\[[^]]*\](?:/\d+)?):(?P<port>[1-9]\d{0,4})", re.ASCII)
_MAX_PORT = 65_535

Ports = frozenset[int | None]
"""Ports of an entry; None stands for all."""


@dataclass(frozen=True)
class AllowList:
    """Hosts that may be requested, and at which ports.

    Attributes:
        names: as `canonical_host` writes them.
        parents: names whose subdomains are allowed.
        networks: addresses, and networks of addresses.
    """

    names: Mapping[str, Ports]
    parents: Mapping[str, Ports]
    networks: Mapping[Network, Ports]

    def has_name(self, host: str, port: int | None) -> bool:
        """Whether a host that is written as a name is listed with a port, or at all if that is None."""
        labels = host.lower().removesuffix(".").split(".")
        parents = (".".join(labels[i:]) for i in range(1, len(labels)))
        listed = [self.names.get(".".join(labels)), *(self.parents.get(p) for p in parents)]
        return any(_has(ports, port) for ports in listed if ports)

    def has_address(self, addresses: Iterable[Address], port: int | None) -> bool:
        """Whether one of some addresses is in a network that is listed with a port, or at all."""
        return any(
            _has(ports, port)
            for address in addresses
            for network, ports in self.networks.items()
            if network.version == address.version and address in network
        )

    def names_port(self, port: int) -> bool:
        """Whether a network is listed with a port, so that a name may lead to it."""
        return any(_has(ports, port) for ports in self.networks.values())


def _has(ports: Ports, port: int | None) -> bool:
    return port is None or port in ports or None in ports


def parse_allow_list(entries: Iterable[str]) -> AllowList:
    """Return the hosts of `allow_hosts`.

    Raises:
        ValueError: an entry would allow nothing, or more than it says.
    """
    names: dict[str, Ports] = {}
    parents: dict[str, Ports] = {}
    networks: dict[Network, Ports] = {}
    for entry in entries:
        text, port = _split_port(entry.strip())
        network = _network(text)
        if network is not None:
            networks[network] = networks.get(network, frozenset()) | {port}
            continue
        try:
            table = parents if text.startswith(("*.", ".")) else names
            name = _name(text.removeprefix("*").removeprefix(".") if table is parents else text)
            table[name] = table.get(name, frozenset()) | {port}
        except ValueError as error:
            raise ValueError(f"{entry!r} names no host ({error}). {VALID}") from error
    return AllowList(names, parents, networks)


def _split_port(text: str) -> tuple[str, int | None]:
    matched = _PORT.fullmatch(text)
    if matched is None or int(matched["port"]) > _MAX_PORT:
        return text, None
    return matched["host"], int(matched["port"])


def _network(text: str) -> Network | None:
    # A zone (`%eth0`) names a network interface of this machine.
    if "%" in text:
        return None
    try:
        return ipaddress.ip_network(text.replace("[", "", 1).replace("]", "", 1), False)
    except ValueError:
        return None


def _name(text: str) -> str:
    if "*" in text:
        raise ValueError("`*` is valid only before a dot at the beginning")
    return canonical_host(text)
