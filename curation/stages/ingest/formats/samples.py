"""Which members of a tar are one sample, and the row of a picture with the texts beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.media.files.limits import JSON_FILE_BYTES, METADATA_CHARACTERS, TEXT_FILE_BYTES
from curation.media.files.location import shown
from curation.stages.ingest.formats.mapped import set_metadata
from curation.stages.ingest.formats.source_row import SourceRow
from curation.stages.ingest.formats.values import (
    ALTERED,
    BadTextError,
    file_text,
    is_altered,
    parse_json,
    text,
)
from curation.stages.ingest.sources.folder_images import stem_of
from curation.stages.ingest.sources.notices import Notice

_SHOWN_PROBLEMS = 20
_PICTURE, _OTHER = 1, 2
_MAX_PARTS = 64
"""Parts of a name between dots at which a key may end."""
_ALWAYS_TEXT = ("txt", "json", "caption")


def max_bytes(ending: str) -> int:
    """Return the largest size of a text with some ending."""
    return JSON_FILE_BYTES if ending.rpartition(".")[2] == "json" else TEXT_FILE_BYTES


def sample_keys(names: Iterable[tuple[str, bool]], image: str | None = None) -> dict[str, str]:
    """Return the key of the sample that each member belongs to.

    As in WebDataset, a key ends at the first dot of the base name: `7.jpg`, `7.seg.png` and `7.json`
    are the sample `7`. But keys may have dots too, as `v1.0-a.jpg` and `v1.0-b.jpg`. Therefore a key is
    only what stands before a single ending somewhere in the tar, and a picture with a text whose name
    differs only in the last ending is a sample with it. What stands before `image` is a key, too.

    Args:
        names: the members, and whether each is a picture.
        image: what follows the key in the name of the picture that is taken, such as `left.png`.
    """
    kinds: dict[str, int] = {}
    names = list(names)
    for name, is_picture in names:
        stem = stem_of(name)
        kinds[stem] = kinds.get(stem, 0) | (_PICTURE if is_picture else _OTHER)
        if image is not None and name.lower().endswith(f".{image}"):
            kinds.setdefault(name[: -len(image) - 1], 0)
    return {name: _key(name, kinds) for name, _ in names}


def _key(name: str, kinds: Mapping[str, int]) -> str:
    stem = stem_of(name)
    if kinds[stem] == _PICTURE | _OTHER:
        return stem
    folder, slash, base = name.rpartition("/")
    parts = base.split(".")
    ends = range(1, min(len(parts), _MAX_PARTS))
    starts = (f"{folder}{slash}{'.'.join(parts[:i])}" for i in ends)
    return next((start for start in starts if start in kinds), stem)


def text_endings(names: Sequence[str], key: str, picture: str | None) -> dict[str, str]:
    """Return the ending of each text of a sample, in lower case.

    Many programs name a text after the whole name of its picture: `7.jpg.txt`. That is the text of the
    picture, unless there is a `7.txt`; then it has the ending `jpg.txt`.

    Args:
        names: the texts.
        key: of the sample, with which all names begin.
        picture: name of the picture that is taken.
    """
    endings = {name: name[len(key) + 1 :].lower() for name in names}
    shorter = {
        name: name[len(picture) + 1 :].lower()
        for name in names
        if picture is not None and name.startswith(f"{picture}.")
    }
    taken = set(endings.values())
    return endings | {name: ending for name, ending in shorter.items() if ending not in taken}


@dataclass
class Texts:
    """The texts of one sample.

    Attributes:
        texts: by ending.
        values: fields of its JSON object, and other JSON values by ending.
        unreadable: name and cause of each text that cannot be read.
        others: names of files that are no texts.
        characters: of all texts that were read.
    """

    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    characters: int = 0

    def add(self, name: str, ending: str, content: bytes | None) -> None:
        """Add a file; its content is None if it is larger than `max_bytes`."""
        try:
            self._read(ending, content)
        except ValueError as error:
            if ending.rpartition(".")[2] in _ALWAYS_TEXT:
                self.unreadable.append(f"{shown(name)}: {error}")
            else:
                self.others.append(shown(name))

    def _read(self, ending: str, content: bytes | None) -> None:
        if content is None:
            raise BadTextError(f"it is larger than {max_bytes(ending):,} bytes")
        if ending in self.texts:
            raise BadTextError("another text of the sample has this ending")
        decoded = file_text(content)
        self.characters += len(decoded)
        if self.characters > METADATA_CHARACTERS:
            raise BadTextError(
                f"the texts of the sample have more than {METADATA_CHARACTERS:,} characters"
            )
        if ending.rpartition(".")[2] != "json":
            if "\x00" in decoded:
                raise BadTextError("it holds NUL characters")
            # An editor ends the last line too. All else is as it was written.
            self.texts[ending] = decoded.rstrip("\r\n") if decoded.strip() else ""
            return
        value = parse_json(decoded)
        if isinstance(value, dict) and ending == "json":
            self.values = self.values | value
        else:
            self.values[ending] = value

    def row(self, columns: Mapping[Any, str], key: str) -> Iterator[SourceRow | Notice]:
        """Yield notices, and then the row with caption, key and metadata.

        Args:
            columns: those of the source.
            key: of the sample, where no field is mapped to it.
        """
        row = SourceRow(key=key, where=key)
        if "key" in columns:
            row.key = self._text(self.values.get(columns["key"]), columns["key"])
        name = columns.get("caption", "txt")
        if "caption" in columns:
            row.caption = self._text(self.values.get(name), name)
            if row.caption is not None:
                del self.values[name]
        if row.caption is None:
            row.caption = self.texts.pop(name, None) or None
        for ending in self.texts:
            yield Notice("unused_text", f"{key}.{ending}")
        for text_name in self.others:
            yield Notice("other_member", text_name)
        for problem in self.unreadable:
            yield Notice("unreadable_text", problem)
        row.unreadable = "; ".join(self.unreadable[:_SHOWN_PROBLEMS]) or None
        set_metadata(row, self.metadata())
        yield row

    def metadata(self) -> dict[str, Any]:
        """Return the texts and the values; a text with the ending of a value stands under `.ending`."""
        names = {ending: f".{ending}" if ending in self.values else ending for ending in self.texts}
        return {names[ending]: text for ending, text in self.texts.items()} | self.values

    def _text(self, value: Any, name: str) -> str | None:
        try:
            converted = text(value)
        except BadTextError as error:
            self.unreadable.append(f"{name}: {error}")
            return None
        if is_altered(value, converted):
            self.unreadable.append(f"{name}: {ALTERED}")
        return converted
