"""Takes down, and looks for what is left without any code of the product."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq

from curation.runner.gc.forget import Forgotten, Request
from curation.runner.gc.forget import forget as take_down
from curation.store.store import Store

from ..e2e.small import write_rows

HOST = "https://pictures.example"


def with_urls(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give each row of the pool of a recipe a URL, one for each key."""
    path = folder / "pool" / "a.parquet"
    rows = pq.read_table(path).to_pylist()
    write_rows(path, [row | {"url": url_of(row["key"])} for row in rows])
    spec = copy.deepcopy(spec)
    spec["sources"][0]["columns"] = {**spec["sources"][0]["columns"], "url": "url"}
    return spec


def url_of(key: str) -> str:
    """The URL of a row."""
    return f"{HOST}/{key}/photo.jpg"


def forget(store: Path | Store, **named: Any) -> Forgotten:
    """Take something down."""
    opened = store if isinstance(store, Store) else Store(store)
    return take_down(opened, Request(by="the owner", reason="request 17", **named))


def holding(store: Path, texts: Iterable[str]) -> dict[str, list[str]]:
    """The files of a store in which one of some texts stands, decoded; names of files count too."""
    wanted = {str(text) for text in texts}
    assert wanted
    by_file = {}
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        text = "\n".join([str(path.relative_to(store)), _text_of(path)])
        here = [each for each in wanted if each in text]
        if here:
            by_file[str(path.relative_to(store))] = here
    return by_file


def _text_of(path: Path) -> str:
    if ".parquet" in path.name:
        table = pq.read_table(path, partitioning=None)
        values = [v for column in table.columns for v in column.to_pylist()]
        values += (table.schema.metadata or {}).values()
        values += [v.decode("utf-8", "replace") for v in (table.schema.metadata or {}).values()]
        return "\n".join(v.hex() if isinstance(v, bytes) else str(v) for v in values)
    if path.suffix == ".avro":
        with path.open("rb") as stream:
            return str(list(fastavro.reader(stream)))
    return path.read_bytes().decode("utf-8", "replace")
