"""One source of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import field_validator, model_validator

from curation.engine.params_base import Name, StrictModel, execution_only
from curation.errors import InvalidValueError, RecipeError, unknown
from curation.masking import has_secret, mask_address
from curation.media.web.params import is_web
from curation.stages.ingest.sources import FORMATS
from curation.stages.ingest.sources.presets import PRESETS

Role = Literal["pool", "seed", "held_out"]


Quoting = Literal["doubled", "backslash", "none"]
Mapped = Literal["url", "image", "path", "caption", "key", "sha256", "faces"]


class Source(StrictModel):
    """One list of image-text pairs, or one set of images."""

    name: Name
    """Name of the source, unique in the recipe."""
    role: Role
    """`pool` for uncurated pairs, `seed` for a curated set that retrieves from the pool, `held_out` for
    an evaluation set: the dataset has no copies of it."""
    format: str
    """Format of the files (as `parquet`, `webdataset` or `folder`), or a published list (as `laion` or
    `datacomp`), whose columns are known."""
    path: str
    """File, folder or glob, as a local path (relative to the working directory) or a URI."""
    columns: dict[Mapped, str] = {}
    """Column of the files by what it holds: `url`, `image` (encoded bytes), `path` (of an image file),
    `caption`, `key` (the source's own id), `sha256` (expected, of the image file) or `faces` (boxes);
    other columns become metadata."""
    quoting: Quoting | None = None
    """How a `csv` or `tsv` file writes a quote within a field: `doubled` (pandas, Excel, DuckDB),
    `backslash` (Spark, MySQL), or `none` (fields are not quoted; a quote is a character like others).
    By default the first megabytes of each file decide."""
    root: str | None = None
    """Folder of the image files that rows name, as a local path or a URI; their paths do not lead out
    of it. By default the folder of the source: of a `path` that is one file, the folder around it."""
    image: str | None = None
    """Which picture of a `webdataset` sample with several is taken: what follows the key in the name of
    the member, such as `png` or `left.png`. By default the first."""
    follow_links: bool = False
    """Whether links may lead out of a local folder, as in the cache of a model hub. Links to folders
    are then entered. Otherwise a list that is such a link is not read, nor a picture."""
    count: int | None = execution_only(None, ge=1)
    """Number of rows that plans and costs are computed with; a run warns if it reads another number."""

    @property
    def reader(self) -> str:
        """The format of the files."""
        return PRESETS[self.format].reader if self.format in PRESETS else self.format

    @property
    def version(self) -> list[int | str]:
        """The version of the format, and of the published list if `format` names one."""
        preset = [PRESETS[self.format].version] if self.format in PRESETS else []
        return [FORMATS[self.reader].version, *preset]

    @property
    def column_candidates(self) -> dict[str, tuple[str, ...]]:
        """For each mapped field, the columns that may hold it; `columns` override those of a preset."""
        known = PRESETS if self.format in PRESETS else FORMATS
        return dict(known[self.format].columns) | {
            name: (column,) for name, column in self.columns.items()
        }

    @property
    def is_web(self) -> bool:
        """Whether the source is a file at an http or https address."""
        return is_web(self.path)

    @property
    def address(self) -> str:
        """The path; of a source on the web without a fragment, which is not sent."""
        return self.path.partition("#")[0] if self.is_web else self.path

    @property
    def lists_images(self) -> bool:
        """Whether rows say where their images are; otherwise they can have imported vectors alone."""
        entry = FORMATS[self.reader]
        if entry.holds_images or entry.names_files or entry.remote_images:
            return True
        return bool({"url", "image", "path"} & set(self.column_candidates))

    @property
    def may_have_keys(self) -> bool:
        """Whether rows may have keys, as far as the recipe says."""
        optional = FORMATS[self.reader].optional_columns or ()
        return "key" in {*optional, *self.column_candidates}

    @property
    def may_have_captions(self) -> bool:
        """Whether rows may have captions, as far as the recipe says."""
        optional = FORMATS[self.reader].optional_columns or ()
        return self.reader == "wat" or "caption" in {*optional, *self.column_candidates}

    @property
    def has_remote_images(self) -> bool:
        """Whether all images of the source are behind URLs: those that a list on the web names are."""
        entry = FORMATS[self.reader]
        if entry.optional_columns is not None:
            return entry.remote_images
        fields = set(self.column_candidates)
        if self.is_web:
            return "image" not in fields
        return "url" in fields and not {"image", "path"} & fields

    @property
    def names_files(self) -> bool:
        """Whether rows may name image files."""
        named = "path" in self.column_candidates or FORMATS[self.reader].names_files
        return named and not self.is_web

    @field_validator("path", mode="before")
    @classmethod
    def _one_path(cls, path: Any) -> Any:
        if isinstance(path, list):
            raise ValueError("it is a list; write a glob, or one source for each file or folder")
        return path

    @field_validator("path", "root")
    @classmethod
    def _plain_path(cls, path: str | None) -> str | None:
        if path is not None:
            check_path(path)
        return path

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FORMATS and name not in PRESETS:
            raise InvalidValueError(unknown("format", name, [*FORMATS, *PRESETS]))
        return name

    @model_validator(mode="after")
    def _columns_fit_format(self) -> Source:
        optional = None if self.format in PRESETS else FORMATS[self.format].optional_columns
        if optional is not None and set(self.columns) - set(optional):
            valid = ", ".join(optional)
            raise ValueError(
                f"the format {self.format} defines where images are, so `columns` "
                + (f"may map only {valid}" if valid else "must be empty")
            )
        return self

    @model_validator(mode="after")
    def _settings_take_effect(self) -> Source:
        remote = "://" in self.path and not self.path.startswith(("file://", "local://"))
        effects = {
            "quoting": (self.reader in ("csv", "tsv"), "csv and tsv"),
            "image": (self.reader == "webdataset", "webdataset"),
            "root": (
                self.names_files and not FORMATS[self.reader].is_folder,
                "coco, huggingface and lists whose `columns` map path, unless they are on the web",
            ),
            "follow_links": (not remote, "local files"),
        }
        for name, (has_effect, where) in effects.items():
            if getattr(self, name) and not has_effect:
                raise ValueError(f"`{name}` has an effect only for {where}; remove it")
        if {"image", "path"} <= set(self.column_candidates):
            raise ValueError(
                "`columns` maps both image and path, so the files at `path` would never be read; "
                "remove one of the two"
            )
        return self


def check_path(path: str) -> None:
    """Check that a text can be the path of a source.

    Raises:
        ValueError: it is empty, no path of this system, or holds credentials.
    """
    if not path.strip():
        raise ValueError("the path is empty; set it to a file, a folder or a glob")
    if "\x00" in path:
        raise ValueError("a path cannot hold a NUL character")
    if "://" in path and has_secret(path) and not _is_signed(path):
        raise ValueError(
            f"{mask_address(path)} has credentials, which logs and tables would show. Set them in "
            "the environment, as the tools of the file system expect them. Only the query of an "
            "http(s) address may be signed"
        )


def _is_signed(path: str) -> bool:
    """Whether the credentials of an address are those of its query, and no other way gives them."""
    host = re.split(r"[/?#]", path.partition("://")[2], maxsplit=1)[0]
    return is_web(path) and "@" not in host


def signed_addresses(sources: Iterable[Source]) -> dict[str, str]:
    """Return the addresses of sources on the web that hold secrets, by their form without them.

    Raises:
        RecipeError: two files differ only in their secrets, so tables could not tell them apart.
    """
    signed: dict[str, str] = {}
    for address in (source.address for source in sources if source.is_web):
        masked = mask_address(address)
        if masked != address and signed.setdefault(masked, address) != address:
            raise RecipeError(
                f"Several sources have the address {masked} with different secrets. Tables "
                "hold no secrets, so they could not tell them apart",
                fix="Leave one out, or name a local copy",
            )
    return signed
