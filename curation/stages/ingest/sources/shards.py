"""Which files of an output of img2dataset belong together: a shard's Parquet and its pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.folder_images import ending_of
from curation.stages.ingest.sources.source_file import FileInfo

_TABLE, _TAR = ".parquet", ".tar"
_TEXTS = ("txt", "json")


@dataclass
class Shards:
    """The shards of an output.

    Attributes:
        tables: the Parquet of each shard with its pictures: one tar, or files; or nothing.
        tars: tars without a Parquet beside them.
        pictures: files in folders without a Parquet beside them, if there are pictures among them.
        others: all other files.
    """

    tables: list[tuple[FileInfo, tuple[FileInfo, ...]]] = field(default_factory=list)
    tars: list[FileInfo] = field(default_factory=list)
    pictures: list[FileInfo] = field(default_factory=list)
    others: list[FileInfo] = field(default_factory=list)


def shards_of(files: Sequence[FileInfo], pattern: re.Pattern[str] | None = None) -> Shards:
    """Return the shards among the files of a folder.

    `00000.parquet` lists the rows of a shard. Its pictures are in `00000.tar`, in files of the folder
    `00000`, or in the Parquet itself.

    Args:
        files: all files of the folder.
        pattern: of the names of Parquet files and tars, if the source is a glob.
    """
    tables = {f.name.removesuffix(_TABLE): f for f in files if f.name.endswith(_TABLE)}
    beside: dict[str, list[FileInfo]] = {stem: [] for stem in tables}
    shards = Shards()
    rest: dict[str, list[FileInfo]] = {}
    for file in files:
        stem, folder = file.name.removesuffix(_TAR), file.name.rpartition("/")[0]
        if file.name.endswith(_TAR):
            beside.get(stem, shards.tars).append(file)
        elif folder in tables:
            _add_file(file, beside[folder], shards)
        elif not file.name.endswith(_TABLE):
            rest.setdefault(folder, []).append(file)
    for group in rest.values():
        has_picture = any(ending_of(file.name) in IMAGE_ENDINGS for file in group)
        (shards.pictures if has_picture else shards.others).extend(group)
    shards.tables = [(table, tuple(beside[stem])) for stem, table in tables.items()]
    return _matching(shards, pattern) if pattern else shards


def _add_file(file: FileInfo, pictures: list[FileInfo], shards: Shards) -> None:
    """Add a file of the folder of a shard; its texts say what the Parquet says."""
    ending = ending_of(file.name)
    if ending in IMAGE_ENDINGS:
        pictures.append(file)
    elif ending not in _TEXTS:
        shards.others.append(file)


def _matching(shards: Shards, pattern: re.Pattern[str]) -> Shards:
    """Return the shards with a Parquet, tar or picture that a glob names."""
    tables = [
        (table, beside)
        for table, beside in shards.tables
        if any(pattern.fullmatch(file.name) for file in (table, *beside))
    ]
    tars = [tar for tar in shards.tars if pattern.fullmatch(tar.name)]
    pictures = [file for file in shards.pictures if pattern.fullmatch(file.name)]
    return Shards(tables, tars, pictures)
