"""Which URLs are requested, and how: parts of a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from curation.engine.params_base import StrictModel, execution_only, input_file
from curation.media.web.allow_list import parse_allow_list
from curation.media.web.patterns import check_patterns

OptOutSignal = Literal[
    "x_robots_tag",
    "tdmrep",
    "content_usage",
    "content_signal",
    "rsl",
    "data_mining",
    "data_mining_genai",
    "training_mining",
    "training_mining_genai",
]
OPT_OUT_SIGNALS: tuple[OptOutSignal, ...] = get_args(OptOutSignal)
"""Signals that `fetch.opt_out_signals` may name."""
MANIFEST_SIGNALS = frozenset(("training_mining", "training_mining_genai"))
"""Signals that need the library of C2PA, so that they are no default."""


def is_web(address: str) -> bool:
    """Whether an address is an http or https URL."""
    return address[:8].lower().startswith(("http://", "https://"))


class UrlParams(StrictModel):
    """Which URLs are requested."""

    blocked_domains: str | None = input_file(None)
    """Path of a block list: one domain per line, or lines of a hosts file, of AdBlock, of dnsmasq or of
    a response policy zone. URLs of these domains and of their subdomains are dropped; a line that would
    block nothing is refused."""
    blocked_patterns: list[str] = []
    """Regular expressions in the syntax of RE2 (no look-around, no back-references); a URL in which one
    of them is found is dropped."""
    max_url_length: int = Field(default=8192, ge=64)
    """Largest length of a URL in characters; a longer one is dropped as `bad_url`."""

    @field_validator("blocked_patterns")
    @classmethod
    def _are_patterns(cls, patterns: list[str]) -> list[str]:
        check_patterns(patterns)
        return patterns


class OutboundParams(StrictModel):
    """How strangers' servers are requested: one policy for images, and for sources on the web."""

    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Largest duration of one request in seconds, from the connection to the last byte, and of one
    look-up of a name; of a source, for each part of it that is requested."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    """Largest number of redirects that are followed for one row, or for a source."""
    allow_hosts: list[str] = []
    """Host names (`*.` before a name for its subdomains), IP addresses or networks (CIDR) that may be
    requested although they are private, and without `contact`: at all ports, or at that of the entry
    (`10.0.0.7:8080`)."""
    ports: list[Annotated[int, Field(ge=1, le=65_535)]] = []
    """Ports that may be requested at every public host, besides 80 and 443; a URL with another one
    fails as `blocked_port`."""
    robots: bool = True
    """Whether robots.txt (RFC 9309) of each host is read and followed."""
    robots_agents: list[str] = ["ccbot", "img2dataset"]
    """Names of other crawlers whose groups in robots.txt count too, where it has them; the strictest
    rule wins. Common Crawl asks users of its lists to keep the rules for `ccbot`."""
    opt_out_signals: list[OptOutSignal] = [
        signal for signal in OPT_OUT_SIGNALS if signal not in MANIFEST_SIGNALS
    ]
    """Machine-readable opt-outs for which an image is not stored: `x_robots_tag`, `tdmrep`,
    `content_usage`, `content_signal`, `rsl`, `data_mining` (IPTC and PLUS, in the picture) and
    `data_mining_genai` (its value for generative training alone); an empty list ignores them all.
    `training_mining` and `training_mining_genai` (manifests of C2PA, for training and for generative
    training alone) need the extra `c2pa`, and are no default."""
    opt_out: list[str] = ["noai", "noimageai", "noindex", "noimageindex"]
    """Directives of the header X-Robots-Tag that are opt-outs."""
    contact: str | None = execution_only(None, pattern=r"^[ -~]+$")
    """E-mail address or web page in the User-Agent header, by which hosts can reach you; without it
    only `allow_hosts` are requested."""
    user_agent: str = Field(default="curation/0.1", pattern=r"^[A-Za-z0-9_.-]+(/[ -~]*)?$")
    """Name of the crawler in the User-Agent header; robots.txt is read for the part before the `/`."""

    @field_validator("allow_hosts")
    @classmethod
    def _names_hosts(cls, entries: list[str]) -> list[str]:
        parse_allow_list(entries)
        return entries

    @field_validator("opt_out")
    @classmethod
    def _names_directives(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", entry):
                raise ValueError(
                    f"{entry!r} is no directive of X-Robots-Tag. Valid: one word in lower case in each "
                    "entry of the list, such as `noai`"
                )
        return entries

    @field_validator("robots_agents")
    @classmethod
    def _names_crawlers(cls, names: list[str]) -> list[str]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise ValueError(
                    f"{name!r} is no name of a crawler in robots.txt. Valid: letters, digits, `_`, `.` "
                    "and `-`, such as `CCBot`; `*` need not be named"
                )
        return sorted({name.lower() for name in names})

    @field_validator("opt_out_signals")
    @classmethod
    def _known_signals(cls, names: list[OptOutSignal]) -> list[OptOutSignal]:
        return [name for name in OPT_OUT_SIGNALS if name in names]

    @property
    def header(self) -> str:
        """The value of the User-Agent header."""
        return f"{self.user_agent} (+{self.contact})" if self.contact else self.user_agent


PUBLIC_WEB = OutboundParams()
"""The policy of a recipe that says nothing: nobody is requested, since there is no contact."""
