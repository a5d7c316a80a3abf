"""A folder of image files. The caption of an image is in a text file of the same name."""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.files.location import OutsideFolderError
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.formats.values import as_json, clean
from curation.stages.ingest.sources.source_file import ImageFile, SourceFile

_MAX_CAPTION_BYTES = 64 * 1024


def read(file: SourceFile) -> Iterator[SourceRow]:
    """Yield one row per image; its key is its path within the folder, its metadata the subfolder."""
    for image in file.members:
        key = clean(image.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        parent = key.rpartition("/")[0]
        yield SourceRow(
            path=image.name,
            key=key,
            caption=_caption(file, image),
            metadata=as_json({"folder": parent}) if parent else None,
            image_key=f"path:{key}",
        )


def _caption(file: SourceFile, image: ImageFile) -> str | None:
    if image.text is None:
        return None
    try:
        file.location_of(image.text)
    except OutsideFolderError:
        return None
    with file.open(image.text) as stream:
        content = stream.read(_MAX_CAPTION_BYTES)
    return content.decode("utf-8-sig", "replace").strip() or None
