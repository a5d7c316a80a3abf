"""Normalised URLs (RFC 3986, section 6), and which URLs are not requested."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, fields
from functools import lru_cache

from curation.engine.context import Context
from curation.engine.units import content_of
from curation.errors import RecipeError, StoreError
from curation.media.regular_file import open_regular
from curation.media.web.block_list import parse_block_list
from curation.media.web.failure_reasons import FORGOTTEN
from curation.media.web.fetch_error import unforeseen
from curation.media.web.host_names import canonical_host
from curation.media.web.params import UrlParams
from curation.media.web.patterns import is_found
from curation.store.store import Store
from curation.store.tombstones import Takedowns

_SPACE = " \t\n\r\v\f"
_LINE_BREAKS = str.maketrans("", "", "\t\n\r")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT = 65_535
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What browsers escape (WHATWG URL, section 1.3). They also escape `'` in queries, which RFC 3986
# reserves: another meaning is possible, so it stays.
_UNSAFE_IN_PATH = re.compile(r"[^!$%&\'()*+,\-./0-9:;=@A-Z\[\]_a-z|~]+")
_UNSAFE_IN_QUERY = re.compile(r"[^!$%&\'()*+,\-./0-9:;=?@A-Z\[\\\]^_`a-z{|}~]+")
MAX_BLOCK_LIST_BYTES = 256 * 2**20
"""Largest block list, in bytes."""


class InvalidURLError(ValueError):
    """A URL that cannot be requested; `reason` is the code that its row gets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalize(url: str) -> str:
    """Return an http or https URL in its normal form (RFC 3986, sections 6.2.2 and 6.2.3).

    Only what cannot change the meaning is normalised: the case of scheme, host and hexadecimal digits,
    escapes of unreserved characters, default ports, dot segments, and the form of the host
    (`canonical_host`). Fragments are not sent, so they are removed. What RFC 3986 does not permit is
    written as browsers send it (WHATWG URL): a space and other characters as escapes of UTF-8, `\\` in
    a path as `/`; tabs and line breaks are removed. Bytes that stand as surrogates (PEP 383) are
    escaped as they are.

    Raises:
        InvalidURLError: its reason is `bad_scheme` or `bad_url`.
    """
    url = _clean(url)
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1].lower() not in _DEFAULT_PORTS:
        raise InvalidURLError("bad_scheme" if url else "bad_url")
    hierarchy, mark, query = url[scheme.end() :].split("#", 1)[0].partition("?")
    authority, path = _split_authority(hierarchy)
    try:
        origin = f"{scheme[1].lower()}://{_authority(authority, scheme[1].lower())}"
        path = _without_dot_segments(_escaped(path, _UNSAFE_IN_PATH))
        return f"{origin}/{path}{mark}{_escaped(query, _UNSAFE_IN_QUERY)}"
    except ValueError as error:
        raise InvalidURLError("bad_url") from error


def join(base: str, reference: str) -> str:
    """Return the normalised URL to which a reference leads from a normalised URL (WHATWG URL).

    Raises:
        InvalidURLError: its reason is `bad_scheme` or `bad_url`.
    """
    reference = _clean(reference)
    scheme, base_scheme = _SCHEME.match(reference), base.split(":", 1)[0]
    if scheme is not None:
        after = reference[scheme.end() :]
        if scheme[1].lower() != base_scheme or after[:2].replace("\\", "/") == "//":
            return normalize(reference)
        # As browsers: of the scheme of the base, without a host, it is relative.
        reference = after
    origin = "/".join(base.split("/", 3)[:3])
    path = base[len(origin) :].split("?", 1)[0]
    start = reference[:2].replace("\\", "/")
    if start == "//":
        return normalize(f"{base_scheme}:{reference}")
    if start.startswith("/"):
        return normalize(origin + reference)
    if not reference or reference.startswith("#"):
        return normalize(base)
    if reference.startswith("?"):
        return normalize(origin + path + reference)
    return normalize(origin + path[: path.rindex("/") + 1] + reference)


