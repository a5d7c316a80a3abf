"""Licences of Really Simple Licensing (RSL 1.0): which parts of a site prohibit training."""

from __future__ import annotations

import re

from curation.media.web.opt_outs.path_rules import PathRule, RuleSet, pattern_of
from curation.media.web.untrusted_xml import local_name, read_xml

_SIGNAL = "rsl"
_PROHIBITING = frozenset(("all", "ai-all", "ai-train", "train-ai"))
"""Uses that training belongs to; `train-ai` is that of drafts."""
_WORDS = re.compile(r"[\s,;]+")
_MAX_TEXT = 1000


def read_rsl(content: bytes, place: str, host: str) -> RuleSet | None:
    """Return the rules of a licence file, or None if it has none. What is not valid is ignored.

    Args:
        content: the file, not trusted.
        place: its address.
        host: the host whose pages count, without a port.
    """
    reader = _LicenseReader(host)
    if not read_xml(content, reader):
        # What stands before the fault counts, also of an element that is not closed.
        reader.close_content()
    return RuleSet(_SIGNAL, place, "", tuple(reader.rules)) if reader.rules else None


class _LicenseReader:
    """Reads the elements `content` and the `prohibits` in them."""

    def __init__(self, host: str) -> None:
        self.rules: list[PathRule] = []
        self._host = host
        self._pattern: str | None = None
        self._forbids = False
        self._text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """See `XmlHandler.start`."""
        local = local_name(name)
        if local == "content":
            self.close_content()
            self._pattern = self._path(attributes.get("url", "/"))
        elif local == "prohibits" and attributes.get("type", "usage") == "usage":
            self._text = []

    def end(self, name: str) -> None:
        """See `XmlHandler.end`."""
        local = local_name(name)
        if local == "content":
            self.close_content()
        elif local == "prohibits" and self._text is not None:
            words = _WORDS.split("".join(self._text).lower())
            self._forbids = self._forbids or not _PROHIBITING.isdisjoint(words)
            self._text = None

    def close_content(self) -> None:
        """Keep the rule of an element `content`, also if it allows: it may be about a part."""
        if self._pattern is not None:
            state = "prohibits" if self._forbids else "does not prohibit"
            text = f'content url="{self._pattern}" {state} training'
            self.rules.append(PathRule(self._pattern, self._forbids, text))
        self._pattern, self._forbids, self._text = None, False, None

    def characters(self, text: str) -> None:
        """See `XmlHandler.characters`."""
        if self._text is not None and len(self._text) < _MAX_TEXT:
            self._text.append(text[:_MAX_TEXT])

    def _path(self, url: str) -> str | None:
        """Return the pattern of an address, or None if it is one of another host."""
        url = url.strip() or "/"
        _, scheme, rest = url.rpartition("://") if "://" in url else ("", "", url)
        if scheme:
            authority, _, path = rest.partition("/")
            host = authority.rpartition("@")[2].partition(":")[0].lower()
            is_all = host.startswith("*.") and f".{self._host}".endswith(host[1:])
            if host not in ("*", self._host) and not is_all:
                return None
            rest = f"/{path}"
        return pattern_of(rest if rest.startswith(("/", "*")) else f"/{rest}")
