"""Host names and addresses as URLs and lists write them, in one form."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote_to_bytes

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f#%/:<>?@\[\\\]^|]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_HOST = 253
_MAX_LABEL = 63
_MAX_WRITTEN = 4096
"""Characters of a host before escapes are undone: a name that is short enough has fewer."""


def canonical_host(host: str) -> str:
    """Return a host as requests write it: in lower case and ASCII, without a final dot.

    What browsers open is accepted (WHATWG URL, section 3.5): UTS-46 is applied, a label may begin or
    end with a hyphen, and escapes are undone. An IPv4 address must have four decimal numbers, since
    programs read other forms differently.

    Args:
        host: a name, an IPv4 address, or an IPv6 address in brackets.

    Raises:
        ValueError: it has another form.
    """
    if len(host) > _MAX_WRITTEN:
        raise ValueError("it is too long")
    # What is cached has a bound in bytes, too.
    return _cached(host) if len(host) <= _MAX_HOST else _canonical(host)


def _canonical(host: str) -> str:
    if host.startswith("["):
        return _ipv6(host)
    name = _to_ascii(_unescaped(host)).removesuffix(".")
    labels = name.split(".")
    if _FORBIDDEN.search(name) or not name.isascii():
        raise ValueError("it has characters that no host name has")
    if len(name) > _MAX_HOST or not all(0 < len(label) <= _MAX_LABEL for label in labels):
        raise ValueError("a part of the name is empty or too long")
    # Some tools read `127.1` and `0x7f000001` as addresses, others as names.
    return str(IPv4Address(name)) if _NUMBER.fullmatch(labels[-1]) else name


_cached = lru_cache(maxsize=65_536)(_canonical)


def _ipv6(host: str) -> str:
    # A zone identifier names a network interface of this machine.
    if not host.endswith("]") or "%" in host:
        raise ValueError("it is no IPv6 address")
    return f"[{IPv6Address(host[1:-1]).compressed}]"


def _unescaped(host: str) -> str:
    return unquote_to_bytes(host).decode() if "%" in host else host


def _to_ascii(name: str) -> str:
    """Return a name after the processing of UTS-46, with its labels in Punycode."""
    if name.isascii() and "xn--" not in name.lower():
        return name.lower()
    # Airflow reads recipes without this library: it is imported for such names only.
    import idna

    return ".".join(_ascii_label(x) for x in idna.uts46_remap(name, std3_rules=False).split("."))


def _ascii_label(label: str) -> str:
    import idna

    if not label.startswith("xn--"):
        _check_first(label)
        return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
    decoded = label[4:].encode("ascii").decode("punycode")
    _check_first(decoded)
    again = idna.uts46_remap(decoded, std3_rules=False)
    if decoded.isascii() or again != decoded or decoded.encode("punycode").decode() != label[4:]:
        raise ValueError(f"{label} is no name in Punycode")
    return label


def _check_first(label: str) -> None:
    if label and unicodedata.category(label[0]).startswith("M"):
        raise ValueError("a part of the name begins with a combining mark")
