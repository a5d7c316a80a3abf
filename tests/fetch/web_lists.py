"""Lists in every format, and servers that give them, whole or in parts."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fetch.conftest import Handler, answer
from tests.fetch.helpers import OPEN, encoded, picture
from tests.ingest.helpers import run, source, table, tar_of

JPEG = encoded(picture())
URLS = [f"http://127.0.0.1:9/{n}.jpg" for n in range(3)]


def ranged(body: bytes, status: str = "206 Partial Content", **headers: Any) -> Handler:
    """A page whose server gives parts."""

    async def page(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", head.get("range", ""))
        if asked is None:
            writer.write(answer(body, **headers))
            return
        start, end = int(asked[1]), min(int(asked[2]), len(body) - 1)
        if start >= len(body):
            writer.write(answer(status="416 Range Not Satisfiable", **headers))
            return
        given = f"bytes {start}-{end}/{len(body)}"
        writer.write(answer(body[start : end + 1], status, Content_Range=given, **headers))

    return page


def unsized(body: bytes) -> Handler:
    """A page without a length, whose server gives no parts."""

    async def page(head: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, length=None))

    return page


def of_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


LISTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "txt": ("\n".join(URLS).encode(), {"columns": {}}),
    "jsonl": ("".join(json.dumps({"url": u}) + "\n" for u in URLS).encode(), {}),
    "csv": (gzip.compress("\n".join(["url", *URLS]).encode()), {}),
    "parquet": (of_parquet([{"url": u, "caption": "c"} for u in URLS]), {}),
    "webdataset": (tar_of({f"{n}.jpg": JPEG for n in range(3)}), {}),
}
LIST = LISTS["txt"][0]


def listed(store: Path, address: str, kind: str = "txt", **fetch: Any) -> list[dict[str, Any]]:
    """The rows of `pairs` of one source."""
    columns = {"txt": {}, "webdataset": {}}.get(kind, {"url": "url"})
    spec = source(address, format=kind, columns=columns)
    run(store, spec, fetch=OPEN | fetch)
    rows: list[dict[str, Any]] = table(store, "pairs").read().to_pylist()
    return rows


def redirect(to: str, **headers: Any) -> bytes:
    return answer(status="302 Found", Location=to, **headers)
