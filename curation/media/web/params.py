"""Which URLs are asked for: the part of a recipe."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from curation.engine.params_base import StrictModel, input_file


class UrlParams(StrictModel):
    """Which URLs are asked. Blocked domains include their subdomains; patterns are searched in URLs."""

    blocked_domains: str | None = input_file(None)
    blocked_patterns: list[str] = []
    max_url_length: int = Field(default=8192, ge=64)

    @field_validator("blocked_patterns")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns
