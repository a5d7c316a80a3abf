"""Block lists in the forms in which they are published: each line is understood or refused."""

from __future__ import annotations

import codecs
import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from curation.errors import Detail, RecipeError
from curation.media.web.host_names import canonical_host

MAX_LINES_NAMED = 10
"""Lines that an error names."""
MAX_CHARACTERS = 8192
"""Longest line in characters."""
VALID = (
    "one per line, a domain (`x.example`, `*.x.example`), a URL without a path, a line of a hosts file "
    "(`0.0.0.0 x.example`), of AdBlock (`||x.example^`), of dnsmasq (`address=/x.example/`) or of a "
    "response policy zone (`x.example CNAME .`); comments begin with `#`, `!`, `;` or `//`"
)
_COMMENT = re.compile(r"(?:[#!;]|//|\[adblock).*", re.IGNORECASE)
# Without the look-behind, a run of spaces is read again from each of them.
_REST_COMMENT = re.compile(r"(?:(?<!\s)\s+(?:[!;#]|//)|(?<!/)#).*")
_COSMETIC = re.compile(r"[^\s#]+#[@?$%]*#")
# Bounded, since it is looked for from each line on.
_SOA = re.compile(
    r"^[^\n;#]{0,255}\sSOA\s[^()\n]{0,255}\([^)]{0,2000}\)", re.IGNORECASE | re.MULTILINE
)
_RECORD = r"(?:\d+[smhdw]?\s+)?(?:in\s+)?(?:\d+[smhdw]?\s+)?"
_HEADINGS = frozenset({"domain", "domains", "host", "hosts", "hostname", "name", "url", "urls"})
# Lines that hosts files have beside those that block.
_LOCAL_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost6",
        "localhost6.localdomain6",
        "local",
        "broadcasthost",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-localnet",
        "ip6-mcastprefix",
        "ip6-allnodes",
        "ip6-allrouters",
        "ip6-allhosts",
    }
)
# Options of AdBlock rules that do not exclude the request of an image.
_WIDE_OPTIONS = frozenset({"all", "image", "third-party", "3p", "important", "document", "doc"})
_SINKS = frozenset({"", "#", "0.0.0.0", "127.0.0.1", "::", "::1"})
_POLICIES = frozenset({".", "*.", "rpz-drop.", "rpz-tcp-only.", "localhost."})


def parse_block_list(content: bytes, place: str) -> frozenset[str]:
    """Return the domains of a block list, each as `canonical_host` writes it.

    Args:
        content: of the file.
        place: of the file, for errors.

    Raises:
        RecipeError: it names each line that has none of the valid forms.
    """
    domains: set[str] = set()
    named, wrong = list[Detail](), 0
    for number, line in _lines(content):
        try:
            domains.update(_domains(line))
        except ValueError as error:
            wrong += 1
            if len(named) < MAX_LINES_NAMED:
                where = f"{place}, line {number}"
                named.append(Detail(f"{line[:100]!r}: {_describe(error)}", where, line[:100]))
    if wrong:
        if more := wrong - len(named):
            named.append(Detail(f"and {more:,} more"))
        named[-1] = replace(named[-1], fix=f"Valid is, {VALID}. Mend these lines or remove them")
        what = f"ingest.blocked_domains: {wrong:,} lines would block nothing"
        raise RecipeError(*named, within=what)
    return frozenset(domains)


def _describe(error: ValueError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is no comment and no heading."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode(
        "utf-16" if wide else "utf-8-sig", "replace" if wide else "surrogateescape"
    )
    text = re.sub(r"\r\n?", "\n", text)
    # The head of a response policy zone may take several lines.
    text = _SOA.sub(lambda head: "\n" * head[0].count("\n"), text)
    first = True
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and not _COMMENT.fullmatch(line):
            if not (first and line.lower().strip("\"'") in _HEADINGS):
                yield number, line
            first = False


def _domains(line: str) -> list[str]:
    """Return the domains that a line blocks.

    Raises:
        ValueError: why it has none of the valid forms.
    """
    if len(line) > MAX_CHARACTERS:
        raise ValueError(f"it has more than {MAX_CHARACTERS:,} characters")
    if _COSMETIC.match(line):
        raise ValueError("a rule that hides parts of pages blocks no domain")
    line = _REST_COMMENT.sub("", line).lower()
    for pattern, read in _FORMS:
        if match := pattern.fullmatch(line):
            return read(match)
    address, *names = line.split()
    if names and _is_address(address):
        return _hosts_line(address, names)
    return [_domain(line)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address("0.0.0.0" if text == "0" else text)
    except ValueError:
        return False
    return True


def _hosts_line(address: str, names: list[str]) -> list[str]:
    blocked = [name for name in names if name not in _LOCAL_NAMES]
    parsed = ipaddress.ip_address("0.0.0.0" if address == "0" else address)
    if blocked and not (parsed.is_unspecified or parsed.is_loopback):
        raise ValueError(f"a hosts file blocks with 0.0.0.0, 127.0.0.1, :: or ::1, not {address}")
    return [_domain(name) for name in blocked]


def _adblock(match: re.Match[str]) -> list[str]:
    unknown = set((match["options"] or "all").split(",")) - _WIDE_OPTIONS
    if unknown:
        raise ValueError(f"the options {', '.join(sorted(unknown))} restrict the rule")
    return [_domain(match["domain"])]


def _dnsmasq(match: re.Match[str]) -> list[str]:
    target = match["target"].strip()
    if match["key"] != "address" and target not in _SINKS - {"#"}:
        raise ValueError("it forwards the domain to a server and does not block it")
    return [_domain(name) for name in match["domains"].split("/")]


def _policy(match: re.Match[str]) -> list[str]:
    name, target = match["name"].removesuffix("."), match["target"]
    if re.search(r"\.rpz-[a-z-]+$", name):
        raise ValueError("a trigger other than a domain is not supported")
    valid = _POLICIES if match["kind"] == "cname" else _SINKS - {"", "#"}
    if target not in valid:
        raise ValueError(f"the action {target} does not block")
    return [_domain(name)]


def _exception(match: re.Match[str]) -> list[str]:
    raise ValueError("an exception cannot be made; remove the domain that it excepts")


def _nothing(match: re.Match[str]) -> list[str]:
    return []


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], list[str]]], ...] = (
    (re.compile(r"@@.*"), _exception),
    (re.compile(r"\|{1,2}(?P<domain>[^|$]+?)\^?\|?(?:\$(?P<options>.*))?"), _adblock),
    (re.compile(r"(?P<domain>[^|$^/\s]+)\^(?:\$(?P<options>.*))?"), _adblock),
    (
        re.compile(r"(?P<key>address|server|local)\s*=\s*/(?P<domains>.+)/(?P<target>[^/]*)"),
        _dnsmasq,
    ),
    (re.compile(r"\$(?:ttl|origin)\s.*|(?:@\s+)?" + _RECORD + r"(?:soa|ns)\s.*"), _nothing),
    (
        re.compile(
            r"(?P<name>\S+)\s+" + _RECORD + r"(?P<kind>cname|a|aaaa)\s+(?P<target>\S+)",
        ),
        _policy,
    ),
)
"""Forms other than domains and hosts files, and what reads a line of each."""


def _domain(entry: str) -> str:
    """Return a domain that is written as a name, an address or a URL.

    Raises:
        ValueError: it has another form, or names a part of a host, which cannot be blocked alone.
    """
    entry = entry.strip().rstrip(",;").strip("\"'").strip()
    if re.search(r"[\s,;]", entry):
        raise ValueError("it has several words or columns")
    host, _, path = re.sub(r"^(?:[a-z][a-z0-9+.-]*|\*)?://", "", entry).partition("/")
    if path not in ("", "*") or re.search(r"[?#]", host):
        raise ValueError("it names a part of a host; use `blocked_patterns`, or name the host")
    if _is_address(host) and ":" in host:
        host = f"[{host}]"
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(?:[0-9]+|\*)?)?", host)
    if match is None:
        raise ValueError("it is no host")
    name = match[1].removeprefix("*").removeprefix(".") if match[1][:2] == "*." else match[1]
    name = name.removeprefix(".")
    if "*" in name or not name:
        raise ValueError("`*` is valid only at the beginning, as in `*.x.example`")
    return canonical_host(name)
