"""Which files of a folder belong together: an image, and its caption and metadata beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.source_file import FileInfo, ImageFile

_TEXT_ENDINGS = ("txt", "json", "caption")


def ending_of(name: str) -> str:
    """Return what follows the last dot of a file's name, in lower case."""
    base = name.rpartition("/")[2]
    return base.rpartition(".")[2].lower() if "." in base else ""


def images_of_folder(
    files: Sequence[FileInfo], pattern: re.Pattern[str] | None = None
) -> list[ImageFile]:
    """Return the images among the files of a folder by name, each with its sidecars.

    A sidecar has the name of an image and another ending, or one more: `7.txt` or `7.jpg.txt`. A file
    whose ending is not known may be an image too: the reader opens it, and notes it if it is not.

    Args:
        files: all files of the folder.
        pattern: of the names of images, if the source is a glob.
    """
    groups: dict[str, list[FileInfo]] = {}
    for file in files:
        groups.setdefault(stem_of(file.name), []).append(file)
    longer = {name: groups.pop(name) for name in list(groups) if _names_an_image(name, groups)}
    images = (image for group in groups.values() for image in _images(group, longer))
    chosen = (i for i in images if pattern is None or pattern.fullmatch(i.name))
    return sorted(chosen, key=lambda image: image.name)


def _names_an_image(stem: str, groups: Mapping[str, Sequence[FileInfo]]) -> bool:
    """Whether a stem is the whole name of an image, and only texts have it."""
    if ending_of(stem) not in IMAGE_ENDINGS:
        return False
    are_texts = all(ending_of(file.name) in _TEXT_ENDINGS for file in groups[stem])
    return are_texts and any(file.name == stem for file in groups.get(stem_of(stem), ()))


def _images(
    group: Sequence[FileInfo], longer: Mapping[str, Sequence[FileInfo]]
) -> Iterator[ImageFile]:
    """Yield the images of files that differ only in their endings.

    Args:
        group: the files.
        longer: texts by the whole name of an image.
    """
    images: Sequence[FileInfo] = [f for f in group if ending_of(f.name) in IMAGE_ENDINGS]
    images = images or [f for f in group if ending_of(f.name) not in _TEXT_ENDINGS] or group
    names = {f.name for f in images}
    sidecars = tuple(f for f in group if f.name not in names)
    for file in images:
        beside = (*sidecars, *longer.get(file.name, ()))
        yield ImageFile(file.name, file.size, file.mtime_ns, beside)


def stem_of(name: str) -> str:
    """Return a name without what follows the last dot of its base name."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.rpartition('.')[0] or base}"
