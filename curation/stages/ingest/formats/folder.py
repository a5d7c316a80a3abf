"""A folder of image files, with a caption in a text file of the same name beside an image."""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.files.location import OutsideFolderError
from curation.stages.ingest.formats.source_row import Asked
from curation.stages.ingest.formats.values import as_json, clean
from curation.stages.ingest.sources.source_file import Member, SourceFile

_MAX_TEXT = 64 * 1024


def read(given: SourceFile) -> Iterator[Asked]:
    """Yield a row an image; its key is its path within the folder, its metadata the folder."""
    for member in given.members:
        key = clean(member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        parent = key.rpartition("/")[0]
        yield Asked(
            path=member.name,
            key=key,
            caption=_caption(given, member),
            metadata=as_json({"folder": parent}) if parent else None,
            picture=f"path:{key}",
        )


def _caption(given: SourceFile, member: Member) -> str | None:
    if member.text is None:
        return None
    try:
        given.place(member.text)
    except OutsideFolderError:
        return None
    with given.open(member.text) as stream:
        content = stream.read(_MAX_TEXT)
    return content.decode("utf-8-sig", "replace").strip() or None
