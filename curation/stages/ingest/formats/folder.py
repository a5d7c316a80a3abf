"""A folder of image files. Caption and metadata of an image are in files of the same name."""

from __future__ import annotations

from collections.abc import Iterator

from curation.errors import StoreError
from curation.media.files.location import OutsideFolderError, is_of_file, shown
from curation.media.files.magic import HEAD_BYTES, is_picture
from curation.stages.ingest.formats.boundary import Item, items_or_reason
from curation.stages.ingest.formats.mapped import set_metadata
from curation.stages.ingest.formats.samples import Texts, max_bytes, text_endings
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.folder_images import ending_of, stem_of
from curation.stages.ingest.sources.notices import Notice
from curation.stages.ingest.sources.source_file import FileInfo, ImageFile, SourceFile


def read(file: SourceFile) -> Iterator[Item]:
    """Yield one row per image; its key is its path within the folder, its metadata the subfolder.

    Raises:
        StoreError: the file system failed.
    """
    for image in file.members:
        other = _why_no_image(file, image)
        if other is not None:
            yield Notice(other, shown(image.name))
            yield from (Notice("other_file", shown(sidecar.name)) for sidecar in image.sidecars)
            continue
        key = shown(image.name)
        yield from items_or_reason(_image(file, image, key), key, key.encode())


def _image(file: SourceFile, image: ImageFile, key: str) -> Iterator[Item]:
    texts = Texts()
    sidecars = {sidecar.name: sidecar for sidecar in image.sidecars}
    endings = text_endings(list(sidecars), stem_of(image.name), image.name)
    for name, ending in endings.items():
        _add(texts, file, sidecars[name], ending)
    for item in texts.row(file.source.columns, key):
        if isinstance(item, SourceRow):
            item.path, item.image_key = image.name, f"path:{image.name}"
            folder = key.rpartition("/")[0]
            values = ({"folder": folder} if folder else {}) | texts.metadata()
            set_metadata(item, values)
        yield item


def _why_no_image(file: SourceFile, image: ImageFile) -> str | None:
    """Return the code of a file that is no image; None for an image, whatever its name."""
    if ending_of(image.name) in IMAGE_ENDINGS:
        return None
    try:
        file.location_of(image.name)
        with file.open(image.name) as stream:
            return None if is_picture(bytes(stream.read(HEAD_BYTES))) else "other_file"
    except OutsideFolderError:
        # Its row says so.
        return None
    except StoreError as error:
        if not is_of_file(error.__cause__):
            raise
        return "unreadable_file"


def _add(texts: Texts, file: SourceFile, sidecar: FileInfo, ending: str) -> None:
    if sidecar.size > max_bytes(ending):
        texts.add(sidecar.name, ending, None)
        return
    try:
        file.location_of(sidecar.name)
        with file.open(sidecar.name) as stream:
            texts.add(sidecar.name, ending, bytes(stream.read(max_bytes(ending))))
    except OutsideFolderError:
        texts.unreadable.append(f"{shown(sidecar.name)}: a link leads out of the folder")
    except StoreError as error:
        if not is_of_file(error.__cause__):
            raise
        texts.unreadable.append(f"{shown(sidecar.name)}: {error}")
