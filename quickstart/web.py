"""The mini-web while it is being built: files to serve, rows of the pool, and their truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from quickstart.pictures import Picture

HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 9))
SILENT_HOST = "127.0.0.9"  # on loopback, but nobody listens there

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
    """One row of the pool with its hidden truth.

    `expected_status` is one of ok, copy, leak, filtered, failed, refused; `expected_reason` hints
    at why. `copy_of` is the uid of a pool row, or a path as `held_out/007.jpg`. `file` is the
    served file, relative to `www`, where the row has one of its own.
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
    """Collects rows and writes the files they point to."""

    def __init__(self, out: Path, port: int, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 2])
        self.out, self.port = out, port
        self.rows: list[Row] = []
        self._names: set[str] = set()

    def name(self) -> str:
        """A name not given before, which says nothing about what it names."""
        while (name := f"{int(self.rng.integers(2**40)):010x}") in self._names:
            pass
        self._names.add(name)
        return name

    def site(self) -> str:
        """Scheme, host and port of one of the eight sites."""
        return f"http://{HOSTS[int(self.rng.integers(len(HOSTS)))]}:{self.port}"

    def publish(self, data: bytes, extension: str) -> str:
        """Write a file to serve; returns its path relative to `www`."""
        name = self.name()
        path = f"p/{name[:2]}/{name}{extension}"
        target = self.out / "www" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return path

    def add(self, url: str, text: str, **truth: object) -> Row:
        """A row with a URL of the caller's making."""
        row = Row(uid=self.name(), url=url, text=text, **truth)  # type: ignore[arg-type]
        self.rows.append(row)
        return row

    def place(self, data: bytes, extension: str, text: str, **truth: object) -> Row:
        """A row whose file one of the sites serves."""
        path = self.publish(data, extension)
        return self.add(f"{self.site()}/{path}", text, file=path, **truth)

    def show(self, picture: Picture, **truth: object) -> Row:
        """A row for a picture as it is."""
        return self.place(
            picture.data, picture.extension, picture.caption, photo=picture.photo, **truth
        )