def normal_path(text: str) -> str:
    """Return path and query in the form in which normalised URLs have them, dot segments aside."""
    path, mark, query = text.partition("?")
    return f"{_escaped(path, _UNSAFE_IN_PATH)}{mark}{_escaped(query, _UNSAFE_IN_QUERY)}"


def host_of(url: str) -> str:
    """Return the host of a normalised URL without its port; an IPv6 address is `[` and the address."""
    authority = url.split("/", 3)[2]
    return authority.split("]", 1)[0] if authority.startswith("[") else authority.split(":", 1)[0]


def port_of(url: str) -> int:
    """Return the port of a normalised URL."""
    scheme, _, authority = url.split("/", 3)[:3]
    port = authority.rpartition(":")[2] if ":" in authority.rpartition("]")[2] else ""
    return int(port or _DEFAULT_PORTS[scheme.removesuffix(":")])


def host_in(url: str) -> str | None:
    """Return the host of any URL without its port, or None if it cannot be requested."""
    normalized = UrlRules(max_url_length=max(len(url), 1)).check(url)[0]
    return None if normalized is None else host_of(normalized)


def _clean(url: str) -> str:
    url = url.strip(_SPACE).translate(_LINE_BREAKS)
    if _CONTROL.search(url):
        raise InvalidURLError("bad_url")
    return url


def _split_authority(hierarchy: str) -> tuple[str, str]:
    """Return the authority, and the path without its first slash."""
    if "\\" in hierarchy:
        # Browsers read the host before the backslash, other programs the one after the `@`.
        if "@" in hierarchy.lstrip("/\\").split("/", 1)[0]:
            raise InvalidURLError("bad_url")
        hierarchy = hierarchy.replace("\\", "/")
    authority, _, path = hierarchy.removeprefix("/").removeprefix("/").partition("/")
    return authority, path


def _authority(authority: str, scheme: str) -> str:
    """Return host and port.

    Raises:
        ValueError: they are not valid, or there is a user name.
    """
    user, _, host = authority.rpartition("@")
    if user.strip(":"):
        raise ValueError("a user name or password")
    bracket = host.rfind("]")
    colon = host.find(":", bracket + 1)
    host, port = (host, "") if colon < 0 else (host[:colon], host[colon + 1 :])
    host = canonical_host(host)
    if not port:
        return host
    port = port.lstrip("0") or "0"
    if not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
        raise ValueError("a wrong port")
    return host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _escaped(text: str, unsafe: re.Pattern[str]) -> str:
    """Return a path or a query with escapes in one form, and with what must be escaped as escapes."""
    if "%" in text:
        # Beside a `%` that begins no escape, an unescaped character could make one.
        keep = _STRAY_PERCENT.search(text) is not None
        text = _ESCAPE.sub(lambda match: _normal_escape(match[0], keep), text)
    return unsafe.sub(_escape, text)


def _normal_escape(escape: str, keep: bool) -> str:
    char = chr(int(escape[1:], 16))
    return char if char in _UNRESERVED and not keep else escape.upper()


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def _without_dot_segments(path: str) -> str:
    """Return a path (without its first slash) without `.` and `..` (RFC 3986, section 5.2.4)."""
    if "." not in path and "%2E" not in path:
        return path
    segments: list[str] = []
    names = path.split("/")
    for number, name in enumerate(names):
        plain = name.replace("%2E", ".")
        if plain == "..":
            del segments[-1:]
        elif plain != ".":
            segments.append(name)
        if plain in (".", "..") and number == len(names) - 1:
            segments.append("")
    return "/".join(segments)


