"""One source of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from curation.engine.params_base import Name, StrictModel, execution_only
from curation.stages.ingest.sources.presets import PRESETS

Role = Literal["pool", "seed", "held_out"]


READERS = ("parquet", "csv", "tsv", "jsonl", "txt", "wat", "folder", "webdataset")
"""Formats of files. Those of `presets.py` are published lists, written in one of these formats."""


FIXED = {"folder": ("caption", "key"), "webdataset": ("caption", "key"), "txt": (), "wat": ()}
"""Formats that say themselves where images are, and what may be mapped all the same."""


Mapped = Literal["url", "image", "path", "caption", "key", "sha256", "faces"]


class Source(StrictModel):
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
