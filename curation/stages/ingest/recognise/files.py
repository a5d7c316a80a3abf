"""Recognises folders and tars of pictures, lists of one URL a line, and files of Common Crawl."""

from __future__ import annotations

from itertools import islice

from curation.errors import StoreError
from curation.media.files.tar import TAR_DAMAGE, members, open_tar
from curation.media.web.params import is_web
from curation.stages.ingest.recognise.place import LIST, PICTURES, Place, Recognised
from curation.stages.ingest.recognise.tables import Answer, head_lines
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.folder_images import ending_of

_MEMBERS = 200
"""Members of a tar that are looked at."""
_NO_URLS = (
    "the lines of the text files are not all URLs. A list of paths, or a table, needs a first line "
    "with the names of the columns, such as 'path', and the ending .csv or .tsv"
)


def folder(place: Place) -> Answer:
    """Recognise a folder of pictures by the names of its files."""
    pictures = place.named("folder")
    if not pictures:
        return None
    if len(place.files) == 1 and place.path.rpartition("/")[2] == pictures[0].name:
        return "it is one picture; name the folder"
    return Recognised({"format": "folder"}, PICTURES, len(pictures))


def webdataset(place: Place) -> Answer:
    """Recognise tars with pictures."""
    files = place.named("webdataset")
    if not files:
        return None
    first = place.first_file("webdataset")
    try:
        with first.open() as stream:
            names = [m.info.name for m in islice(members(open_tar(stream)), _MEMBERS)]
    except StoreError:
        raise
    except TAR_DAMAGE as error:
        return f"{first.display_name} is not a tar ({error})"
    if not any(ending_of(name) in IMAGE_ENDINGS for name in names):
        return f"{first.display_name} holds no pictures"
    return Recognised({"format": "webdataset"}, PICTURES, len(files))


def text(place: Place) -> Answer:
    """Recognise lists with one URL a line."""
    files = place.named("txt")
    if not files:
        return None
    read = (line.strip() for line, _ in head_lines(place.first_file("txt")))
    entries = [line.decode("utf-8", "replace") for line in read if line and line[:1] != b"#"]
    if not entries or not all(map(is_web, entries)):
        # Texts beside pictures are their captions.
        return _NO_URLS if len(files) == 1 else None
    return Recognised({"format": "txt"}, LIST, len(files))


def crawl(place: Place) -> Answer:
    """Recognise WAT files of Common Crawl by their names."""
    files = place.named("wat")
    return Recognised({"format": "wat"}, LIST, len(files)) if files else None
