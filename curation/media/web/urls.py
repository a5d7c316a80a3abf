"""Normalised URLs (RFC 3986, section 6), and which URLs are not requested."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, fields
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path

from yarl import URL

from curation.engine.context import Context
from curation.engine.units import content_of
from curation.errors import RecipeError, StoreError
from curation.media.web.params import UrlParams
from curation.store.store import Store

_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_HOST = 253


class InvalidURLError(ValueError):
    """A URL that cannot be requested; `reason` is the code that its row gets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalize(url: str) -> str:
    """Return an http or https URL in its normal form (RFC 3986, sections 6.2.2 and 6.2.3).

    Scheme and host are in lower case and the host in its ASCII form (IDNA). Default ports, fragments
    and dot segments are removed. Percent-encoding is upper case, and only where it is needed. An empty
    path becomes `/`.

    Raises:
        InvalidURLError: its reason is `bad_scheme` or `bad_url`.
    """
    url = url.strip()
    if not url or _CONTROL.search(url.replace(" ", "")):
        raise InvalidURLError("bad_url")
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1].lower() not in ("http", "https"):
        raise InvalidURLError("bad_scheme")
    try:
        parsed = URL(url)
        host = _checked_host(parsed.raw_host or "")
        if parsed.user is not None or parsed.password is not None or parsed.port == 0:
            raise InvalidURLError("bad_url")
        port = None if parsed.port == {"http": 80, "https": 443}[parsed.scheme] else parsed.port
        return str(
            URL.build(
                scheme=parsed.scheme,
                authority=host if port is None else f"{host}:{port}",
                path=parsed.raw_path or "/",
                query_string=parsed.raw_query_string,
                encoded=True,
            )
        )
    except InvalidURLError:
        raise
    except (ValueError, TypeError) as error:
        raise InvalidURLError("bad_url") from error


def host_of(url: str) -> str:
    """Return the host of a normalised URL without its port; an IPv6 address is `[` and the address."""
    authority = url.split("/", 3)[2]
    return authority.split("]", 1)[0] if authority.startswith("[") else authority.split(":", 1)[0]


@lru_cache(maxsize=65_536)
def _checked_host(host: str) -> str:
    """Return a host in lower case, as it is written in a URL.

    Args:
        host: an ASCII name, or an address without brackets.

    Raises:
        InvalidURLError: its reason is `bad_url`.
    """
    host = host.lower()
    if ":" in host:
        # A zone identifier names a network interface of this machine.
        if "%" in host:
            raise InvalidURLError("bad_url")
        return f"[{host}]"
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidURLError("bad_url")
    if "xn--" in host:
        # Decoding raises an error for an invalid name.
        _ = URL.build(scheme="http", host=host).host
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        # Some tools read `127.1` and `0x7f000001` as addresses, others as names.
        return str(IPv4Address(host))
    return host


@dataclass(frozen=True)
class BlockedDomains:
    """A block list that is copied to the store, so that workers need no file of the driver's machine.

    It has one domain per line; `#` begins a comment, and a leading `.` or `*.` is ignored.

    Attributes:
        store: where the copy is.
        path: of the copy within the store.
        content: SHA-256 of the list, for memos.
    """

    # Lists with the same content are the same list.
    store: Store = field(compare=False)
    path: str
    content: str

    def domains(self) -> frozenset[str]:
        """Return the domains in ASCII form (IDNA)."""
        return _load_domains(self)


@lru_cache(maxsize=4)
def _load_domains(blocked: BlockedDomains) -> frozenset[str]:
    content = blocked.store.storage.read(blocked.path)
    if content is None:
        raise StoreError(
            f"{blocked.store.address(blocked.path)} is missing. Run the same command again."
        )
    return parse_domains(content)


def parse_domains(content: bytes) -> frozenset[str]:
    """Return the domains of a block list in ASCII form (IDNA)."""
    domains = set()
    for line in content.decode("utf-8-sig", errors="replace").splitlines():
        name = line.split("#", 1)[0].strip().lower().removeprefix("*").strip(".")
        if not name:
            continue
        try:
            domains.add(_checked_host(URL.build(scheme="http", host=name).raw_host or ""))
        except ValueError:
            domains.add(name)
    return frozenset(domains)


@dataclass(frozen=True)
class UrlRules:
    """Which URLs are requested.

    Attributes:
        max_url_length: in characters.
        patterns: regular expressions of blocked URLs.
        blocked: blocked domains, with all their subdomains.
    """

    max_url_length: int = 8192
    patterns: tuple[str, ...] = ()
    blocked: BlockedDomains | None = None

    @property
    def content(self) -> dict[str, object]:
        """What memos depend on: the rules that are not at their default."""
        values = {rule.name: getattr(self, rule.name) for rule in fields(self)}
        defaults = {rule.name: rule.default for rule in fields(self)}
        return {name: content_of(v) for name, v in values.items() if v != defaults[name]}

    def check(self, url: str) -> tuple[str | None, str | None]:
        """Return the normalised URL, and the reason not to request it.

        The URL is None if it is invalid, and the reason is None if the URL may be requested.
        """
        if len(url) > self.max_url_length:
            return None, "bad_url"
        try:
            normalized = normalize(url)
        except InvalidURLError as error:
            return None, error.reason
        if self.blocked and _is_blocked(normalized, self.blocked.domains()):
            return normalized, "blocked_domain"
        if any(p.search(normalized) or p.search(url) for p in _compiled(self.patterns)):
            return normalized, "blocked_pattern"
        return normalized, None


def url_rules(params: UrlParams, context: Context) -> UrlRules:
    """Return the URL rules of a recipe. The block list is copied to the store for the workers.

    Raises:
        RecipeError: the block list cannot be read.
    """
    blocked = None
    if params.blocked_domains is not None:
        try:
            content = Path(params.blocked_domains).read_bytes()
        except OSError as error:
            raise RecipeError(
                f"ingest.blocked_domains: {params.blocked_domains!r} cannot be read ({error}). "
                "Give a text file with one domain per line."
            ) from error
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"work/{context.work}/blocked/{sha256}.txt"
        if context.store.storage.read(path) != content:
            context.store.storage.write(path, content)
        blocked = BlockedDomains(context.store, path, sha256)
    return UrlRules(params.max_url_length, tuple(params.blocked_patterns), blocked)


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(p) for p in patterns)


def _is_blocked(normalized: str, domains: frozenset[str]) -> bool:
    host = normalized.split("/", 3)[2]
    if host.startswith("["):
        return host.split("]", 1)[0] + "]" in domains
    labels = host.split(":", 1)[0].split(".")
    return any(".".join(labels[i:]) in domains for i in range(len(labels)))
