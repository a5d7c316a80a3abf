"""What a source holds besides its rows, counted by code: nothing is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from curation.terminal import one_line

Notices = dict[str, dict[str, Any]]
"""By code: `count`, and `example`, the name of the first."""

CODES: dict[str, str] = {
    "hidden_file": "files of the system or of the writer, as .DS_Store, ._a.jpg, _SUCCESS",
    "other_file": "files that are neither rows nor pictures, nor belong to a picture",
    "other_member": "members of a tar that are neither pictures nor texts",
    "other_picture": "further pictures of samples that hold several; `image` of the source chooses",
    "replaced_member": "members of a tar after which another of the same name follows, which counts",
    "unreadable_text": "captions and metadata that cannot be read; `metadata` of their rows says why",
    "unused_text": "texts beside a picture that are not its caption; they are in `metadata`",
    "column_of_bytes": "columns with bytes, which `metadata` cannot hold",
    "plain_quotes": "rows with quotes that were taken as characters; set `quoting` if they are not",
    "comment_line": "lines that begin with #",
    "empty_file": "files without a row",
    "directory": "folders in a tar",
    "special_file": "pipes, sockets, devices and links that lead nowhere",
    "link_to_folder": "links to folders; `follow_links` of the source enters them",
    "in_matched_folder": "files in folders that the glob of the source matches; `/**` after it takes "
    "them",
    "unreadable_folder": "folders that may not be listed, or lie too deep in others",
    "unreadable_file": "files that cannot be read, or not to their end; a bad row says why",
    "no_statuses": "shards of img2dataset without a Parquet: rows that failed are not known",
    "unlisted_picture": "pictures of shards of img2dataset that no row of the Parquet has",
    "stray_annotation": "annotations of pictures that the list does not name",
    "unread_rows": "rows of Parquet row groups that are damaged or too large; a bad row says why",
    "link_out_of_folder": "lists that are links to files outside the folder of the source; "
    "`follow_links: true` of the source reads them",
}
"""What each code counts."""


@dataclass(frozen=True)
class Notice:
    """One thing in a file that is no row, or several of a kind: readers yield it between their rows."""

    code: str
    example: str
    count: int = 1


def note(notices: Notices, notice: Notice) -> None:
    """Count a notice."""
    entry = notices.setdefault(notice.code, {"count": 0, "example": notice.example})
    entry["count"] += notice.count


def add_notices(total: Notices, more: Iterable[Mapping[str, Mapping[str, Any]]]) -> Notices:
    """Add counts to a total, and return it."""
    for notices in more:
        for code, entry in notices.items():
            known = total.setdefault(code, {"count": 0, "example": entry["example"]})
            known["count"] += entry["count"]
    return total


def describe(notices: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each code, the most common first."""
    ordered = sorted(notices.items(), key=lambda item: (-item[1]["count"], item[0]))
    return [
        f"{entry['count']:,} {code} (such as {one_line(entry['example'])}): {CODES[code]}"
        for code, entry in ordered
    ]
