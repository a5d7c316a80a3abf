"""Which URLs are requested: the part of a recipe."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from curation.engine.params_base import StrictModel, input_file


class UrlParams(StrictModel):
    """Which URLs are requested."""

    blocked_domains: str | None = input_file(None)
    """Path of a block list: one domain per line, or lines of a hosts file, of AdBlock, of dnsmasq or of
    a response policy zone. URLs of these domains and of their subdomains are dropped; a line that would
    block nothing is refused."""
    blocked_patterns: list[str] = []
    """Regular expressions; a URL in which one of them is found is dropped."""
    max_url_length: int = Field(default=8192, ge=64)
    """Largest length of a URL in characters; a longer one is dropped as `bad_url`."""

    @field_validator("blocked_patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns
