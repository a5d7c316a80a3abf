"""Files by which readers open the current version of a table, and their checksums.

`curation/engine/iceberg.py` writes them, and says what each is for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from curation.store.checksums import sha256_of
from curation.store.manifest import check_within
from curation.store.problem import Problem, unreadable
from curation.store.sealed_json import seal, unseal
from curation.store.storage.base import FileStatus
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FOLDER = "open"
HINT = "version-hint.text"
MARK = "-published.json"
"""Ending of the names of the marks of what is complete."""

_METADATA = re.compile(r"v(\d+)\.metadata\.json")


@dataclass(frozen=True)
class Published:
    """The version of a table that the folder of a recipe opens.

    Attributes:
        recipe: name of the recipe.
        table: name of the table.
        version: the version.
        sha256: checksums of the files that readers open, by name.
    """

    recipe: str
    table: str
    version: str
    sha256: Mapping[str, str]

    def to_json(self) -> bytes:
        """Return the content of a mark."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, content: bytes) -> Published:
        """Return what a mark says.

        Raises:
            ValueError: it is no mark, or not what was written.
        """
        spec: dict[str, Any] = unseal(content)
        try:
            mark = cls(**spec)
            texts = (mark.version, *mark.sha256.keys(), *mark.sha256.values())
        except (AttributeError, TypeError) as error:
            raise ValueError(f"it has other fields: {error}") from error
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its fields have other types")
        check_within(*mark.sha256)
        return mark


def metadata_numbers(names: Collection[str]) -> dict[int, str]:
    """Return the names of the files of metadata by the number of their version."""
    matches = ((_METADATA.fullmatch(name), name) for name in names)
    return {int(match[1]): name for match, name in matches if match}


def files_of(store: Store, folder: str) -> dict[str, FileStatus]:
    """Return the files in a folder of metadata, by name."""
    return {path.rsplit("/", 1)[-1]: s for path, s in store.storage.files(folder).items()}


def latest_mark(names: Collection[str]) -> str | None:
    """Return the name of the mark of the last version; None if that is not complete."""
    latest = max(metadata_numbers(names), default=0)
    marks = (name for name in names if name.startswith(f"{latest}-") and name.endswith(MARK))
    return next(marks, None)


def check_open_files(store: Store, tables: Collection[str] | None) -> Iterator[Problem]:
    """Yield what is wrong with the files by which readers open the current versions of tables.

    A version that is not complete is no problem: the next run completes it.

    Args:
        store: the store.
        tables: only these; None for all.
    """
    for recipe in store.storage.folders(FOLDER):
        for table in store.storage.folders(f"{FOLDER}/{recipe}"):
            if tables is None or table in tables:
                yield from _check_folder(store, f"{FOLDER}/{recipe}/{table}/metadata", table)


def _check_folder(store: Store, folder: str, table: str) -> Iterator[Problem]:
    mark = latest_mark(files_of(store, folder))
    problems = list(_problems(store, folder, table, mark)) if mark else []
    # A run beside may have published another version since.
    if mark == latest_mark(files_of(store, folder)):
        yield from problems


def _problems(store: Store, folder: str, table: str, mark: str) -> Iterator[Problem]:
    place = f"{folder}/{mark}"
    try:
        published = Published.from_json(store.storage.read(place) or b"")
    except (ValueError, OSError) as error:
        yield unreadable(store, place, error, table)
        return
    for name, sha256 in published.sha256.items():
        path = f"{folder}/{name}"
        try:
            actual = sha256_of(store.storage, path)
        except OSError as error:
            problem = unreadable(store, path, error, table)
            # Without its mark, the next run writes the folder anew.
            yield replace(problem, to_set_aside=(path, place) if problem.to_set_aside else ())
            continue
        if actual is None:
            yield Problem(path, "is missing", table, to_set_aside=(place,))
        elif actual != sha256:
            text = "has other bytes than were written (SHA-256)"
            yield Problem(path, text, table, to_set_aside=(path, place))
    hint = f"{folder}/{HINT}"
    if (store.storage.read(hint) or b"").decode("ascii", "replace") != mark.split("-", 1)[0]:
        text = "does not name the last version"
        yield Problem(hint, text, table, to_set_aside=(hint, place))
