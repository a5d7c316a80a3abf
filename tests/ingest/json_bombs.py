"""Small files that ask for much, in the formats that hold or need JSON, and shards beside tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ingest.bombs import MIB, Bomb, header, packed

END = b'{"id":1,"file_name":"a.jpg"}]}'
"""The last image of a list, and the end of the list."""


def _json(*blocks: bytes) -> Callable[[Path], None]:
    return lambda path: packed(blocks, path)


def _features(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        schema = pa.schema([("image", image)], metadata={"huggingface": content})
        rows = [{"image": {"bytes": b"a", "path": "a"}}]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)

    return write


def _shard(members: Callable[[], Iterable[bytes]]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        row = {"key": "n0", "status": "success", "url": "http://h.example/1"}
        pq.write_table(pa.Table.from_pylist([row]), path / "0.parquet")
        packed(members(), path / "0.tar")

    return write


def _categories(part: int) -> bytes:
    return b"".join(b',{"id":"%d-%d","name":"n"}' % (part, i) for i in range(10_000))


SLOW_JSON = (
    *("many categories", "many members beside a table", "a long item"),
    *("features of small objects", "many annotations of an image"),
)
"""What `make nightly` alone reads."""
JSON_BOMBS: dict[str, Bomb] = {
    "a long item": Bomb(
        "coco",
        _json(b'{"images":[{"x":"', *[b"a" * MIB] * 150, b'"},', END),
        "no JSON of at most",
        1,
    ),
    "items of small objects": Bomb(
        "coco", _json(b'{"images":[', *[b"[" + b"{}," * 340_000 + b"{}],"] * 9, END), "no object", 1
    ),
    "a deep item": Bomb(
        "coco", _json(b'{"images":[', b"[" * MIB, b"]" * MIB, b",", END), "nested too deep", 1
    ),
    "a long number": Bomb("coco", _json(b'{"images":[', *[b"1" * MIB] * 100), "no JSON of at most"),
    "a long key": Bomb("coco", _json(b'{"', *[b"a" * MIB] * 100), "a key cannot be read"),
    "many annotations of an image": Bomb(
        "coco",
        _json(
            b'{"annotations":[{}',
            *[(b',{"image_id":1,"x":"' + b"a" * 10_000 + b'"}') * 100] * 80,
            b'],"images":[',
            END,
        ),
        "annotations of more characters",
        1,
    ),
    "many categories": Bomb(
        "coco",
        _json(
            b'{"categories":[{}',
            *[_categories(part) for part in range(40)],
            b'],"images":[',
            END,
        ),
        "it has no id and name",
        1,
    ),
    "features of small objects": Bomb(
        "huggingface", _features(b'{"info":{"features":{"a":[' + b"{}," * MIB + b"{}]}}}"), "values"
    ),
    "deep features": Bomb(
        "huggingface", _features(b'{"info":{"features":{"a":' + b"[" * 200_000), "metadata `hugging"
    ),
    "many members beside a table": Bomb(
        "img2dataset",
        _shard(lambda: (header(f"n{i}.jpg", 0) for i in range(210_000))),
        "more than 200,000 members",
        1,
    ),
}
