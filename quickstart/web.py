"""The mini-web during its construction: served files, rows of the pool and their truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from .pictures import Picture

HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))
SILENT_HOST = "127.0.0.9"
"""A loopback address without a server."""

TRUTH = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("photo", pa.string(), nullable=False),
        pa.field("copy_of", pa.string(), nullable=False),
        pa.field("edit", pa.string(), nullable=False),
        pa.field("hard", pa.bool_(), nullable=False),
        pa.field("phash_distance", pa.int16()),
        pa.field("expected_status", pa.string(), nullable=False),
        pa.field("expected_reason", pa.string(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Row:
    """One row of the pool with its truth.

    Attributes:
        uid: identifier of the row.
        url: of the image.
        text: its caption.
        kind: kind of the row, as `ok`, `exact_copy` or `dead_link`.
        photo: name of the photograph or kind of drawing, or class of the digit.
        copy_of: uid of the row, or path of the held-out image (`held_out/007.jpg`), that it copies.
        edit: name of the edit of a copy.
        hard: whether the edit is hard to find.
        phash_distance: distance of the perceptual hashes of copy and original, in bits.
        expected_status: ok, copy, leak, filtered, failed or refused.
        expected_reason: why.
        file: the served file of the row, relative to `www`.
    """

    uid: str
    url: str
    text: str
    kind: str = "ok"
    photo: str = ""
    copy_of: str = ""
    edit: str = ""
    hard: bool = False
    phash_distance: int | None = None
    expected_status: str = "ok"
    expected_reason: str = ""
    file: str = ""


class Web:
    """Collects rows, and writes the files that they link to."""

    def __init__(self, out: Path, port: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 2])
        self.out, self.port = out, port
        self.rows: list[Row] = []
        self._names: set[str] = set()

    def name(self) -> str:
        """Return a random name that is not used yet."""
        while (name := f"{int(self.rng.integers(2**40)):010x}") in self._names:
            pass
        self._names.add(name)
        return name

    def site(self) -> str:
        """Return scheme, host and port of a random site."""
        return f"http://{HOSTS[int(self.rng.integers(len(HOSTS)))]}:{self.port}"

    def write_file(self, data: bytes, extension: str) -> str:
        """Write a served file; return its path relative to `www`."""
        name = self.name()
        path = f"p/{name[:2]}/{name}{extension}"
        target = self.out / "www" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return path

    def add_row(self, url: str, text: str, **truth: object) -> Row:
        """Add a row with any URL."""
        row = Row(uid=self.name(), url=url, text=text, **truth)  # type: ignore[arg-type]
        self.rows.append(row)
        return row

    def add_file(self, data: bytes, extension: str, text: str, **truth: object) -> Row:
        """Add a row whose file one of the sites serves."""
        path = self.write_file(data, extension)
        return self.add_row(f"{self.site()}/{path}", text, file=path, **truth)

    def add_image(self, picture: Picture, **truth: object) -> Row:
        """Add a row for an image that is not edited."""
        return self.add_file(
            picture.data, picture.extension, picture.caption, photo=picture.photo, **truth
        )
