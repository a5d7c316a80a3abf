"""The annotations of images by image, kept in a temporary file: they may stand anywhere in a list."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curation.media.files.temporary_files import on_temporary_disk

_CACHE_KIB = 16 << 10
_ID_CHARACTERS = 200
_LEFT_OUT = ("id", "image_id", "category_id", "segmentation")
"""Numbers that only this file gives a meaning, and outlines, which may take megabytes."""
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE annotations (image TEXT, category TEXT, content TEXT);
CREATE TABLE categories (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE images (id TEXT PRIMARY KEY, number INTEGER);
"""
_ADD_IMAGE = """
INSERT INTO images VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET number = number + 1
"""
_OF_IMAGE = """
SELECT content, name FROM annotations LEFT JOIN categories ON categories.id = category
WHERE image = ? ORDER BY annotations.rowid
"""


class Annotations:
    """Annotations and categories of one file; a context manager that removes them at its end."""

    def __enter__(self) -> Annotations:
        with on_temporary_disk():
            self._folder = TemporaryDirectory()
            self._database = sqlite3.connect(Path(self._folder.name, "annotations"))
            self._database.executescript(_TABLES)
        self._execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()
        self._folder.cleanup()

    def _execute(self, statement: str, values: tuple[str | None, ...] = ()) -> sqlite3.Cursor:
        with on_temporary_disk():
            return self._database.execute(statement, values)

    def add(self, annotation: Any) -> str | None:
        """Add an annotation, and return what is wrong with it."""
        if not isinstance(annotation, dict):
            return "it is no object"
        image = _identity(annotation.get("image_id"))
        if image is None:
            return "it has no image_id"
        content = {k: v for k, v in annotation.items() if k not in _LEFT_OUT}
        row = (image, _identity(annotation.get("category_id")), json.dumps(content))
        self._execute("INSERT INTO annotations VALUES (?, ?, ?)", row)
        return None

    def add_image(self, image: Any) -> None:
        """Note the id of an image of the list."""
        identity = _identity(image.get("id")) if isinstance(image, dict) else None
        if identity is not None:
            self._execute(_ADD_IMAGE, (identity,))

    def add_category(self, category: Any) -> str | None:
        """Add a category, and return what is wrong with it."""
        name = category.get("name") if isinstance(category, dict) else None
        identity = _identity(category.get("id")) if isinstance(category, dict) else None
        if identity is None or not isinstance(name, str):
            return "it has no id and name"
        row = (identity, json.dumps(name))
        self._execute("INSERT OR IGNORE INTO categories VALUES (?, ?)", row)
        return None

    def sort(self) -> None:
        """Make the annotations of an image quick to find, after all are added."""
        self._execute("CREATE INDEX by_image ON annotations (image)")

    def of(self, image_id: Any, characters: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return the annotations of an image with their categories, and why these are not all.

        Args:
            image_id: as the list has it.
            characters: of JSON that they may have together.
        """
        image = _identity(image_id)
        if image is None:
            return [], None
        query = "SELECT number FROM images WHERE id = ?"
        (number,) = self._execute(query, (image,)).fetchone() or (1,)
        if number > 1:
            return (
                [],
                f"{number:,} images have its id, so nothing says which annotations are its own",
            )
        annotations: list[dict[str, Any]] = []
        for content, category in self._execute(_OF_IMAGE, (image,)):
            characters -= len(content)
            if characters < 0:
                return (
                    annotations,
                    "annotations of more characters than metadata may have are left out",
                )
            annotation = json.loads(content)
            if category is not None:
                annotation["category"] = json.loads(category)
            annotations.append(annotation)
        return annotations, None

    def stray(self) -> int:
        """Return the number of annotations of images that the list does not have."""
        query = "SELECT count(*) FROM annotations WHERE image NOT IN (SELECT id FROM images)"
        count: int = self._execute(query).fetchone()[0]
        return count


def _identity(value: Any) -> str | None:
    """Return an id as text that tells numbers and texts apart; None if it can be none."""
    if isinstance(value, float) and value.is_integer():
        # pandas writes the whole numbers of a column with gaps so.
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = json.dumps(value)
    return text if len(text) <= _ID_CHARACTERS else None
