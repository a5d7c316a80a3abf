"""The block `ingest` of a recipe, and its sources."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from curation.ingest.presets import PRESETS
from curation.strict import Name, Strict, execution_only, input_file

Role = Literal["pool", "seed", "held_out"]
READERS = ("parquet", "csv", "tsv", "jsonl", "txt", "wat", "folder", "webdataset")
"""Formats of files; those of `ingest/presets.py` are lists of the field written in one of them."""
FIXED = {"folder": ("caption", "key"), "webdataset": ("caption", "key"), "txt": (), "wat": ()}
"""Formats that say themselves where images are, and what may be mapped all the same."""
Mapped = Literal["url", "image", "path", "caption", "key", "sha256", "faces"]


class Source(Strict):
    """One list of pairs. `count` is what a plan reckons with; what is found is reported beside it."""

    name: Name
    role: Role
    format: str
    path: str
    columns: dict[Mapped, str] = {}
    count: int | None = execution_only(None, ge=1)

    @property
    def reader(self) -> str:
        """The format of the files."""
        return PRESETS[self.format].reader if self.format in PRESETS else self.format

    @property
    def mapped(self) -> dict[str, tuple[str, ...]]:
        """For what is mapped, the columns that may hold it; `columns` come before a preset's."""
        preset = PRESETS[self.format].columns if self.format in PRESETS else {}
        return dict(preset) | {name: (column,) for name, column in self.columns.items()}

    @property
    def asks_hosts(self) -> bool:
        """Whether its images are behind URLs alone."""
        if self.reader in FIXED:
            return self.reader in ("txt", "wat")
        return "url" in self.mapped and not {"image", "path"} & set(self.mapped)

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in READERS and name not in PRESETS:
            raise ValueError(
                f"unknown format {name!r}. Valid: {', '.join(READERS)}, or one of the lists "
                f"{', '.join(PRESETS)}"
            )
        return name

    @model_validator(mode="after")
    def _says_where_images_are(self) -> Source:
        if self.format in FIXED:
            if set(self.columns) - set(FIXED[self.format]):
                may = " and ".join(FIXED[self.format])
                raise ValueError(
                    f"a {self.format} source says itself where its images are; `columns` may map "
                    + (f"only {may}" if may else "nothing")
                )
        elif not {"url", "image", "path"} & set(self.mapped):
            raise ValueError(
                "`columns` must map at least one of url, image, path to a column of the file, "
                "as in columns: {url: URL, caption: TEXT}"
            )
        return self


class UrlParams(Strict):
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


class IngestParams(UrlParams):
    """What is asked for."""

    rows_per_fragment: int = execution_only(10_000, ge=1, le=1_000_000)
