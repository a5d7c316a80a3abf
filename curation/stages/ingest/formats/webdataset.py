"""WebDataset tars: consecutive members with one key are a sample. Nothing is unpacked to disk."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from curation.errors import StoreError
from curation.media.files.tar import member_name, open_tar
from curation.stages.ingest.formats.source_row import Asked, bad_row
from curation.stages.ingest.formats.values import as_json, text
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.source_file import SourceFile

_MAX_TEXT = 64 * 1024
_MAX_JSON = 1 << 20
_READ_AHEAD = 1 << 20


@dataclass
class _Sample:
    key: str
    image: str | None = None
    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield a row a sample; where a tar breaks off, what stands before, and one bad row.

    Raises:
        StoreError: the file is no tar at all.
    """
    with given.open() as stream:
        try:
            tar = open_tar(stream, given.name)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise StoreError(
                f"Source {given.source.name!r}: {given.shown} is not a tar ({error}). Replace the "
                "file, or take it out of the source, and run again."
            ) from error
        broken: list[str] = []
        for sample in _samples(tar, broken):
            yield _asked(given, sample)
        for what in broken:
            yield bad_row(f"{given.name} {what}".encode())


def _samples(tar: tarfile.TarFile, broken: list[str]) -> Iterator[_Sample]:
    """Yield the samples; what ended the tar too early is put into `broken`."""
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
            _take(sample, tar, member, extension)
        if not _ends_well(tar):
            broken.append("damaged")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        broken.append(type(error).__name__)
    if sample:
        yield sample


def split_name(name: str) -> tuple[str, str]:
    """Return key and extension: the first dot of the base name parts them, as WebDataset does."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (f"{folder}{slash}{stem}", extension.lower()) if stem and dot else ("", "")


def _take(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> None:
    if extension.rpartition(".")[2] in IMAGE_ENDINGS:
        sample.image = sample.image or member_name(member)
        return
    limit = _MAX_JSON if extension == "json" else _MAX_TEXT
    if member.size > limit:
        return
    stream = tar.extractfile(member)
    content = stream.read(limit) if stream else b""
    decoded = content.decode("utf-8-sig", "replace")
    if extension != "json":
        sample.texts[extension] = decoded.strip()
        return
    try:
        found = json.loads(decoded)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        sample.values = found


def _ends_well(tar: tarfile.TarFile) -> bool:
    """Whether the tar ends with zeros or at the end of the file, not amid something else."""
    if not isinstance(tar.fileobj, io.BufferedReader):
        return True
    tar.fileobj.seek(tar.offset)
    return not tar.fileobj.read(tarfile.BLOCKSIZE).strip(b"\x00")


def _asked(given: SourceFile, sample: _Sample) -> Asked:
    columns = given.source.columns
    mapped = columns.get("caption", "txt")
    caption = sample.values.pop(mapped, None) if "caption" in columns else None
    key = sample.values.get(columns["key"]) if "key" in columns else sample.key
    return Asked(
        key=text(key),
        caption=text(caption) or sample.texts.get(mapped) or None,
        metadata=as_json(sample.values),
        member=sample.image,
        picture=f"member:{given.name}#{sample.image or sample.key}",
    )
