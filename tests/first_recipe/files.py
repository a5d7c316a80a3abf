"""The same pictures in every form in which people have them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..e2e.small import encoded, picture

Pictures = Sequence[tuple[str, bytes, str]]
"""Name, encoded picture and caption."""


def pictures(count: int, first: int = 0, side: int = 96) -> Pictures:
    """Return pictures of a few families, with captions."""
    rng = np.random.default_rng(first)
    return [
        (f"n{n:03d}", encoded(picture(n % 6, rng, side)), f"a picture with number {n}")
        for n in range(first, first + count)
    ]


def folder(path: Path, files: Pictures) -> None:
    """Write pictures alone."""
    path.mkdir()
    for name, content, _ in files:
        (path / f"{name}.jpg").write_bytes(content)


def captioned_folder(path: Path, files: Pictures) -> None:
    """Write pictures with captions beside."""
    folder(path, files)
    for name, _, caption in files:
        (path / f"{name}.txt").write_text(caption)


def webdataset(path: Path, files: Pictures) -> None:
    """Write a folder with two tars."""
    path.mkdir()
    for shard in range(2):
        with tarfile.open(path / f"{shard:05d}.tar", "w") as tar:
            for name, content, caption in files[shard::2]:
                for ending, member in (("jpg", content), ("txt", caption.encode())):
                    info = tarfile.TarInfo(f"{name}.{ending}")
                    info.size = len(member)
                    tar.addfile(info, io.BytesIO(member))


def embedded(path: Path, files: Pictures) -> None:
    """Write Parquet with the pictures in a column of bytes."""
    path.mkdir()
    rows = [{"id": n, "jpg": content, "text": caption} for n, content, caption in files]
    pq.write_table(pa.Table.from_pylist(rows), path / "a.parquet")


def hub_parquet(path: Path, files: Pictures) -> None:
    """Write Parquet with the pictures as structs, as the `datasets` library does."""
    path.mkdir()
    rows = [{"image": {"bytes": b, "path": f"{n}.jpg"}, "caption": c} for n, b, c in files]
    pq.write_table(pa.Table.from_pylist(rows), path / "train-00000-of-00001.parquet")


def listed_paths(path: Path, files: Pictures) -> None:
    """Write a CSV with the paths of pictures beside it."""
    folder(path, files)
    with (path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "text"])
        writer.writerows([f"{n}.jpg", n[-1], caption] for n, _, caption in files)


LOCAL: dict[str, Callable[[Path, Pictures], None]] = {
    "folder": folder,
    "captioned": captioned_folder,
    "webdataset": webdataset,
    "embedded": embedded,
    "hub": hub_parquet,
}
"""Forms that hold the pictures themselves."""


def _rows(urls: Sequence[str]) -> list[dict[str, Any]]:
    return [{"uid": f"u{n}", "URL": url, "TEXT": f"picture, {n}"} for n, url in enumerate(urls)]


def csv_list(path: Path, urls: Sequence[str]) -> Path:
    """Write a CSV with a header."""
    with (path / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["uid", "URL", "TEXT"])
        writer.writeheader()
        writer.writerows(_rows(urls))
    return path / "list.csv"


def tsv_list(path: Path, urls: Sequence[str]) -> Path:
    """Write captions and URLs without a header, as Conceptual Captions has them."""
    (path / "cc.tsv").write_text("".join(f"{row['TEXT']}\t{row['URL']}\n" for row in _rows(urls)))
    return path / "cc.tsv"


def txt_list(path: Path, urls: Sequence[str]) -> Path:
    """Write one URL a line."""
    (path / "urls.txt").write_text("# a list\n" + "".join(f"{url}\n" for url in urls))
    return path / "urls.txt"


def jsonl_list(path: Path, urls: Sequence[str]) -> Path:
    """Write one object a line."""
    (path / "list.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in _rows(urls)))
    return path / "list.jsonl"


def parquet_list(path: Path, urls: Sequence[str]) -> Path:
    """Write Parquet without pictures."""
    pq.write_table(pa.Table.from_pylist(_rows(urls)), path / "list.parquet")
    return path / "list.parquet"


LISTS: dict[str, Callable[[Path, Sequence[str]], Path]] = {
    "csv": csv_list,
    "tsv": tsv_list,
    "txt": txt_list,
    "jsonl": jsonl_list,
    "parquet": parquet_list,
}
"""Forms that lead to pictures on the web."""