@dataclass(frozen=True)
class BlockedDomains:
    """A block list that is copied to the store, so that workers need no file of the driver's machine.

    Attributes:
        store: where the copy is.
        path: of the copy within the store; it has one domain per line, in the form of
            `canonical_host`.
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
            f"{blocked.store.address(blocked.path)} is missing",
            fix="Run the same command again",
        )
    return frozenset(content.decode().split())


@dataclass(frozen=True)
class UrlRules:
    """Which URLs are requested.

    Attributes:
        max_url_length: in characters.
        patterns: regular expressions of blocked URLs.
        blocked: blocked domains, with all their subdomains.
        takedowns: what was taken down. No memo depends on it: what holds any of it counts as vanished.
    """

    max_url_length: int = 8192
    patterns: tuple[str, ...] = ()
    blocked: BlockedDomains | None = None
    takedowns: Takedowns | None = field(default=None, compare=False, repr=False)

    @property
    def content(self) -> dict[str, object]:
        """What memos depend on: the rules that are not at their default."""
        rules = [rule for rule in fields(self) if rule.compare]
        values = {rule.name: getattr(self, rule.name) for rule in rules}
        defaults = {rule.name: rule.default for rule in rules}
        return {name: content_of(v) for name, v in values.items() if v != defaults[name]}

    def check(self, url: str) -> tuple[str | None, str | None]:
        """Return the normalised URL, and the reason not to request it.

        The URL is None if it is invalid, and the reason is None if the URL may be requested. No URL
        raises an error: one that nothing foresaw is a reason, too.
        """
        normalized, reason = self._check(url)
        if self.takedowns is not None and self.takedowns.has_url(normalized or url.strip()):
            return normalized, FORGOTTEN
        return normalized, reason

    def _check(self, url: str) -> tuple[str | None, str | None]:
        if len(url) > self.max_url_length:
            return None, "bad_url"
        try:
            normalized = normalize(url)
        except InvalidURLError as error:
            return None, error.reason
        except Exception as error:
            return None, unforeseen(error).reason
        if self.blocked and _is_blocked(normalized, self.blocked.domains()):
            return normalized, "blocked_domain"
        if is_found(self.patterns, normalized, url):
            return normalized, "blocked_pattern"
        return normalized, None


def url_rules(params: UrlParams, context: Context) -> UrlRules:
    """Return the URL rules of a recipe. The block list is copied to the store for the workers.

    Raises:
        RecipeError: the block list cannot be read, or a line of it has no valid form.
    """
    blocked = None
    if params.blocked_domains is not None:
        domains = parse_block_list(_read(params.blocked_domains), params.blocked_domains)
        # The order and the form of the lines change no row.
        content = "".join(f"{domain}\n" for domain in sorted(domains)).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"work/{context.work}/blocked/{sha256}.txt"
        if context.store.storage.read(path) != content:
            context.store.storage.write(path, content)
        blocked = BlockedDomains(context.store, path, sha256)
    patterns = tuple(params.blocked_patterns)
    return UrlRules(params.max_url_length, patterns, blocked, context.store.takedowns())


def _read(blocked_domains: str) -> bytes:
    fix = "Give a text file with one domain per line"
    try:
        with open_regular(blocked_domains) as stream:
            content = stream.read(MAX_BLOCK_LIST_BYTES + 1)
    except OSError as error:
        raise RecipeError(
            f"ingest.blocked_domains: {blocked_domains!r} cannot be read ({error})", fix=fix
        ) from error
    if len(content) > MAX_BLOCK_LIST_BYTES:
        raise RecipeError(
            f"ingest.blocked_domains: {blocked_domains!r} has more than "
            f"{MAX_BLOCK_LIST_BYTES >> 20} MiB",
            fix=fix,
        )
    return content


def _is_blocked(normalized: str, domains: frozenset[str]) -> bool:
    host = normalized.split("/", 3)[2]
    if host.startswith("["):
        return host.split("]", 1)[0] + "]" in domains
    labels = host.split(":", 1)[0].split(".")
    return any(".".join(labels[i:]) in domains for i in range(len(labels)))
