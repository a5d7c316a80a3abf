"""Runs the real stage on small sources, without Spark."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import StepResult, run_step
from curation.store.store import Store

Members = dict[str, bytes] | list[tuple[str, bytes]]
"""Names and contents in a tar, which may have a name twice."""


def source(path: Path | str, **spec: Any) -> dict[str, Any]:
    """A source of the pool, by default a Parquet list of URLs."""
    plain: dict[str, Any] = {"name": "web", "role": "pool", "format": "parquet", "path": str(path)}
    if spec.get("format") not in ("folder", "webdataset"):
        plain["columns"] = {"url": "url", "caption": "caption"}
    return plain | spec


def run(
    store: Path, *sources: dict[str, Any], until: str = "ingest", **blocks: Any
) -> dict[str, StepResult]:
    """Run the first stages of a recipe; return what each did."""
    recipe = parse_recipe({"name": "test", "sources": list(sources), **blocks})
    target = Store(store)
    return {s.name: run_step(s, target, InProcess()) for s in plan(recipe, until=until)}


def pairs(store: Path, *sources: dict[str, Any], **ingest: Any) -> list[dict[str, Any]]:
    """The rows of `pairs`."""
    run(store, *sources, ingest=ingest)
    rows: list[dict[str, Any]] = table(store, "pairs").read().to_pylist()
    return rows


def table(store: Path, name: str) -> Table:
    """A committed table."""
    return open_table(Store(store), name)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def jpeg(shade: int = 100, size: tuple[int, int] = (32, 24)) -> bytes:
    """A small plain JPEG."""
    out = io.BytesIO()
    Image.new("RGB", size, (shade * 40 % 256, shade * 9 % 256, 90)).save(out, "JPEG")
    return out.getvalue()


def tar_of(members: Members, mode: Literal["w", "w:gz"] = "w") -> bytes:
    """A tar with some members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write_tar(path: Path, members: Members) -> Path:
    """Write a tar with some members, compressed if its name says so."""
    path.write_bytes(tar_of(members, "w:gz" if path.suffix == ".gz" else "w"))
    return path


def noted(store: Path, name: str = "web") -> dict[str, int]:
    """How often each notice about a source was counted."""
    notices = table(store, "pairs").manifest.stats.get("notices", {}).get(name, {})
    return {code: entry["count"] for code, entry in notices.items()}
