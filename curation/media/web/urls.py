"""URLs: one spelling for each resource (RFC 3986), and which of them are not asked for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from pathlib import Path

from yarl import URL

from curation.engine.context import Context
from curation.engine.store import Store
from curation.errors import RecipeError, StoreError
from curation.media.web.params import UrlParams

_CONTROL = re.compile(r"[\x00-\x20\x7f\\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_HOST = 253


class RefusedURLError(ValueError):
    """A URL that is not asked for; `reason` is what the row says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalize(url: str) -> str:
    """Return the one spelling of an http or https URL.

    Scheme and host in lower case, host in its ASCII form, no default port, no fragment, no dot
    segments, percent-escapes only where they are needed and in upper case, `/` for an empty path.

    Raises:
        RefusedURLError: `bad_scheme` or `bad_url`.
    """
    url = url.strip()
    if not url or _CONTROL.search(url.replace(" ", "")):
        raise RefusedURLError("bad_url")
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1].lower() not in ("http", "https"):
        raise RefusedURLError("bad_scheme")
    try:
        parsed = URL(url)
        host = _checked_host(parsed.raw_host or "")
        if parsed.user is not None or parsed.password is not None or parsed.port == 0:
            raise RefusedURLError("bad_url")
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
    except RefusedURLError:
        raise
    except (ValueError, TypeError) as error:
        raise RefusedURLError("bad_url") from error


def host_of(url: str) -> str:
    """Return the host of a normalised URL, for all its ports one; of IPv6 what stands before `]`."""
    authority = url.split("/", 3)[2]
    return authority.split("]", 1)[0] if authority.startswith("[") else authority.split(":", 1)[0]


@lru_cache(maxsize=65_536)
def _checked_host(host: str) -> str:
    """Return a host, without its brackets or in ASCII, as it stands in an authority.

    Raises:
        RefusedURLError: `bad_url`.
    """
    host = host.lower()
    if ":" in host:
        # A zone names an interface of the machine that asks, never a place on the web.
        if "%" in host:
            raise RefusedURLError("bad_url")
        return f"[{host}]"
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise RefusedURLError("bad_url")
    if "xn--" in host:
        # Decoding it says whether it is a name at all.
        _ = URL.build(scheme="http", host=host).host
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        # `127.1` and `0x7f000001` are addresses to some tools and names to others.
        return str(IPv4Address(host))
    return host


@dataclass(frozen=True)
class BlockedDomains:
    """A list of domains kept in the store, so that workers need no file of the driver's machine.

    One domain a line; `#` begins a comment, a leading `.` or `*.` is ignored.
    """

    store: Store
    path: str
    content: str

    def domains(self) -> frozenset[str]:
        """Return the domains in ASCII form."""
        return _load_domains(self.store.uri, self.path)


@lru_cache(maxsize=4)
def _load_domains(store_uri: str, path: str) -> frozenset[str]:
    content = Store(store_uri).get(path)
    if content is None:
        raise StoreError(f"{store_uri}/{path} has vanished. Run the same command again.")
    return parse_domains(content)


def parse_domains(content: bytes) -> frozenset[str]:
    """Return the domains that the text of a block list names, in ASCII form."""
    found = set()
    for line in content.decode("utf-8-sig", errors="replace").splitlines():
        name = line.split("#", 1)[0].strip().lower().removeprefix("*").strip(".")
        if not name:
            continue
        try:
            found.add(_checked_host(URL.build(scheme="http", host=name).raw_host or ""))
        except ValueError:
            found.add(name)
    return frozenset(found)


@dataclass(frozen=True)
class Rules:
    """Which URLs are asked for. Blocked domains include their subdomains."""

    max_url_length: int = 8192
    patterns: tuple[str, ...] = ()
    blocked: BlockedDomains | None = None

    @property
    def content(self) -> list[object]:
        """What memos depend on."""
        blocked = self.blocked.content if self.blocked else None
        return [self.max_url_length, list(self.patterns), blocked]

    def judge(self, url: str) -> tuple[str | None, str | None]:
        """Return the normalised URL, if it has one, and the reason not to ask for it, if any."""
        if len(url) > self.max_url_length:
            return None, "bad_url"
        try:
            found = normalize(url)
        except RefusedURLError as refused:
            return None, refused.reason
        if self.blocked and _is_blocked(found, self.blocked.domains()):
            return found, "blocked_domain"
        if any(p.search(found) or p.search(url) for p in _compiled(self.patterns)):
            return found, "blocked_pattern"
        return found, None


def rules_of(params: UrlParams, context: Context) -> Rules:
    """Return the rules for URLs, with the block list put where workers can read it.

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
                "Give a text file with one domain a line."
            ) from error
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"work/{context.work}/blocked/{sha256}.txt"
        if context.store.get(path) != content:
            context.store.put(path, content)
        blocked = BlockedDomains(context.store, path, sha256)
    return Rules(params.max_url_length, tuple(params.blocked_patterns), blocked)


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(p) for p in patterns)


def _is_blocked(normalized: str, domains: frozenset[str]) -> bool:
    host = normalized.split("/", 3)[2]
    if host.startswith("["):
        return host.split("]", 1)[0] + "]" in domains
    labels = host.split(":", 1)[0].split(".")
    return any(".".join(labels[i:]) in domains for i in range(len(labels)))
