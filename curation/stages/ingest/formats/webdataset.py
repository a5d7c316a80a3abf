"""WebDataset tars: members with the same key are one sample, wherever they stand in the tar."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple

from curation.media.files.limits import MEMBER_TEXTS_BYTES
from curation.media.files.location import FileSystemError, shown
from curation.media.files.magic import HEAD_BYTES, is_picture
from curation.media.files.tar import (
    TAR_DAMAGE,
    Member,
    link_target,
    members,
    open_tar,
    what_follows,
)
from curation.media.files.temporary_files import on_temporary_disk
from curation.stages.ingest.formats.boundary import Item, items_or_reason, unreadable
from curation.stages.ingest.formats.samples import (
    Texts,
    max_bytes,
    sample_keys,
    text_endings,
)
from curation.stages.ingest.formats.source_row import SourceRow, bad_row
from curation.stages.ingest.formats.values import shortened
from curation.stages.ingest.sources import IMAGE_ENDINGS
from curation.stages.ingest.sources.folder_images import ending_of
from curation.stages.ingest.sources.notices import Notice, Notices, note
from curation.stages.ingest.sources.source_file import SourceFile

_SPOOL_BYTES = 16 << 20
"""Texts of a tar that are kept in memory; more are kept in a temporary file."""

_MAX_LINKS = 40
"""Links that are followed from one to the next, as in Linux."""


class _Text(NamedTuple):
    start: int
    size: int


@dataclass(slots=True)
class _Member:
    """A member that may belong to a sample.

    Attributes:
        place: where a location finds it; that of the target for a link.
        is_picture: whether it is a picture.
        text: where its content is in the spool; None for a picture, and for what is too large.
        link: name of the member that it links to.
    """

    place: str
    is_picture: bool = False
    text: _Text | None = None
    link: str | None = None


@dataclass
class _Scan:
    """What one pass over a tar finds: its members by name, notices, those refused, and damage.

    Texts are put aside, because captions may stand far from their pictures.
    """

    spool: IO[bytes]
    members: dict[str, _Member] = field(default_factory=dict)
    notices: Notices = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    damage: str | None = None

    def content(self, text: _Text | None) -> bytes | None:
        if text is None:
            return None
        with on_temporary_disk():
            self.spool.seek(text.start)
            return self.spool.read(text.size)


def read(file: SourceFile) -> Iterator[Item]:
    """Yield one row per sample; for a damaged tar, the samples before the damage and one bad row.

    A member that may not be read (see `media/files/limits.py`) is a bad row.

    Of members with one name the last counts, as when the tar is extracted.

    Raises:
        UnreadableError: the file is not a tar.
    """
    with file.open() as stream, SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        scan = _Scan(spool)
        try:
            tar = open_tar(stream)
        except FileSystemError:
            raise
        except TAR_DAMAGE as error:
            raise unreadable(file, f"is not a tar ({error})") from error
        try:
            _scan(tar, scan)
            scan.damage = what_follows(tar)
        except FileSystemError:
            raise
        except TAR_DAMAGE as error:
            scan.damage = f"{type(error).__name__}: {error}"
        for code, entry in scan.notices.items():
            yield Notice(code, entry["example"], entry["count"])
        for place, problem in scan.refused:
            content = f"{shown(file.name)} {place} {problem}".encode()
            yield bad_row(content, f"member {shortened(place)}", problem)
        yield from _samples(file, scan)
        if scan.damage:
            last = shortened(shown(next(reversed(scan.members), "its start")))
            yield Notice(
                "unreadable_file", f"{file.display_name} after {len(scan.members):,} members"
            )
            cause = f"the tar cannot be read further ({scan.damage})"
            yield bad_row(f"{shown(file.name)} {scan.damage}".encode(), f"after {last}", cause)


def _scan(tar: tarfile.TarFile, scan: _Scan) -> None:
    for member in members(tar):
        info = member.info
        if member.problem:
            scan.refused.append((shown(member.place), member.problem))
            continue
        name = posixpath.normpath(info.name)
        code = _left_out(name, info)
        if code:
            note(scan.notices, Notice(code, shown(info.name)))
            continue
        if name in scan.members:
            note(scan.notices, Notice("replaced_member", shown(name)))
            # The last one decides the order too.
            del scan.members[name]
        scan.members[name] = _member(tar, member, scan.spool)


def _left_out(name: str, info: tarfile.TarInfo) -> str | None:
    """Return the code of a member that cannot belong to a sample."""
    if info.isdir():
        return "directory"
    parts = name.split("/")
    is_hidden = any(p.startswith(".") and p != ".." for p in parts)
    if is_hidden or parts[0] == "__MACOSX" or parts[-1].lower() in ("thumbs.db", "desktop.ini"):
        return "hidden_file"
    return None if info.isreg() or info.issym() or info.islnk() else "special_file"


def _member(tar: tarfile.TarFile, member: Member, spool: IO[bytes]) -> _Member:
    place, info = member.place, member.info
    ending = ending_of(info.name)
    if not info.isreg():
        link = posixpath.normpath(link_target(info))
        return _Member(place, ending in IMAGE_ENDINGS, link=link)
    if ending in IMAGE_ENDINGS:
        return _Member(place, True)
    stream = tar.extractfile(info)
    is_text = info.size <= max_bytes(ending)
    content = stream.read(info.size if is_text else HEAD_BYTES) if stream else b""
    if is_picture(content[:HEAD_BYTES]):
        return _Member(place, True)
    if not is_text:
        return _Member(place)
    start = spool.tell()
    if start + len(content) > MEMBER_TEXTS_BYTES:
        raise tarfile.ReadError(f"its texts have more than {MEMBER_TEXTS_BYTES:,} bytes")
    with on_temporary_disk():
        spool.write(content)
    return _Member(place, text=_Text(start, len(content)))


def _samples(file: SourceFile, scan: _Scan) -> Iterator[Item]:
    members = ((name, member.is_picture) for name, member in scan.members.items())
    keys = sample_keys(members, _plain(file.source.image))
    samples: dict[str, list[str]] = {}
    for name, key in keys.items():
        samples.setdefault(key, []).append(name)
    for key, names in samples.items():
        content = f"{shown(file.name)} {shown(key)}".encode()
        yield from items_or_reason(_sample(file, scan, key, names), shown(key), content)


def _sample(file: SourceFile, scan: _Scan, key: str, names: list[str]) -> Iterator[Item]:
    texts, pictures, others = Texts(), list[str](), dict[str, _Member]()
    for name in names:
        member = _followed(scan.members, name)
        if member is None:
            texts.unreadable.append(f"{shown(name)}: a link to a file that is not in the tar")
        elif member.is_picture:
            pictures.append(name)
        else:
            others[name] = member
    chosen = _chosen(pictures, key, file.source.image)
    for name, ending in text_endings(list(others), key, chosen).items():
        texts.add(name, ending, scan.content(others[name].text))
    yield from (Notice("other_picture", shown(name)) for name in pictures if name != chosen)
    for item in texts.row(file.source.columns, shown(key)):
        if isinstance(item, SourceRow):
            member = _followed(scan.members, chosen) if chosen else None
            item.member = member.place if member else None
            item.image_key = f"member:{file.name}#{scan.members[chosen].place if chosen else key}"
        yield item


def _followed(members: Mapping[str, _Member], name: str) -> _Member | None:
    """Return a member, or the one that it links to; None for a link that leads nowhere."""
    for _ in range(_MAX_LINKS + 1):
        member = members.get(name)
        if member is None or member.link is None:
            return member
        name = member.link
    return None


def _plain(ending: str | None) -> str | None:
    return None if ending is None else ending.lower().lstrip(".")


def _chosen(pictures: list[str], key: str, wanted: str | None) -> str | None:
    """Return the picture of a sample: the wanted one, or the first.

    A picture with a part of the name between key and ending, as `7.seg.png`, comes after those without.
    """
    endings = {name: name[len(key) + 1 :].lower() for name in pictures}
    wanted = _plain(wanted)
    if wanted is not None:
        matching = [n for n, e in endings.items() if e == wanted or e.endswith(f".{wanted}")]
        return min(matching, key=lambda name: endings[name] != wanted, default=None)
    return min(pictures, key=lambda name: "." in endings[name], default=None)
