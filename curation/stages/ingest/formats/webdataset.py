"""WebDataset tars: successive members with the same key are one sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from curation.errors import StoreError
from curation.media.files.tar import member_name, open_tar
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import as_json, text
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.source_file import SourceFile

_MAX_TEXT_BYTES = 64 * 1024
_MAX_JSON_BYTES = 1 << 20


@dataclass
class _Sample:
    key: str
    image: str | None = None
    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield one row per sample; for a damaged tar, the samples before the damage and one bad row.

    Raises:
        StoreError: the file is not a tar.
    """
    with file.open() as stream:
        try:
            tar = open_tar(stream, file.name)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise StoreError(
                f"Source {file.source.name!r}: {file.display_name} is not a tar ({error}). Replace the "
                "file, or remove it from the source, and run again."
            ) from error
        damage: list[str] = []
        for sample in _samples(tar, damage):
            yield _row(file, sample)
        for problem in damage:
            yield bad_row(f"{file.name} {problem}".encode())


def _samples(tar: tarfile.TarFile, damage: list[str]) -> Iterator[_Sample]:
    """Yield the samples; an error that ends the tar too early is appended to `damage`."""
    sample: _Sample | None = None
    try:
        for member in tar:
            key, extension = split_name(member_name(member))
            if not member.isreg() or not key:
                continue
            if sample is None or sample.key != key:
                if sample:
                    yield sample
                sample = _Sample(key)
            _add_member(sample, tar, member, extension)
        if not _is_complete(tar):
            damage.append("damaged")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        damage.append(type(error).__name__)
    if sample:
        yield sample


def split_name(name: str) -> tuple[str, str]:
    """Return key and extension, split at the first dot of the base name as WebDataset does."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if stem and dot else ("", "")


def _add_member(
    sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str
) -> None:
    if extension.rpartition(".")[2] in IMAGE_ENDINGS:
        sample.image = sample.image or member_name(member)
        return
    limit = _MAX_JSON_BYTES if extension == "json" else _MAX_TEXT_BYTES
    if member.size > limit:
        return
    stream = tar.extractfile(member)
    content = stream.read(limit) if stream else b""
    decoded = content.decode("utf-8-sig", "replace")
    if extension != "json":
        sample.texts[extension] = decoded.strip()
        return
    try:
        values = json.loads(decoded)
    except (ValueError, RecursionError):
        return
    if isinstance(values, dict):
        sample.values = values


def _is_complete(tar: tarfile.TarFile) -> bool:
    """Whether the last member is followed by zeros or the end of the file."""
    if not isinstance(tar.fileobj, io.BufferedReader):
        return True
    tar.fileobj.seek(tar.offset)
    return not tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\x00")


def _row(file: SourceFile, sample: _Sample) -> SourceRow:
    columns = file.source.columns
    caption_name = columns.get("caption", "txt")
    caption = sample.values.pop(caption_name, None) if "caption" in columns else None
    key = sample.values.get(columns["key"]) if "key" in columns else sample.key
    return SourceRow(
        key=text(key),
        caption=text(caption) or sample.texts.get(caption_name) or None,
        metadata=as_json(sample.values),
        member=sample.image,
        image_key=f"member:{file.name}#{sample.image or sample.key}",
    )
